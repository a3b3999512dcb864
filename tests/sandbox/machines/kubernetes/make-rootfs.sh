#!/bin/sh
# Makes the root filesystem of a Kubernetes machine from that of a plain machine, and packs it.
#
#   make-rootfs.sh BASE-TAR ARCHIVE PROGRAMS-DIRECTORY IMAGES-DIRECTORY WORK-DIRECTORY TAR-FILE
#
# Runs in a mount and process namespace of its own, so that nothing stays mounted when it is stopped half-way.
set -eu

base=$1 archive=$2 programs=$3 images=$4 work=$5 tar=$6
here=$(cd "$(dirname "$0")" && pwd)
root=$work/root

mkdir -p "$root"
tar --numeric-owner --xattrs --xattrs-include=security.capability -C "$root" -xf "$base"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/image/sources"
# The machine's own sources are those of the sandbox; the build takes the packages from where the host takes its own.
mv "$root/etc/apt/sources.list.d" "$root/run/image/kept"
echo "deb $archive trixie main" > "$root/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(http|https)::' > "$root/etc/apt/apt.conf.d/99build" || true
if cp /etc/ssl/certs/ca-certificates.crt "$root/run/image/"; then
    echo 'Acquire::https::CaInfo "/run/image/ca-certificates.crt";' >> "$root/etc/apt/apt.conf.d/99build"
fi
grep -v '^#' "$here/packages.txt" > "$root/run/image/packages.txt"

cat > "$root/run/image/setup.sh" <<'EOF'
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# Nothing may start while packages are unpacked.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
# shellcheck disable=SC2046  # one word a package is meant
apt-get install -q -y --no-install-recommends $(cat /run/image/packages.txt)
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d /var/log/apt/* /var/cache/debconf/*-old
# What runs is up to the role of the machine, which its first boot brings.
systemctl disable containerd.service etcd.service nftables.service
# Nobody signs in on the machines of a managed service.
systemctl mask ssh.service ssh.socket
EOF
chroot "$root" /bin/sh /run/image/setup.sh

rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/apt.conf.d/99build" "$root/etc/apt/sources.list.d"
mv "$root/run/image/kept" "$root/etc/apt/sources.list.d"
install -m 755 "$programs"/* "$root/usr/local/bin/"
install -d "$root/usr/local/share/kubernetes"
install -m 644 "$images"/*.tar "$root/usr/local/share/kubernetes/"
cp -R "$here/rootfs/." "$root/"
rm -f "$root/etc/resolv.conf"
umount "$root/run" "$root/sys" "$root/proc"
tar --numeric-owner --xattrs --xattrs-include=security.capability -C "$root" -cf "$tar" .
