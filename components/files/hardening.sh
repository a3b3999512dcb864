# Functions that every machine is hardened with. Input: ADMIN_USER, AUTHORIZED_KEYS, PUBLIC_PORTS.
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
  command -v ufw >/dev/null || { say "firewall: installing ufw"; install_packages ufw; }
  local rules port applied=/etc/ufw/slipway.rules
  rules=$(for port in 22 $PUBLIC_PORTS; do echo "allow $port/tcp"; done)
  if ! cmp --silent - "$applied" <<<"$rules" || ! ufw status | grep -q '^Status: active'; then
    say "firewall: closing every port but 22 $PUBLIC_PORTS"
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
