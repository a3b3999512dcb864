#!/bin/sh
# What the stand-in for GitLab Runner needs in its image and in that of its helper.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

apt-get update -q
apt-get install -q -y --no-install-recommends git python3 python3-docker python3-httpx python3-kubernetes python3-tomli-w
apt-get clean
# The user and the group of the official image.
groupadd --gid 65533 gitlab-runner
useradd --uid 100 --gid 65533 --shell /usr/sbin/nologin --create-home gitlab-runner
