#!/bin/sh
# The engine, on top of the client.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get update -q
apt-get install -q -y --no-install-recommends docker.io iptables iproute2 e2fsprogs xz-utils pigz
apt-get clean
rm /usr/sbin/policy-rc.d
install -m 755 /run/image/dockerd-entrypoint.sh /usr/local/bin/
mkdir -p /var/lib/docker
