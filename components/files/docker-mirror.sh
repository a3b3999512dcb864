# Functions that tell Docker about a mirror of Docker Hub, or about the cache of its own machine (docker-hub-cache.sh).
# Input: CACHE_URL, REGISTRY_MIRROR.

# configure_mirror: other settings of Docker on this machine are kept. A running engine ignores a mirror that it rejects,
# and does not start again with it: the mirror is checked before the engine's settings are changed.
configure_mirror() {
  local settings=/etc/docker/daemon.json mirror=$REGISTRY_MIRROR new before
  [ -z "$CACHE_URL" ] || mirror=https://$(cache_address)
  install -d -m 755 /etc/docker
  [ -s "$settings" ] || write_file "$settings" 644 <<<'{}'
  jq --exit-status 'type == "object"' "$settings" >/dev/null 2>&1 ||
    die "$settings is not a JSON object, so Docker would not start again; correct it on the machine"
  new=$(mktemp) before=$(mktemp)
  # A running engine keeps its mirrors if its settings no longer name any: it takes an empty list to lose them.
  jq --sort-keys --arg mirror "$mirror" '
    if $mirror != "" then ."registry-mirrors" = [$mirror] elif has("registry-mirrors") then ."registry-mirrors" = [] else . end
  ' "$settings" >"$new"
  if ! cmp --silent "$new" "$settings"; then
    require_valid_settings "$new"
    [ -z "$REGISTRY_MIRROR" ] || require_mirror
    cp "$settings" "$before"
    write_file "$settings" 644 <"$new"
    # A running engine reloads its mirrors; a restart would stop the containers of jobs.
    if ! { systemctl reload-or-restart docker && await_mirror "$mirror"; }; then
      write_file "$settings" 644 <"$before"
      systemctl reload-or-restart docker || true
      die "Docker did not accept the mirror ${mirror:-(none any more)}; its former settings were restored. On the machine, run: sudo journalctl -u docker"
    fi
  fi
  rm -f "$new" "$before"
}

# require_valid_settings FILE: ask Docker itself, unless it is too old (before 23).
require_valid_settings() {
  local output
  [[ $(dockerd --help 2>&1) == *--validate* ]] || return 0
  output=$(dockerd --validate --config-file="$1" 2>&1) ||
    die "Docker rejects these settings: $(tail -n 1 <<<"$output"). Nothing was changed; correct runners[].registryMirror, or /etc/docker/daemon.json on the machine"
}

# require_mirror: a registry answers its base path with 200, or with 401 if it asks for a token.
require_mirror() {
  local status
  status=$(curl --silent --output /dev/null --location --retry 2 --max-time 20 --write-out '%{http_code}' "$REGISTRY_MIRROR/v2/") || true
  case $status in
    200 | 401) ;;
    *) die "$REGISTRY_MIRROR/v2/ does not answer like a registry (status ${status:-000}), so no image could come from this mirror; Docker was not changed. Correct or remove runners[].registryMirror" ;;
  esac
}

await_mirror() {
  local deadline=$((SECONDS + 15)) wanted='[]'
  # Docker writes addresses of mirrors with a slash at the end, and none as null.
  [ -z "$1" ] || wanted=$(jq -n --arg mirror "$1/" '[$mirror]')
  until docker info --format '{{json .RegistryConfig.Mirrors}}' 2>/dev/null | jq --exit-status --argjson wanted "$wanted" '(. // []) == $wanted' >/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}
