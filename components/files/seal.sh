# Functions for a machine that becomes an image. Input: ADMIN_USER.

# seal: remove what belongs to this machine alone: who may log in, its identity, and what its first boot has noted, so that
# the next one is a first boot again. Connections end with this one: there is no host key any more.
seal() {
  local home
  home=$(getent passwd "$ADMIN_USER" | cut -d: -f6)
  rm -rf "$home/.ssh" /root/.ssh/authorized_keys /etc/sudoers.d/90-cloud-init-users
  rm -f /etc/ssh/ssh_host_*
  rm -rf /var/lib/slipway /var/log/slipway-* /var/lib/apt/lists/*
  apt-get clean
  rm -f /var/lib/systemd/random-seed /var/lib/dbus/machine-id
  : >/etc/machine-id
  journalctl --quiet --rotate --vacuum-time=1s >/dev/null 2>&1 || true
  cloud-init clean --logs >/dev/null || die "cloud-init cannot forget its first boot; the image would not ask for its keys"
  sync
  say "image: ready to be kept"
}
