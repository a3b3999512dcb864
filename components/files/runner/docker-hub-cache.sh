#!/bin/bash
# Runs the cache of Docker Hub, in the foreground. It listens at the address of Docker's bridge, which containers of this
# machine reach and nothing else does. Without capabilities, and with nothing to write to but what it stores.
set -euo pipefail

address=$(ip -4 -oneline address show dev docker0 scope global | awk '{ print $4; exit }')
exec docker run --rm --name slipway-docker-hub-cache --network host --read-only --cap-drop ALL \
  --security-opt no-new-privileges --log-driver none \
  --env "REGISTRY_HTTP_ADDR=${address%/*}:5000" --env OTEL_TRACES_EXPORTER=none \
  --volume /etc/slipway/docker-hub-cache:/etc/slipway:ro \
  --volume /var/cache/slipway/docker-hub:/var/lib/registry \
  "$IMAGE" serve /etc/slipway/config.yml
