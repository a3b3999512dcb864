#!/bin/sh
# Makes the file trees of all images, each as what it adds to the one below it.
#
#   make-images.sh ARCHIVE SECURITY-ARCHIVE NODEJS PROGRAMS WORK-DIRECTORY
#
# NODEJS is a folder with bin/ and lib/, PROGRAMS one with docker, docker-buildx, dockerd, docker-proxy, buildah, registry
# and kamal-proxy. Leaves WORK-DIRECTORY/layers/{base,cli,dind,node,buildah,registry,kamal-proxy}. Runs in a mount and
# process namespace of its own, so that nothing
# stays mounted when it is stopped half-way.
set -eu

archive=$1 security=$2 nodejs=$3 programs=$4 work=$5
here=$(cd "$(dirname "$0")" && pwd)
suite=trixie
layers=$work/layers
root=$work/root
mkdir -p "$layers" "$root"

debootstrap --variant=minbase --include=ca-certificates "$suite" "$layers/base" "$archive"
chmod 755 "$layers/base"
cat > "$layers/base/etc/apt/sources.list" <<EOF
deb $archive $suite main
deb $archive $suite-updates main
deb $security $suite-security main
EOF
# How the host reaches the archive (proxy, trust) holds for the build, not for the images.
apt-config dump | grep -E '^Acquire::(http|https)::' > "$work/99build" || true
echo 'Acquire::https::CaInfo "/run/image/ca-certificates.crt";' >> "$work/99build"

# Run a script of this folder on top of what is there; what it changes is a layer.
layer() {
    name=$1 below=$2
    mkdir -p "$layers/$name" "$work/work-$name"
    mount -t overlay -o "lowerdir=$below,upperdir=$layers/$name,workdir=$work/work-$name" overlay "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs tmpfs "$root/run"
    mkdir -p "$root/run/image/nodejs" "$root/run/image/programs"
    cp "$here/files/"* "$here/$name.sh" /etc/ssl/certs/ca-certificates.crt "$root/run/image/"
    mount --bind "$nodejs" "$root/run/image/nodejs"
    mount --bind "$programs" "$root/run/image/programs"
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    cp "$work/99build" "$root/etc/apt/apt.conf.d/99build"
    chroot "$root" /bin/sh "/run/image/$name.sh"
    rm -rf "$root/etc/apt/apt.conf.d/99build" "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin \
        "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/var/cache/debconf/*-old
    umount "$root/etc/resolv.conf" "$root/run/image/nodejs" "$root/run/image/programs" "$root/run" "$root/sys" "$root/proc" "$root"
}

layer cli "$layers/base"
layer dind "$layers/cli:$layers/base"
layer node "$layers/base"
layer buildah "$layers/base"
layer registry "$layers/base"
layer kamal-proxy "$layers/base"

# Small: what an image of a service has no use for.
for name in base cli dind node buildah registry kamal-proxy; do
    for unused in usr/share/doc usr/share/man usr/share/locale usr/share/info var/cache/apt/archives; do
        rm -rf "${layers:?}/$name/$unused"
    done
done
rm -f "$layers/base/etc/apt/sources.list" "$layers/base/etc/resolv.conf" "$layers/base/etc/hostname"
rm -rf "$layers"/base/var/lib/apt/lists/* "$layers"/base/var/cache/apt/*.bin "$layers"/base/var/log/*.log
find "$layers/base/dev" -mindepth 1 -delete
