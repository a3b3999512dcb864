# Functions that install packages of the distribution.

# with_apt_lock COMMAND…: run it as soon as no other program holds apt's locks; a new machine updates itself at first.
# Packages expect the usual umask.
with_apt_lock() {
  local output
  until output=$( (umask 022; "$@") 2>&1 >/dev/null); do
    [[ $output =~ "Could not get lock"|"is locked by another process"|"was locked by another process" ]] || { say "$output"; return 1; }
    [ "$SECONDS" -lt 900 ] || die "another program has held apt's locks for fifteen minutes"
    sleep 3
  done
}

# install_packages NAME…: install them. Finishes first what an interrupted run may have left half installed.
install_packages() {
  with_apt_lock dpkg --configure -a
  with_apt_lock apt-get -qq update
  with_apt_lock apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends --allow-change-held-packages "$@"
}
