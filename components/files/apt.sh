# Functions that install packages of the distribution.

# with_apt_lock COMMAND…: run it as soon as no other program holds apt's locks; a new machine updates itself at first.
# Packages expect the usual umask. Their scripts also report failures on standard output, so both are in the log.
with_apt_lock() {
  local output
  until output=$( (umask 022; "$@") 2>&1); do
    log_packages "$output"
    if ! [[ $output =~ "Could not get lock"|"is locked by another process"|"was locked by another process" ]]; then
      show_causes "$output"
      # By then apt may have removed what it had begun to write.
      [[ ! $output =~ "No space left on device"|"enough free space" ]] || die_of_full_disk "there is no space for these packages (see above)"
      return 1
    fi
    [ "$SECONDS" -lt 900 ] || die "another program has held apt's locks for fifteen minutes"
    sleep 3
  done
  log_packages "$output"
}
PACKAGES_LOG=/var/log/slipway-packages.log
log_packages() { [ -z "$1" ] || printf '%s\n' "$1" >>"$PACKAGES_LOG" || true; }

# show_causes TEXT: those lines of what a program has printed that say why it failed, or else the last ones.
show_causes() {
  local found
  found=$(grep -iE '^(E|W|error|fatal):|error:|dpkg: error|preinstall: |failed|denied|refused|no space|cannot|could not' <<<"$1" | tail -n 15) || true
  say "${found:-$(tail -n 5 <<<"$1")}"
}

# install_packages NAME…: install them. Finishes first what an interrupted run may have left half installed; if that
# fails, a later version of the package may still be the remedy.
install_packages() {
  with_apt_lock dpkg --configure -a || say "packages: an interrupted installation could not be completed; continuing"
  with_apt_lock apt-get -qq update
  with_apt_lock apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends --allow-change-held-packages "$@" && return
  # By default apt only warns of an archive that it cannot reach, and then has no packages, or old ones.
  with_apt_lock apt-get -qq -o APT::Update::Error-Mode=any update ||
    die "this machine cannot reach an archive of packages (see above), so it cannot install $*"
  die "apt cannot install $*; the cause is above"
}

# require_installed NAME…: install what is missing; a machine that has it all does not wait for package lists.
require_installed() {
  local name status
  for name in "$@"; do
    status=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$name" 2>/dev/null || true)
    [ "$status" = "ii " ] || break
    shift
  done
  [ "$#" -eq 0 ] || { say "installing $*"; install_packages "$@"; }
}

# What hardens a machine, apart from its configuration.
install_hardening() { require_installed debsums fail2ban python3-systemd ufw unattended-upgrades; }
