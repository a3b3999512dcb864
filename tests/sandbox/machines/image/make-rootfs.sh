#!/bin/sh
# Makes the root filesystem of a machine and packs it.
#
#   make-rootfs.sh SUITE ARCHIVE SECURITY-ARCHIVE SOURCES-FILE WORK-DIRECTORY TAR-FILE
#
# Runs in a mount and process namespace of its own, so that nothing stays mounted when it is stopped half-way.
set -eu

suite=$1 archive=$2 security=$3 sources=$4 work=$5 tar=$6
here=$(cd "$(dirname "$0")" && pwd)
root=$work/root

mkdir -p "$root"
debootstrap --variant=minbase "$suite" "$root" "$archive"
# A root directory that others cannot enter breaks apt's own user and every service without root rights.
chmod 755 "$root"

cp /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/image"
cp "$here/packages.txt" "$here/setup.sh" "$root/run/image/"
cat > "$root/etc/apt/sources.list" <<EOF
deb $archive $suite main
deb $archive $suite-updates main
deb $security $suite-security main
EOF
# How the host reaches the archive (proxy, trust) holds for the build, not for the image.
apt-config dump | grep -E '^Acquire::(http|https)::' > "$root/etc/apt/apt.conf.d/99build" || true
if cp /etc/ssl/certs/ca-certificates.crt "$root/run/image/"; then
    echo 'Acquire::https::CaInfo "/run/image/ca-certificates.crt";' >> "$root/etc/apt/apt.conf.d/99build"
fi

chroot "$root" /bin/sh /run/image/setup.sh

rm -f "$root/etc/apt/sources.list" "$root/etc/apt/apt.conf.d/99build"
cp -R "$here/rootfs/." "$root/"
install -D -m 644 "$sources" "$root/etc/apt/sources.list.d/debian.sources"
rm -f "$root/etc/resolv.conf"
umount "$root/run" "$root/sys" "$root/proc"
tar --numeric-owner --xattrs --xattrs-include=security.capability -C "$root" -cf "$tar" .
