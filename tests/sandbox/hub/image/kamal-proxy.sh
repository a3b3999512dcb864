#!/bin/sh
# The proxy, and the user that its own image has.
set -eu

install -m 755 /run/image/programs/kamal-proxy /usr/local/bin/
useradd --shell /usr/sbin/nologin kamal-proxy
install -d -o kamal-proxy -g kamal-proxy /home/kamal-proxy /home/kamal-proxy/.config /home/kamal-proxy/.config/kamal-proxy
kamal-proxy --help >/dev/null
