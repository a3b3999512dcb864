#!/bin/sh
# A part of machine.sh: the way without a gap. A proxy has the port, and sends each request to the container that is
# healthy; requests that the old one is answering are completed there. The two reach each other on a network of their own,
# where each container has a name that no other one has or had.
#
# Input: CONTAINER, ENVIRONMENT, HEALTH_PATH, HEALTH_PORT, HEALTH_SECONDS, LABEL, PROXY_IMAGE, PUBLISH.

# Ports of the proxy inside its container, where it is not root.
PROXY_HTTP=8080 PROXY_HTTPS=8443
TARGET=slipway.target
PROXY_KIND=slipway.proxy
# Seconds for requests that the old container is answering.
DRAIN=30

proxy_says() { docker exec "$CONTAINER-proxy" kamal-proxy "$@"; }

proxy_target() { property "$1" "{{index .Config.Labels \"$TARGET\"}}" | sed 's/<no value>//'; }

# proxy_serves NAME: whether requests are sent to this container.
proxy_serves() {
  target=$(proxy_target "$1") && [ -n "$target" ] && proxy_says list 2>/dev/null | grep -qF "$target:"
}

proxy_wanted() { echo "$PROXY_IMAGE $PUBLISH"; }

proxy_is_as_wanted() {
  [ "$(property "$CONTAINER-proxy" "{{.State.Running}} {{index .Config.Labels \"$PROXY_KIND\"}}")" = "true $(proxy_wanted)" ]
}

# proxy_promote: the candidate has the requests, so it is what runs.
proxy_promote() {
  if exists "$CONTAINER-candidate"; then
    if exists "$CONTAINER"; then
      remove "$CONTAINER-previous"
      docker rename "$CONTAINER" "$CONTAINER-previous"
    fi
    docker rename "$CONTAINER-candidate" "$CONTAINER"
  fi
  docker update --restart unless-stopped "$CONTAINER" >/dev/null
  ! exists "$CONTAINER-previous" || docker stop "$CONTAINER-previous" >/dev/null
}

# A run that was killed after the proxy has the new container is completed, and not taken back.
proxy_settle() {
  exists "$CONTAINER-proxy" || return 0
  docker start "$CONTAINER-proxy" >/dev/null 2>&1 && proxy_await || return 0
  for name in "$CONTAINER-candidate" "$CONTAINER"; do
    proxy_serves "$name" || continue
    if [ "$name" != "$CONTAINER" ] || exists "$CONTAINER-previous"; then
      echo "An earlier deployment was interrupted after the exchange; completing it"
      proxy_promote
    fi
    remove "$CONTAINER-previous"
    remove "$CONTAINER-proxy-previous"
    compose_forget
    return 0
  done
}

proxy_await() {
  attempts=0
  until proxy_says list >/dev/null 2>&1; do
    attempts=$((attempts + 1))
    [ "$attempts" -lt 30 ] || return 1
    sleep 0.5
  done
}

# What is not behind the proxy takes its ports back from it.
proxy_put_back() {
  if exists "$CONTAINER-proxy-previous"; then
    remove "$CONTAINER-proxy"
    docker rename "$CONTAINER-proxy-previous" "$CONTAINER-proxy"
  elif [ -z "$(proxy_target "$CONTAINER")$(proxy_target "$CONTAINER-previous")" ]; then
    proxy_forget
  fi
}

# proxy_forget: by their labels, as others may have networks and volumes of these names.
proxy_forget() {
  remove "$CONTAINER-proxy"
  for kind in volume network; do
    for one in $(docker "$kind" ls --quiet --filter "label=$LABEL=$ENVIRONMENT"); do
      docker "$kind" rm "$one" >/dev/null 2>&1 || true
    done
  done
}

proxy_start() {
  docker run --detach --name "$CONTAINER-proxy" --restart unless-stopped --network "$CONTAINER" \
    --label "$LABEL=$ENVIRONMENT" --label "$PROXY_KIND=$(proxy_wanted)" \
    --volume "$CONTAINER-proxy:/home/kamal-proxy/.config/kamal-proxy" --publish "${PUBLISH%:*}:$PROXY_HTTP" \
    "$PROXY_IMAGE" kamal-proxy run --http-port "$PROXY_HTTP" --https-port "$PROXY_HTTPS" >/dev/null && proxy_await
}

# proxy_take_over: the proxy gets the port. What is behind another proxy runs on.
proxy_take_over() {
  echo "Starting the proxy, which takes a moment without answers. Later deployments have none"
  ! exists "$CONTAINER-proxy" || docker rename "$CONTAINER-proxy" "$CONTAINER-proxy-previous"
  if exists "$CONTAINER-proxy-previous"; then
    docker stop "$CONTAINER-proxy-previous" >/dev/null
  else
    stand_aside
  fi
  proxy_start
}

proxy_switch() {
  proxy_says deploy app --target "$1:${PUBLISH##*:}" --health-check-path "$HEALTH_PATH" --health-check-port "$HEALTH_PORT" \
    --deploy-timeout "${HEALTH_SECONDS}s" --drain-timeout "${DRAIN}s" --target-timeout 1h >/dev/null
}

# proxy_provide KIND NAME: a network or a volume of the environment.
proxy_provide() {
  if owner=$(docker "$1" inspect --format "{{index .Labels \"$LABEL\"}}" "$2" 2>/dev/null); then
    [ "$owner" = "$ENVIRONMENT" ] ||
      fail "the $1 $2 was made by somebody else, so it stays and nothing was deployed. Remove it there"
  else
    docker "$1" create --label "$LABEL=$ENVIRONMENT" "$2" >/dev/null
  fi
}

proxy_exchange() {
  docker image inspect "$PROXY_IMAGE" >/dev/null 2>&1 || docker pull --quiet "$PROXY_IMAGE" >/dev/null ||
    fail "the proxy $PROXY_IMAGE could not be pulled; nothing was changed. Open the way to Docker Hub for $(hostname), or remove zeroDowntime"
  proxy_provide network "$CONTAINER"
  proxy_provide volume "$CONTAINER-proxy"
  target="t$(date +%s)-$$"
  start_beside --network "$CONTAINER" --network-alias "$target" --label "$TARGET=$target"
  if ! { proxy_is_as_wanted || proxy_take_over; } || ! proxy_switch "$target"; then
    remove "$CONTAINER-candidate"
    put_back
    fail "the proxy could not take the new container, so the old one has its requests: $(running)"
  fi
  proxy_promote
}
