#!/bin/bash
# Print a line for each disk of this machine: where it is mounted, its bytes, and those in use, separated by spaces. The
# data volume of the server is named even if it is not mounted: then the line has no numbers. Reads only.
set -uo pipefail
disks=(/)
[ ! -d /etc/gitlab ] || disks+=(/mnt/gitlab)
for disk in "${disks[@]}"; do
  if [ "$disk" = / ] || mountpoint --quiet "$disk"; then
    df --output=size,used --block-size=1 "$disk" | tail -n 1 | while read -r size used; do
      printf '%s %s %s\n' "$disk" "$size" "$used"
    done
  else
    printf '%s\n' "$disk"
  fi
done
