# Harden the server and mount its data.
# Input: ADMIN_CIDRS, ADMIN_USER, AUTHORIZED_KEYS, FQDN, PUBLIC_PORTS, VOLUME_NAME, VOLUME_SIZE_GB.
main() {
  forget_first_contact
  harden_ssh
  hostnamectl set-hostname "$FQDN"
  close_ports
  mount_data
  say "server: ready"
}

forget_first_contact() {
  # Whoever reads user_data knows this key.
  rm -f /etc/ssh/ssh_host_ecdsa_key /etc/ssh/ssh_host_ecdsa_key.pub
  rm -f /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_rsa_key.pub
}

harden_ssh() {
  write_file /etc/ssh/sshd_config.d/10-slipway.conf 644 <<CONFIG || true
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
X11Forwarding no
# The git user that GitLab makes logs in as well; GitLab decides what it may do.
AllowUsers $ADMIN_USER git
CONFIG
  local home
  home=$(getent passwd "$ADMIN_USER" | cut -d: -f6)
  write_file "$home/.ssh/authorized_keys" 600 <<<"$AUTHORIZED_KEYS" || true
  chown -R "$ADMIN_USER:" "$home/.ssh"
  passwd --lock --quiet root
  sshd -t || die "sshd would not start with its new configuration; nothing was reloaded"
  systemctl reload-or-restart ssh
}

close_ports() {
  command -v ufw >/dev/null || { say "server: installing ufw"; install_packages ufw; }
  local rules cidr port
  rules=$(for cidr in $ADMIN_CIDRS; do echo "allow proto tcp from $cidr to any port 22"; done
    for port in $PUBLIC_PORTS; do echo "allow $port/tcp"; done)
  local applied=/etc/ufw/slipway.rules
  if ! cmp --silent - "$applied" <<<"$rules" || ! ufw status | grep -q '^Status: active'; then
    say "server: closing every port but 22 and $PUBLIC_PORTS"
    ufw --force reset >/dev/null
    ufw default deny incoming >/dev/null
    ufw default allow outgoing >/dev/null
    while read -r rule; do
      # Word splitting is wanted: the rule is the arguments.
      # shellcheck disable=SC2086
      ufw $rule >/dev/null
    done <<<"$rules"
    ufw --force enable >/dev/null
    # Written last: a run that is killed before this begins anew.
    write_file "$applied" 600 <<<"$rules" || true
  fi
}

mount_data() {
  local device=/dev/disk/by-id/scsi-0DO_Volume_$VOLUME_NAME data=/mnt/gitlab tries=0
  # Attached a moment ago: udev shows it within seconds.
  until [ -e "$device" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 120 ] || die "volume $VOLUME_NAME is attached, but $device does not appear"
    sleep 0.5
  done
  mkdir -p "$data"
  mount_once "$data" "$device" ext4 defaults,nofail,discard,noatime
  # The volume may have grown since; the file system follows.
  resize2fs "$device" >/dev/null 2>&1 || die "the file system of volume $VOLUME_NAME does not grow to $VOLUME_SIZE_GB GiB"
  local pair
  for pair in etc:/etc/gitlab opt:/var/opt/gitlab log:/var/log/gitlab; do
    mkdir -p "$data/${pair%%:*}" "${pair#*:}"
    chmod 755 "$data/${pair%%:*}"
    mount_once "${pair#*:}" "$data/${pair%%:*}" none "bind,nofail,x-systemd.requires-mounts-for=$data"
  done
}

# mount_once WHERE WHAT TYPE OPTIONS: now, and at every boot.
mount_once() {
  grep -q " $1 " /etc/fstab || printf '%s %s %s %s 0 0\n' "$2" "$1" "$3" "$4" >>/etc/fstab
  mountpoint --quiet "$1" || mount "$1"
}
