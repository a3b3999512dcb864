#!/bin/sh
# Makes one layer on top of the images' base: what a script installs in a root of its own.
#
#   make-layer.sh ARCHIVE SECURITY-ARCHIVE BASE-LAYER SCRIPT WORK-DIRECTORY
#
# Leaves WORK-DIRECTORY/layer. Runs in a mount and process namespace of its own.
set -eu

archive=$1 security=$2 base=$3 script=$4 work=$5
suite=trixie root=$work/root
mkdir -p "$work/base" "$work/layer" "$work/overlay" "$root"
tar -C "$work/base" -xzf "$base"
mount -t overlay -o "lowerdir=$work/base,upperdir=$work/layer,workdir=$work/overlay" overlay "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/image" "$root/dev"
[ -e "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
cp "$script" "$root/run/image/install.sh"
cp /etc/ssl/certs/ca-certificates.crt "$root/run/image/"
cat >"$root/etc/apt/sources.list" <<END
deb $archive $suite main
deb $archive $suite-updates main
deb $security $suite-security main
END
# How the host reaches the archive (proxy, trust) holds for the build, not for the images.
{
    apt-config dump | grep -E '^Acquire::(http|https)::' || true
    echo 'Acquire::https::CaInfo "/run/image/ca-certificates.crt";'
} >"$root/etc/apt/apt.conf.d/99build"
cp /etc/resolv.conf "$root/etc/resolv.conf"
chroot "$root" /bin/sh /run/image/install.sh
rm -rf "$root/etc/apt/apt.conf.d/99build" "$root/etc/apt/sources.list" "$root/etc/resolv.conf" "$root/dev/null" \
    "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/var/log/*.log \
    "$root"/var/log/apt/* "$root"/var/cache/debconf/*-old
for unused in usr/share/doc usr/share/man usr/share/locale; do
    rm -rf "${root:?}/$unused"
done
umount "$root/run" "$root/proc" "$root"
