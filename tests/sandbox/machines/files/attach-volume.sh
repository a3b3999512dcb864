#!/bin/sh
# Runs inside a machine: shows a block device under the name that the cloud gives it.
# Arguments: device name, major, minor, volume name.
set -eu
rm -f "/dev/$1"
mknod -m 660 "/dev/$1" b "$2" "$3"
chgrp disk "/dev/$1"
mkdir -p /dev/disk/by-id
ln -sfn "../../$1" "/dev/disk/by-id/scsi-0DO_Volume_$4"
