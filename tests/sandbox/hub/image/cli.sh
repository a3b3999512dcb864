#!/bin/sh
# The client: docker, buildx, git.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

apt-get update -q
apt-get install -q -y --no-install-recommends git openssh-client openssl
apt-get clean
install -m 755 /run/image/programs/docker /run/image/docker-entrypoint.sh /usr/local/bin/
install -D -m 755 /run/image/programs/docker-buildx /usr/local/libexec/docker/cli-plugins/docker-buildx
mkdir -p /certs/client
chmod 1777 /certs /certs/client
docker --version
docker buildx version
