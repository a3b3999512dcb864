#!/bin/sh
# On the machine of an environment: replaces what runs there by another image, or leaves everything as it was.
#
# The new container is tried beside the old one first, without its ports. A new one that fails after the exchange is
# removed, and the old one put back. Until the new one is healthy, the old one stays, as CONTAINER-previous: so a run that
# is killed in between is settled by the next one. proxy.sh and compose.sh, which come before this file, have the two
# other ways to run an image; each of the three takes over from the others, and gives back what it took.
#
# Input: CONTAINER, ENVIRONMENT, HEALTH_COMMAND, HEALTH_PATH, HEALTH_PORT, HEALTH_SECONDS, IMAGE, PUBLISH, REGISTRY,
# REGISTRY_TOKEN, REGISTRY_USER, VARIABLES, VARIABLES_SCRIPT, COMPOSE, COMPOSE_FILE, PROXY_IMAGE (or nothing).
set -eu
umask 077
# Standard error is for SSH's own messages.
exec 2>&1

LABEL=slipway.environment

fail() {
  echo "error: $*"
  exit 1
}

exists() { docker container inspect "$1" >/dev/null 2>&1; }

property() { docker container inspect --format "$2" "$1" 2>/dev/null; }

require_docker() {
  command -v docker >/dev/null || fail "$(hostname) has no Docker, so nothing was deployed. Install it there"
  docker info >/dev/null || fail "$(id -un) may not use Docker on $(hostname), or it is not running; nothing was deployed. Run there: sudo usermod -aG docker $(id -un)"
  [ -z "$HEALTH_PATH" ] || command -v curl >/dev/null || command -v wget >/dev/null ||
    fail "$(hostname) has neither curl nor wget for the health check, so nothing was deployed. Install one of them there"
}

require_ours() {
  for name in "$CONTAINER" "$CONTAINER-previous" "$CONTAINER-candidate" "$CONTAINER-proxy" "$CONTAINER-proxy-previous"; do
    ! exists "$name" || [ "$(property "$name" "{{index .Config.Labels \"$LABEL\"}}")" = "$ENVIRONMENT" ] ||
      fail "the container $name was started by somebody else, so it stays and nothing was deployed. Rename or remove it there"
  done
}

# A run that was killed has left something aside: the new container was not healthy yet, or is not there. Once the proxy
# sends requests to the new one, it is the other way round.
settle() {
  proxy_settle
  remove "$CONTAINER-candidate"
  compose_settle
  if exists "$CONTAINER-previous" || exists "$CONTAINER-proxy-previous"; then
    echo "An earlier deployment was interrupted; putting back what ran before it"
    put_back
  fi
}

remove() { ! exists "$1" || docker rm --force --volumes "$1" >/dev/null; }

# stand_aside: what runs gives up its ports, and stays until `approve`.
stand_aside() {
  if exists "$CONTAINER"; then docker rename "$CONTAINER" "$CONTAINER-previous"; fi
  for name in "$CONTAINER-proxy" "$CONTAINER-previous"; do
    ! exists "$name" || docker stop "$name" >/dev/null
  done
  compose_stand_aside
}

put_back() {
  compose_step_down
  proxy_put_back
  if exists "$CONTAINER-previous"; then
    remove "$CONTAINER"
    docker rename "$CONTAINER-previous" "$CONTAINER"
  fi
  for name in "$CONTAINER" "$CONTAINER-proxy"; do
    ! exists "$name" || docker start "$name" >/dev/null
  done
  compose_put_back
}

# The login is in a folder that is gone at the end. An image that is there needs none.
fetch_image() {
  ! docker image inspect "$IMAGE" >/dev/null 2>&1 || return 0
  printf '%s\n' "$REGISTRY_TOKEN" | docker login --username "$REGISTRY_USER" --password-stdin "$REGISTRY" >/dev/null ||
    fail "$(hostname) could not log in to $REGISTRY; nothing was changed"
  docker pull --quiet "$IMAGE" >/dev/null ||
    fail "$IMAGE could not be pulled; nothing was changed. If the cleanup policy has deleted it, run the whole pipeline of its commit again; keepImages and keepTags of the project say what the policy keeps"
}

# start NAME RESTART [OPTION…]: in a subshell, as its variables are in the environment of the client. They come last, as
# they may have names of this script's own.
start() (
  name=$1 restart=$2
  shift 2
  set -- --name "$name" --restart "$restart" --label "$LABEL=$ENVIRONMENT" "$@"
  for variable in $VARIABLES; do set -- "$@" --env "$variable"; done
  set -- "$@" "$IMAGE"
  eval "$VARIABLES_SCRIPT"
  docker run --detach "$@" >/dev/null
)

answers() {
  if [ -n "$HEALTH_COMMAND" ]; then
    timeout 30 docker exec "$1" sh -c "$HEALTH_COMMAND"
    return
  fi
  address=$(property "$1" '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' | cut -d ' ' -f 1)
  [ -n "$address" ] || return 1
  if command -v curl >/dev/null; then
    curl --fail --silent --show-error --noproxy '*' --max-time 10 --output /dev/null "http://$address:$HEALTH_PORT$HEALTH_PATH"
  else
    http_proxy='' wget -q -T 10 -O /dev/null "http://$address:$HEALTH_PORT$HEALTH_PATH"
  fi
}

# await_health NAME…: until one of them is healthy, one has ended, or the time is over.
await_health() {
  deadline=$(($(date +%s) + HEALTH_SECONDS))
  while :; do
    for one; do
      if [ "$(property "$one" '{{.State.Running}} {{.RestartCount}}')" != "true 0" ]; then
        unhealthy "it ended with status $(property "$one" '{{.State.ExitCode}}')" "$one"
        return 1
      fi
    done
    said=
    for one; do
      ! answer=$(answers "$one" 2>&1) || return 0
      said="$said $answer"
    done
    if [ "$(date +%s)" -ge "$deadline" ]; then
      unhealthy "its health check failed for $HEALTH_SECONDS seconds:$said" "$@"
      return 1
    fi
    sleep 1
  done
}

# unhealthy WHY NAME…
unhealthy() {
  echo "The new container is not healthy: $1"
  echo "The end of its log:"
  shift
  for one; do docker logs --tail 20 "$one" 2>&1 | sed 's/^/  /'; done
}

# start_beside [OPTION…]: start the new container without ports, and wait until it is healthy.
# shellcheck disable=SC2119,SC2120 # proxy.sh passes some
start_beside() {
  echo "Trying the new container beside what runs"
  if start "$CONTAINER-candidate" no "$@" && await_health "$CONTAINER-candidate"; then return; fi
  remove "$CONTAINER-candidate"
  fail "the release is broken, so nothing was changed: $(running)"
}

running() {
  if exists "$CONTAINER"; then
    echo "$(property "$CONTAINER" '{{.Config.Image}}') is $(property "$CONTAINER" '{{.State.Status}}')"
  elif compose_runs; then
    echo "$(compose_image current) is as before"
  else
    echo "$CONTAINER does not run yet"
  fi
}

exchange() {
  # shellcheck disable=SC2119
  start_beside
  remove "$CONTAINER-candidate"
  echo "Replacing the container"
  stand_aside
  set --
  for port in $PUBLISH; do set -- "$@" --publish "$port"; done
  if ! { start "$CONTAINER" no "$@" && await_health "$CONTAINER"; }; then
    remove "$CONTAINER"
    put_back
    fail "the new container could not take over, so the old one was put back: $(running)"
  fi
  docker update --restart unless-stopped "$CONTAINER" >/dev/null
}

# What ran until now goes. Of older images of the same repository only its own stays, for a quick way back.
approve() {
  if [ -n "$COMPOSE" ]; then kept=previous; else kept=current; fi
  before=$(property "$CONTAINER-previous" '{{.Config.Image}}') || before=$(compose_image "$kept") || before=
  remove "$CONTAINER-previous"
  remove "$CONTAINER-proxy-previous"
  [ -n "$PROXY_IMAGE" ] || proxy_forget
  [ -n "$COMPOSE" ] || compose_forget
  docker image ls --digests --filter "reference=${IMAGE%@*}" --format '{{.Repository}}@{{.Digest}}' |
    while read -r one; do
      [ "$one" = "$IMAGE" ] || [ "$one" = "$before" ] || docker image rm "$one" >/dev/null 2>&1 || true
    done
}

main() {
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  trap 'rm -rf "$DOCKER_CONFIG"' EXIT
  # Docker looks there for a user's own Compose.
  [ ! -d ~/.docker/cli-plugins ] || ln -s ~/.docker/cli-plugins "$DOCKER_CONFIG/cli-plugins"
  require_docker
  require_ours
  [ -z "$COMPOSE" ] || compose_require
  settle
  fetch_image
  if [ -n "$COMPOSE" ]; then
    compose_exchange
  elif [ -n "$PROXY_IMAGE" ]; then
    proxy_exchange
  else
    exchange
  fi
  approve
  echo "$CONTAINER runs $IMAGE and is healthy"
}

main
