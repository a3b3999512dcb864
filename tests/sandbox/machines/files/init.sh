#!/bin/sh
# First process of a machine: makes a container look like a server, waits for its network, becomes the init system.
set -eu

# Docker mounts these three over the machine's own files; a server has plain ones that can be replaced.
for file in /etc/hostname /etc/hosts /etc/resolv.conf; do
    content=$(cat "$file")
    umount "$file"
    # The first boot brings the content; later boots keep what the machine made of it.
    if [ ! -s "$file" ] || [ ! -e /var/lib/machine-booted ]; then
        rm -f "$file"
        printf '%s\n' "$content" > "$file"
    fi
done
: > /var/lib/machine-booted

# Kernel settings are the host's. Those of the network are per machine; of all others a machine has a copy, which it may
# change to no effect. The name and random numbers stay the kernel's.
for folder in kernel vm fs dev; do
    mkdir -p "/run/sys/$folder"
    cp -r -x "/proc/sys/$folder/." "/run/sys/$folder" 2>/dev/null || true
done
for own in hostname domainname random; do
    mount --bind "/proc/sys/kernel/$own" "/run/sys/kernel/$own"
done
for folder in kernel vm fs dev; do
    mount --rbind "/run/sys/$folder" "/proc/sys/$folder"
done

# A boot has a name of its own, which the journal and everything that waits for a reboot go by.
cat /proc/sys/kernel/random/uuid > /run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id

# "bind" matters: without it the remount silently does nothing.
for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
    mount -o remount,bind,rw "$folder"
done
mount --make-rshared /

# Links and volumes come from outside; the default route is the last of it.
until [ -n "$(ip -4 route show default)" ]; do
    sleep 0.02
done

# Older versions of systemd leave out disks in /etc/fstab where there is no udev, and cannot be told otherwise.
if ! grep -q SYSTEMD_SYSFS_CHECK /lib/systemd/system-generators/systemd-fstab-generator; then
    mount --all || true
fi

exec /sbin/init
