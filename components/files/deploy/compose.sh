#!/bin/sh
# A part of machine.sh: the services of a Compose file. Files and variables of what runs are in a folder that only the
# user of the job can read, so that they can be put back. `current` is what runs, `next` what is tried, `previous` what
# ran before; the marks `started` and `healthy` in `next` say how far a run came, and `aside` that others had its ports.
#
# Input: CONTAINER, COMPOSE, COMPOSE_FILE, HEALTH_SECONDS, IMAGE, VARIABLES_SCRIPT.

COMPOSE_HOME=${XDG_STATE_HOME:-$HOME/.local/state}/slipway/$CONTAINER
# Names of Compose projects have no dots.
COMPOSE_NAME=$(printf %s "$CONTAINER" | tr -c 'a-z0-9_-' -)

# compose WHICH WORD…: relative paths of the file are below the folder of the environment, whichever of them it is.
compose() (
  folder=$COMPOSE_HOME/$1
  shift
  # shellcheck source=/dev/null
  . "$folder/variables"
  docker compose --progress quiet --project-name "$COMPOSE_NAME" --project-directory "$COMPOSE_HOME" \
    --file "$folder/compose.yaml" "$@"
)

compose_up() { compose "$1" up --detach --no-build --remove-orphans --wait --wait-timeout "$HEALTH_SECONDS"; }

compose_runs() { [ -d "$COMPOSE_HOME/current" ]; }

compose_image() { sed -n "s/^IMAGE='\(.*\)'$/\1/p" "$COMPOSE_HOME/$1/variables" 2>/dev/null; }

compose_containers() { docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_NAME"; }

# compose_released: the containers of the released image.
compose_released() {
  for one in $(compose_containers); do
    [ "$(property "$one" '{{.Config.Image}}')" != "$IMAGE" ] || echo "$one"
  done
}

compose_require() {
  docker compose version >/dev/null 2>&1 ||
    fail "$(hostname) has no Docker Compose, so nothing was deployed. Install it there: apt-get install docker-compose on Debian, docker-compose-plugin from Docker's own packages"
  compose_runs || [ -d "$COMPOSE_HOME/next" ] || [ -z "$(compose_containers)" ] ||
    fail "the Compose project $COMPOSE_NAME was started by somebody else, so it stays and nothing was deployed. Remove it there"
}

compose_settle() {
  if [ -e "$COMPOSE_HOME/next/healthy" ]; then
    compose_keep
  elif [ -e "$COMPOSE_HOME/next/started" ] || [ -e "$COMPOSE_HOME/aside" ]; then
    echo "An earlier deployment was interrupted; putting back the services of before"
    exists "$CONTAINER-previous" || remove "$CONTAINER"
    compose_step_down
    compose_put_back
  fi
  rm -rf "$COMPOSE_HOME/next"
}

compose_stand_aside() {
  compose_runs || return 0
  : >"$COMPOSE_HOME/aside"
  compose current stop
}

# compose_step_down: before what ran in another way gets its ports again.
compose_step_down() {
  [ -e "$COMPOSE_HOME/next/started" ] && ! compose_runs || return 0
  compose next down --remove-orphans
  rm -f "$COMPOSE_HOME/next/started"
}

compose_put_back() {
  if [ -e "$COMPOSE_HOME/next/started" ] || [ -e "$COMPOSE_HOME/aside" ]; then
    compose_up current || echo "error: the services of before did not all get healthy again"
  fi
  rm -rf "$COMPOSE_HOME/next" "$COMPOSE_HOME/aside"
}

compose_forget() {
  compose_runs || return 0
  compose current down --remove-orphans
  rm -rf "$COMPOSE_HOME/current" "$COMPOSE_HOME/previous" "$COMPOSE_HOME/aside"
  # What a relative path of the file has put there stays.
  rmdir "$COMPOSE_HOME" 2>/dev/null || true
}

compose_keep() {
  if compose_runs; then
    rm -rf "$COMPOSE_HOME/previous"
    mv "$COMPOSE_HOME/current" "$COMPOSE_HOME/previous"
  fi
  rm -f "$COMPOSE_HOME/next/started"
  mv "$COMPOSE_HOME/next" "$COMPOSE_HOME/current"
  rm -f "$COMPOSE_HOME/current/healthy"
}

# compose_check: the file is valid, and has this image and no other one of its repository.
compose_check() {
  compose next config --quiet ||
    fail "Docker Compose rejects $COMPOSE, so nothing was changed. Correct the file; a file that it refers to has to be on the machine, in $COMPOSE_HOME"
  images=$(compose next config --images)
  echo "$images" | grep -qxF "$IMAGE" ||
    fail "no service of $COMPOSE has the released image, so nothing was changed. Write there: image: \${IMAGE}"
  others=$(echo "$images" | grep -vxF "$IMAGE" | grep -xE "${IMAGE%@*}([:@].*)?" | tr '\n' ' ')
  [ -z "$others" ] ||
    fail "$COMPOSE names ${others% } beside the released image, which is another build or may become one, so nothing was changed. Write in its place: image: \${IMAGE}"
}

compose_exchange() {
  mkdir -p "$COMPOSE_HOME/next"
  printf '%s\n' "$COMPOSE_FILE" >"$COMPOSE_HOME/next/compose.yaml"
  printf "IMAGE='%s'\nexport IMAGE\n%s\n" "$IMAGE" "$VARIABLES_SCRIPT" >"$COMPOSE_HOME/next/variables"
  compose_check
  compose next pull --policy missing --quiet ||
    fail "an image of $COMPOSE could not be pulled; nothing was changed"
  echo "Starting the services of $COMPOSE"
  : >"$COMPOSE_HOME/next/started"
  if exists "$CONTAINER" || exists "$CONTAINER-proxy"; then stand_aside; fi
  if ! compose_up next; then
    compose next logs --tail 20 --no-color 2>&1 | sed 's/^/  /'
  else
    # shellcheck disable=SC2046 # IDs, one a word
    if await_health $(compose_released); then
      : >"$COMPOSE_HOME/next/healthy"
      compose_keep
      return
    fi
  fi
  put_back
  fail "the release is broken, so what ran before was put back: $(running)"
}
