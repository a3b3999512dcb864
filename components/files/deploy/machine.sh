#!/bin/sh
# On the machine of an environment: replaces its container by one of another image, or leaves everything as it was.
#
# The new one is tried beside the old one first, without its ports. A new one that fails after the exchange is removed,
# and the old one put back. Until the new one is healthy, the old one stays, as CONTAINER-previous: so a run that is
# killed in between is settled by the next one.
#
# Input: CONTAINER, ENVIRONMENT, HEALTH_COMMAND, HEALTH_PATH, HEALTH_PORT, HEALTH_SECONDS, IMAGE, PUBLISH, REGISTRY,
# REGISTRY_TOKEN, REGISTRY_USER, VARIABLES, and a function export_variables.
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
  for name in "$CONTAINER" "$CONTAINER-previous" "$CONTAINER-candidate"; do
    ! exists "$name" || [ "$(property "$name" "{{index .Config.Labels \"$LABEL\"}}")" = "$ENVIRONMENT" ] ||
      fail "the container $name was started by somebody else, so it stays and nothing was deployed. Rename or remove it there"
  done
}

# A run that was killed has left the old container aside: the new one was not healthy yet, or is not there.
settle() {
  remove "$CONTAINER-candidate"
  if exists "$CONTAINER-previous"; then
    echo "An earlier deployment was interrupted; putting back what ran before it"
    put_back
  fi
}

remove() { ! exists "$1" || docker rm --force --volumes "$1" >/dev/null; }

put_back() {
  remove "$CONTAINER"
  exists "$CONTAINER-previous" || return 0
  docker rename "$CONTAINER-previous" "$CONTAINER"
  docker start "$CONTAINER" >/dev/null
}

# The login is in a folder that is gone at the end. An image that is there needs none.
fetch_image() {
  ! docker image inspect "$IMAGE" >/dev/null 2>&1 || return 0
  printf '%s\n' "$REGISTRY_TOKEN" | docker login --username "$REGISTRY_USER" --password-stdin "$REGISTRY" >/dev/null ||
    fail "$(hostname) could not log in to $REGISTRY; nothing was changed"
  docker pull --quiet "$IMAGE" >/dev/null ||
    fail "$IMAGE could not be pulled; nothing was changed. If the cleanup policy has deleted it, run the whole pipeline of its commit again; keepImages and keepTags of the project say what the policy keeps"
}

# start NAME RESTART [OPTION…]: in a subshell, as its variables are in the environment of the client.
start() (
  name=$1 restart=$2
  shift 2
  for variable in $VARIABLES; do set -- "$@" --env "$variable"; done
  export_variables
  docker run --detach --name "$name" --restart "$restart" --label "$LABEL=$ENVIRONMENT" "$@" "$IMAGE" >/dev/null
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

# await_health NAME: until it is healthy, has ended, or the time is over.
await_health() {
  deadline=$(($(date +%s) + HEALTH_SECONDS))
  while :; do
    if [ "$(property "$1" '{{.State.Running}} {{.RestartCount}}')" != "true 0" ]; then
      unhealthy "$1" "it ended with status $(property "$1" '{{.State.ExitCode}}')"
      return 1
    fi
    ! said=$(answers "$1" 2>&1) || return 0
    if [ "$(date +%s)" -ge "$deadline" ]; then
      unhealthy "$1" "its health check failed for $HEALTH_SECONDS seconds: $said"
      return 1
    fi
    sleep 1
  done
}

unhealthy() {
  echo "The new container is not healthy: $2"
  echo "The end of its log:"
  docker logs --tail 20 "$1" 2>&1 | sed 's/^/  /'
}

try_beside() {
  echo "Trying the new container beside what runs"
  if start "$CONTAINER-candidate" no && await_health "$CONTAINER-candidate"; then
    remove "$CONTAINER-candidate"
    return
  fi
  remove "$CONTAINER-candidate"
  fail "the release is broken, so nothing was changed: $(running)"
}

running() {
  if exists "$CONTAINER"; then
    echo "$(property "$CONTAINER" '{{.Config.Image}}') is $(property "$CONTAINER" '{{.State.Status}}')"
  else
    echo "$CONTAINER does not run yet"
  fi
}

exchange() {
  echo "Replacing the container"
  if exists "$CONTAINER"; then
    docker rename "$CONTAINER" "$CONTAINER-previous"
    docker stop "$CONTAINER-previous" >/dev/null
  fi
  set --
  for port in $PUBLISH; do set -- "$@" --publish "$port"; done
  if ! { start "$CONTAINER" no "$@" && await_health "$CONTAINER"; }; then
    put_back
    fail "the new container could not take over, so the old one was put back: $(running)"
  fi
  docker update --restart unless-stopped "$CONTAINER" >/dev/null
}

# Of older images of the same repository only the one that ran until now stays, for a quick way back.
approve() {
  before=$(property "$CONTAINER-previous" '{{.Config.Image}}') || before=
  remove "$CONTAINER-previous"
  docker image ls --digests --filter "reference=${IMAGE%@*}" --format '{{.Repository}}@{{.Digest}}' |
    while read -r one; do
      [ "$one" = "$IMAGE" ] || [ "$one" = "$before" ] || docker image rm "$one" >/dev/null 2>&1 || true
    done
}

main() {
  DOCKER_CONFIG=$(mktemp -d)
  export DOCKER_CONFIG
  trap 'rm -rf "$DOCKER_CONFIG"' EXIT
  require_docker
  require_ours
  settle
  fetch_image
  try_beside
  exchange
  approve
  echo "$CONTAINER runs $IMAGE and is healthy"
}

main
