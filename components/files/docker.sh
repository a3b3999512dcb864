# Functions that install Docker.

install_docker() {
  local missing=() command package
  for command in curl iptables jq; do
    command -v "$command" >/dev/null || missing+=("$command")
  done
  # The distribution's packages conflict with Docker's own: an engine that is there stays.
  command -v dockerd >/dev/null || missing+=(docker.io)
  if ! command -v docker >/dev/null; then
    # Debian has a separate package for the client; on Ubuntu it is part of docker.io.
    with_apt_lock apt-get -qq update
    [ -z "$(apt-cache madison docker-cli)" ] || missing+=(docker-cli)
  fi
  if [ "${#missing[@]}" -gt 0 ]; then
    say "docker: installing ${missing[*]}"
    with_heartbeat "docker: installation" install_packages "${missing[@]}" || die "Docker could not be installed"
  fi
  # Its version is held: an upgrade would stop containers.
  for package in docker.io docker-cli containerd docker-ce docker-ce-cli containerd.io runc; do
    ! is_installed "$package" || apt-mark hold "$package" >/dev/null
  done
  systemctl enable --quiet --now docker
}

is_installed() { [[ $(dpkg-query --show --showformat='${db:Status-Abbrev}' "$1" 2>/dev/null || true) == [ih]i* ]]; }
