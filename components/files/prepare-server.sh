# Harden the server and mount its data.
# Input: ADMIN_USER, AUTHORIZED_KEYS, FQDN, PUBLIC_PORTS, VOLUME_NAME, VOLUME_SIZE_GB.
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
  write_file /etc/ssh/sshd_config.d/10-slipway.conf 644 <<CONFIG
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
X11Forwarding no
# A step may be silent for minutes; a connection that nobody hears of any more is ended.
ClientAliveInterval 30
ClientAliveCountMax 10
# The git user that GitLab makes logs in as well; GitLab decides what it may do.
AllowUsers $ADMIN_USER git
CONFIG
  local home
  home=$(getent passwd "$ADMIN_USER" | cut -d: -f6)
  write_file "$home/.ssh/authorized_keys" 600 "$ADMIN_USER:$ADMIN_USER" <<<"$AUTHORIZED_KEYS"
  passwd --lock --quiet root
  sshd -t || die "sshd would not start with its new configuration; nothing was reloaded"
  systemctl reload-or-restart ssh
}

# Who may use SSH is the cloud firewall's affair: it can be changed without SSH, this one cannot.
close_ports() {
  command -v ufw >/dev/null || { say "server: installing ufw"; install_packages ufw; }
  local rules port applied=/etc/ufw/slipway.rules
  rules=$(for port in 22 $PUBLIC_PORTS; do echo "allow $port/tcp"; done)
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
    write_file "$applied" 600 <<<"$rules"
  fi
}

mount_data() {
  local device=/dev/disk/by-id/scsi-0DO_Volume_$VOLUME_NAME data=/mnt/gitlab deadline=$((SECONDS + 60))
  # Attached a moment ago: udev shows it within seconds.
  until [ -e "$device" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "volume $VOLUME_NAME is attached, but $device does not appear"
    sleep 0.5
  done
  # Made here and not by the service, which would mount a file system of its own making in a second place.
  [ -n "$(blkid -p -s TYPE -o value "$device")" ] || mkfs.ext4 -q "$device"
  install -d -m 755 "$data"
  mount_once "$data" "$device" ext4 defaults,nofail,discard,noatime
  # The volume may have grown since; the file system follows.
  resize2fs "$device" >/dev/null 2>&1 || die "the file system of volume $VOLUME_NAME does not grow to $VOLUME_SIZE_GB GiB"
  local pair
  for pair in etc:/etc/gitlab opt:/var/opt/gitlab log:/var/log/gitlab; do
    install -d -m 755 "$data/${pair%%:*}" "${pair#*:}"
    mount_once "${pair#*:}" "$data/${pair%%:*}" none "bind,nofail,x-systemd.requires-mounts-for=$data"
  done
}

# mount_once WHERE WHAT TYPE OPTIONS: now, and at every boot.
mount_once() {
  grep -q " $1 " /etc/fstab || printf '%s %s %s %s 0 0\n' "$2" "$1" "$3" "$4" >>/etc/fstab
  mountpoint --quiet "$1" || mount "$1"
}
