#!/bin/sh
# buildah, for builds in containers without privileges: everything in user namespaces of its own. Debian's package brings
# what it works with; the program itself is of the version that the image is named after.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

apt-get update -q
apt-get install -q -y --no-install-recommends buildah fuse-overlayfs uidmap netavark git
apt-get clean
install -m 755 /run/image/programs/buildah /usr/bin/
useradd --uid 1000 --shell /bin/bash --create-home build
printf 'root:1:65535\nbuild:1:999\nbuild:1001:64535\n' > /etc/subuid
cp /etc/subuid /etc/subgid
mkdir -p /var/lib/containers /home/build/.local/share/containers
chown -R build:build /home/build
cp /run/image/registries.conf /etc/containers/registries.conf
buildah --version
