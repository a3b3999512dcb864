#!/bin/sh
# Node.js with npm, and the user that official images have.
set -eu

cp -a /run/image/nodejs/bin /run/image/nodejs/lib /usr/local/
rm -f /usr/local/bin/corepack /usr/local/bin/npm /usr/local/bin/npx
ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
ln -s node /usr/local/bin/nodejs
chmod 755 /usr/local/bin/node /usr/local/lib/node_modules/npm/bin/*.js
rm -rf /usr/local/lib/node_modules/npm/man /usr/local/lib/node_modules/npm/docs /usr/local/lib/node_modules/corepack
install -m 755 /run/image/node-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
groupadd --gid 1000 node
useradd --uid 1000 --gid node --shell /bin/bash --create-home node
node --version
npm --version
