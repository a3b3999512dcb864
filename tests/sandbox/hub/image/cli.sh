#!/bin/sh
# The client: docker, buildx, git.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

apt-get update -q
apt-get install -q -y --no-install-recommends docker-cli docker-buildx git openssh-client openssl
apt-get clean
install -m 755 /run/image/docker-entrypoint.sh /usr/local/bin/
mkdir -p /certs/client
chmod 1777 /certs /certs/client
