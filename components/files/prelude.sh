# Common beginning of every script that runs on a machine: strict, private, and never silent about how it ends.
set -euo pipefail
umask 077
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# SSH answers before a machine that boots has mounted its data volume and started its services. What a step writes by
# then would be hidden under the mount.
timeout 300 systemctl is-system-running --wait >/dev/null 2>&1 || true

# Progress and causes go to standard error, which is shown; standard output is the result of the step. In a subshell: if
# the connection is lost, what the step has begun is brought to its end all the same.
say() { (printf '%s\n' "$*" >&2) || true; }
# The status says, also from a subshell, that the cause has been named.
readonly NAMED=70
die() { say "error: $*"; exit "$NAMED"; }
trap 'die "this step exceeded its limit of $LIMIT_SECONDS seconds; it is safe to run again"' TERM

# at_exit COMMAND…: run it when the script ends, however it ends; what came last runs first. `exit_status` is set by then.
at_exit() { last_things=("$(printf '%q ' "$@")" ${last_things[@]+"${last_things[@]}"}); }
finish() {
  exit_status=$?
  local command full
  for command in ${last_things[@]+"${last_things[@]}"}; do eval "$command" || true; done
  [ "$exit_status" != 0 ] || exit 0
  full=$(full_disks) || true
  [ -z "$full" ] || (die_of_full_disk "$full") || exit_status=$NAMED
  [ "$exit_status" = "$NAMED" ] || say "error: step ${STEP:-} failed with status $exit_status; the lines above say why"
  exit 1
}
trap finish EXIT

# full_disks: print those that have no space left, or no room for another file, one a line.
full_disks() {
  df --output=target,avail,itotal,iavail --block-size=1M / /tmp /var /var/log/gitlab /var/opt/gitlab 2>/dev/null |
    awk 'NR > 1 && ($2 + 0 < 50 || ($3 + 0 > 0 && $4 + 0 < 100)) { print $1 " has " $2 " MB left" }' | sort -u
}

die_of_full_disk() {
  die "the disk of $(hostname) is full: ${1//$'\n'/, }. To find out what uses the space, run there: sudo du -xm / /mnt/gitlab | sort -n | tail. The data volume grows with server.volumeSizeGb, and every other disk with the size of its droplet"
}

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

# write_checked PATH MODE COMMAND…: as write_file, with a COMMAND that has to accept the new file. If it does not, the
# previous file is put back, or the new one removed if there was none.
write_checked() {
  local path=$1 mode=$2 before
  shift 2
  before=$(mktemp) || die "cannot create a file in /tmp"
  [ ! -e "$path" ] || cp --archive "$path" "$before.previous"
  write_file "$path" "$mode"
  if "$@"; then
    rm -f "$before" "$before.previous"
    return
  fi
  rm -f "$path" "$before"
  if [ -e "$before.previous" ]; then
    mv "$before.previous" "$path"
    record_file "$path"
  fi
  return 1
}

# with_heartbeat WHAT COMMAND…: run a long command and report regularly that it is still running, because a silent
# connection can be lost unnoticed.
with_heartbeat() {
  local what=$1 status=0 worker heartbeat
  shift
  "$@" &
  worker=$!
  (while sleep 20 >/dev/null 2>&1 && kill -0 "$worker" 2>/dev/null; do say "$what: still running after $SECONDS s"; done) &
  heartbeat=$!
  wait "$worker" || status=$?
  # A subshell that has just been forked would lose any other signal, and keep the connection open for ever.
  { kill -KILL "$heartbeat"; wait "$heartbeat"; } 2>/dev/null || true
  return "$status"
}

# logged FILE COMMAND…: run it, and append what it prints to FILE. What reports on it is shown all the same.
logged() {
  local file=$1
  shift
  "$@" >>"$file" 2>&1
}
