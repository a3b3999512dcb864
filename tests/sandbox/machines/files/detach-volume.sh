#!/bin/sh
# Runs inside a machine: takes a block device away, mounted or not.
# Arguments: device name, major, minor, volume name.
set -eu
awk -v device="$2:$3" '$3 == device {print $5}' /proc/self/mountinfo | tac | while read -r target; do
    umount --lazy "$(printf '%b' "$target")"
done
rm -f "/dev/disk/by-id/scsi-0DO_Volume_$4" "/dev/$1"
sync
