# Common beginning of every script that runs on a machine: strict, private, and never silent about its end.
set -euo pipefail
umask 077
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Progress and causes go to standard error, which is shown; standard output is the result of the step.
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
trap 'die "this step did not end within its limit of $LIMIT_SECONDS seconds; it can be run again"' TERM

# write_file PATH MODE [OWNER]: put standard input there, whole or not at all. `changed` tells whether it differed.
write_file() {
  local path=$1 mode=$2 owner=${3:-root:root} new
  changed=no
  new=$(mktemp "$path.XXXXXX") || die "nothing can be written beside $path"
  { cat >"$new" && chmod "$mode" "$new" && chown "$owner" "$new"; } || { rm -f "$new"; die "$path could not be written; is the disk full?"; }
  if cmp --silent "$new" "$path" && [ "$(stat -c '%a %U:%G' "$path")" = "$mode $owner" ]; then
    rm "$new"
    return
  fi
  mv "$new" "$path" || die "$path could not be replaced"
  # Read by the scripts that this one stands before.
  # shellcheck disable=SC2034
  changed=yes
}

# unlocked COMMAND…: run it as soon as nobody else holds the locks of apt; a young machine updates itself. Packages are
# built for an ordinary umask.
unlocked() {
  local said
  until said=$( (umask 022; "$@") 2>&1 >/dev/null); do
    [[ $said =~ "Could not get lock"|"is locked by another process"|"was locked by another process" ]] || { say "$said"; return 1; }
    [ "$SECONDS" -lt 900 ] || die "another program has held the locks of apt for a quarter of an hour"
    sleep 3
  done
}

# install_packages NAME…: from the distribution. Ends first what a killed run may have left half installed.
install_packages() {
  unlocked dpkg --configure -a
  unlocked apt-get -qq update
  unlocked apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends --allow-change-held-packages "$@"
}

# patiently WHAT COMMAND…: run something long and say that it still runs: a silent connection can be lost unnoticed.
patiently() {
  local what=$1 status=0 worker beat
  shift
  "$@" &
  worker=$!
  (while sleep 20 >/dev/null 2>&1; do say "$what: still at it after $SECONDS s"; done) &
  beat=$!
  wait "$worker" || status=$?
  kill "$beat" 2>/dev/null || true
  return "$status"
}

# reconfigure: apply gitlab.rb. The log can hold what was configured, so it is for root alone.
reconfigure() {
  patiently "gitlab: reconfigure" run_reconfigure && return
  grep -iE '^(error|fatal)|error:|there was an error|failed|denied|refused' "$RECONFIGURE_LOG" | tail -n 15 >&2 || true
  say "gitlab-ctl reconfigure failed; the whole log is $RECONFIGURE_LOG on the server"
  return 1
}
RECONFIGURE_LOG=/var/log/slipway-reconfigure.log
run_reconfigure() {
  : >"$RECONFIGURE_LOG"
  (umask 022; gitlab-ctl reconfigure) >>"$RECONFIGURE_LOG" 2>&1
}
