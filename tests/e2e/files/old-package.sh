#!/bin/bash
# Install a package of the distribution that every machine has as it might have been before a hole in it was closed.
set -euo pipefail
folder=$(mktemp -d)
install -d "$folder/DEBIAN"
cat >"$folder/DEBIAN/control" <<'CONTROL'
Package: debsums
Version: 0.1
Architecture: all
Maintainer: Tests <tests@example.com>
Description: an old version
CONTROL
dpkg-deb --build "$folder" "$folder.deb" >&2
dpkg --install "$folder.deb" >&2
