# Common beginning of every script that runs on a machine: strict, private, and never silent about how it ends.
set -euo pipefail
umask 077
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Progress and causes go to standard error, which is shown; standard output is the result of the step.
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
trap 'die "this step exceeded its limit of $LIMIT_SECONDS seconds; it is safe to run again"' TERM

# write_file PATH MODE [OWNER]: write standard input to PATH, completely or not at all. Sets `changed` to yes if the
# content, mode or owner differed, otherwise to no.
write_file() {
  local path=$1 mode=$2 owner=${3:-root:root} new
  changed=no
  new=$(mktemp "$path.XXXXXX") || die "cannot create a file next to $path"
  { cat >"$new" && chmod "$mode" "$new" && chown "$owner" "$new"; } || { rm -f "$new"; die "$path could not be written; is the disk full?"; }
  if cmp --silent "$new" "$path" && [ "$(stat -c '%a %U:%G' "$path")" = "$mode $owner" ]; then
    rm "$new"
    record_file "$path"
    return
  fi
  mv "$new" "$path" || die "$path could not be replaced"
  record_file "$path"
  # Read by the scripts that follow this prelude.
  # shellcheck disable=SC2034
  changed=yes
}

# record_file PATH: note the checksum of what this step has written, so that a change by somebody else can be found.
# The first file of a run begins a new list. A file that several steps write is in the list of the last one.
record_file() {
  local folder=/var/lib/slipway/written list
  [ -n "${STEP:-}" ] || return 0
  list=$folder/$STEP.sha256
  install -d -m 700 "$folder"
  [ -n "${recorded:-}" ] || : >"$list"
  recorded=yes
  sed -i "\\#  $1\$#d" "$folder"/*.sha256
  sha256sum "$1" >>"$list"
}

# with_heartbeat WHAT COMMAND…: run a long command and report regularly that it is still running, because a silent
# connection can be lost unnoticed.
with_heartbeat() {
  local what=$1 status=0 worker heartbeat
  shift
  "$@" &
  worker=$!
  (while sleep 20 >/dev/null 2>&1; do say "$what: still running after $SECONDS s"; done) &
  heartbeat=$!
  wait "$worker" || status=$?
  kill "$heartbeat" 2>/dev/null || true
  return "$status"
}
