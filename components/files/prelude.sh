# Common beginning of every script that runs on a machine: strict, private, one at a time.
set -euo pipefail
umask 077
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Progress and causes go to standard error, which is shown; standard output is the result of the step.
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A run that was killed may have left its script running: wait for it rather than run beside it.
exec 9>/run/lock/slipway.lock
flock --wait 1800 9 || die "another step has held this machine for half an hour; see: sudo fuser -v /run/lock/slipway.lock"

# write_file PATH MODE: put standard input there, whole or not at all. Returns 1 where it is there already.
write_file() {
  local path=$1 mode=$2 new
  new=$(mktemp "$path.XXXXXX")
  cat >"$new"
  chmod "$mode" "$new"
  if [ -f "$path" ] && cmp --silent "$new" "$path" && [ "$(stat -c %a "$path")" = "$mode" ]; then
    rm "$new"
    return 1
  fi
  mv "$new" "$path"
}

# install_packages NAME…: from the distribution, waiting for whoever else uses apt on a young machine.
install_packages() {
  # Ends what a killed run may have left half installed.
  dpkg --configure -a >/dev/null
  apt-get -qq -o DPkg::Lock::Timeout=600 update >&2
  apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "$@" >/dev/null
}

# reconfigure: apply gitlab.rb. The log can hold what was configured, so it is for root alone.
reconfigure() {
  local log=/var/log/slipway-reconfigure.log
  if ! gitlab-ctl reconfigure >"$log" 2>&1; then
    grep -iE '^(error|fatal)|error:|there was an error|failed|denied|refused' "$log" | tail -n 15 >&2 || true
    die "gitlab-ctl reconfigure failed; the whole log is $log on the server"
  fi
}
