#!/bin/sh
# In a deploy job: hands what was released to the machine of its environment. The connection is pinned to the machine's
# host key, and everything that the machine needs is on its standard input.
#
# Input: CONTAINER, REFERENCE (a file), PUBLISH, VARIABLES (names), HEALTH_PATH, HEALTH_PORT, HEALTH_COMMAND,
# HEALTH_SECONDS, COMPOSE (a file, or nothing), PROXY_IMAGE (or nothing), and a function machine_script that prints
# proxy.sh, compose.sh and machine.sh; from GitLab CI_REGISTRY, CI_PROJECT_PATH,
# CI_COMMIT_REF_NAME, CI_ENVIRONMENT_NAME, SLIPWAY_DEPLOY_HOST, SLIPWAY_DEPLOY_PORT, SLIPWAY_DEPLOY_USER,
# SLIPWAY_DEPLOY_HOST_KEY, SLIPWAY_DEPLOY_KEY (a file), SLIPWAY_DEPLOY_REGISTRY_USER, SLIPWAY_DEPLOY_REGISTRY_TOKEN.
set -eu
umask 077

fail() {
  echo "error: $*"
  exit 1
}

# assign NAME VALUE: print it as a line of a shell script.
assign() {
  quoted=$(printf '%s.' "$2" | sed "s/'/'\\\\''/g")
  printf "%s='%s'\n" "$1" "${quoted%.}"
}

# A variable of the project may have more than one line, and its name is in a list.
containers_variables() {
  for name in $VARIABLES; do
    eval "test \"\${$name+set}\"" || fail "$name is none of the variables of this job, and deploy names it for the container, so nothing was deployed. Set it in GitLab under Settings > CI/CD > Variables, or remove it from variables" >&2
    eval "assign $name \"\$$name\""
    echo "export $name"
  done
}

for_the_machine() {
  variables_script=$(containers_variables)
  compose_file=
  [ -z "$COMPOSE" ] || compose_file=$(cat "$COMPOSE")
  assign COMPOSE "$COMPOSE"
  assign COMPOSE_FILE "$compose_file"
  assign CONTAINER "$CONTAINER"
  assign ENVIRONMENT "$CI_PROJECT_PATH $CI_ENVIRONMENT_NAME"
  assign HEALTH_COMMAND "$HEALTH_COMMAND"
  assign HEALTH_PATH "$HEALTH_PATH"
  assign HEALTH_PORT "$HEALTH_PORT"
  assign HEALTH_SECONDS "$HEALTH_SECONDS"
  assign IMAGE "$image"
  assign PROXY_IMAGE "$PROXY_IMAGE"
  assign PUBLISH "$PUBLISH"
  assign REGISTRY "$CI_REGISTRY"
  assign REGISTRY_TOKEN "$SLIPWAY_DEPLOY_REGISTRY_TOKEN"
  assign REGISTRY_USER "$SLIPWAY_DEPLOY_REGISTRY_USER"
  assign VARIABLES "$VARIABLES"
  assign VARIABLES_SCRIPT "$variables_script"
  machine_script
}

# explain: what SSH's own message means here. Its exit status is 255; any other is that of the script on the machine.
explain() {
  cat "$folder/ssh"
  if grep -q -e 'Host key verification failed' -e 'host key is known' "$folder/ssh"; then
    fail "$SLIPWAY_DEPLOY_HOST has another host key than the one in hostKey, so it was given nothing. If the machine was installed again, set hostKey to its new key; otherwise find out who answers in its place"
  elif grep -q 'Permission denied' "$folder/ssh"; then
    echo "error: $SLIPWAY_DEPLOY_HOST did not let $SLIPWAY_DEPLOY_USER in with the key of this environment. Add this line there to ~/.ssh/authorized_keys:"
    fail "restrict $(ssh-keygen -y -f "$folder/key")"
  fi
  fail "the connection to $SLIPWAY_DEPLOY_HOST failed. If it was lost while the machine was at work, the next deployment settles what is there"
}

deploy() {
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  [ -n "${SLIPWAY_DEPLOY_KEY:-}" ] || fail "this job has no key for $CI_ENVIRONMENT_NAME, so nothing was deployed. GitLab gives it to jobs of protected branches only: protect $CI_COMMIT_REF_NAME under Settings > Repository, or run pulumi up if the environment is new"
  image=$(cat "$REFERENCE")
  case $image in
    *@sha256:*) ;;
    *) fail "$REFERENCE has no digest of an image, so nothing was deployed" ;;
  esac
  [ -z "$COMPOSE" ] || [ -f "$COMPOSE" ] || fail "this commit has no file $COMPOSE, so nothing was deployed. Commit it, or correct compose of this environment in the stack file"
  # What GitLab writes to a file may lack the line break at its end, without which a key cannot be read.
  { cat "$SLIPWAY_DEPLOY_KEY" && echo; } >"$folder/key"
  echo "target $SLIPWAY_DEPLOY_HOST_KEY" >"$folder/known_hosts"
  for_the_machine >"$folder/input"
  echo "Deploying $image to $SLIPWAY_DEPLOY_HOST"
  status=0
  ssh -F none -p "$SLIPWAY_DEPLOY_PORT" -l "$SLIPWAY_DEPLOY_USER" -i "$folder/key" -o IdentitiesOnly=yes -o BatchMode=yes \
    -o HostKeyAlias=target -o UserKnownHostsFile="$folder/known_hosts" -o GlobalKnownHostsFile=none \
    -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o ConnectTimeout=20 -o ServerAliveInterval=15 \
    "$SLIPWAY_DEPLOY_HOST" sh -s <"$folder/input" 2>"$folder/ssh" || status=$?
  [ "$status" != 255 ] || explain
  [ "$status" = 0 ] || exit "$status"
  echo "$image" >deployed.txt
}

deploy
