#!/bin/bash
# Print the files that everybody can read and that contain what is on standard input. One is planted, to prove that the
# search finds something. What is looked for is in a file that only root can read, and in no command line.
set -euo pipefail
planted=$1
pattern=$(mktemp --tmpdir=/root)
cat >"$pattern"
cp "$pattern" "$planted"
chmod 644 "$planted"
find /etc /opt /var /tmp /root /home /srv /usr/local -xdev -type f -perm /o+r -exec grep -lsF -f "$pattern" {} + || true
find /mnt/gitlab -type f -perm /o+r -exec grep -lsF -f "$pattern" {} + || true
rm "$pattern" "$planted"
