#!/bin/bash
# Print a line for each file that a step of the stack has written on this machine: the step, the path, and how it differs
# from what was written (`ok` if it does not), separated by tabs. Reads only.
set -uo pipefail
for list in /var/lib/slipway/written/*.sha256; do
  [ -e "$list" ] || continue
  step=$(basename "$list" .sha256)
  while read -r sum path; do
    if [ ! -e "$path" ]; then
      how='is missing'
    elif [ "$(sha256sum <"$path" | cut -d' ' -f1)" != "$sum" ]; then
      how='was changed'
    else
      how='ok'
    fi
    printf '%s\t%s\t%s\n' "$step" "$path" "$how"
  done <"$list"
done
