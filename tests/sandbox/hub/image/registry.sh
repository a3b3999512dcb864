#!/bin/sh
# The registry: one program, which serves what a mounted folder holds, or what it fetches from another registry.
set -eu

install -m 755 /run/image/programs/registry /usr/local/bin/
install -m 755 /run/image/registry-entrypoint.sh /entrypoint.sh
install -D -m 644 /run/image/registry.yml /etc/distribution/config.yml
mkdir -p /var/lib/registry
registry --version
