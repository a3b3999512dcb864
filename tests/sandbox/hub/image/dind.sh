#!/bin/sh
# The engine, on top of the client. What runs containers for it is Debian's.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -q -y --no-install-recommends containerd runc tini iptables iproute2 e2fsprogs xz-utils pigz kmod
apt-get clean
rm /usr/sbin/policy-rc.d
install -m 755 /run/image/programs/dockerd /run/image/programs/docker-proxy /run/image/dockerd-entrypoint.sh /usr/local/bin/
ln -s /usr/bin/tini-static /usr/local/bin/docker-init
# Debian's runc knows no time namespaces.
install -D -m 644 /run/image/daemon.json /etc/docker/daemon.json
mkdir -p /var/lib/docker
dockerd --version
