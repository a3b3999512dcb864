# Functions that harden a machine. Input: ADMIN_USER, AUTHORIZED_KEYS, PUBLIC_PORTS.
remove_first_contact_keys() {
  # Anybody who can read user_data knows the ECDSA key.
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
# A step may be silent for minutes; a connection whose client has disappeared is closed.
ClientAliveInterval 30
ClientAliveCountMax 10
# The git user, which GitLab creates, must be able to log in, too; GitLab restricts what it can do.
AllowUsers $ADMIN_USER git
CONFIG
  local home
  home=$(getent passwd "$ADMIN_USER" | cut -d: -f6)
  write_file "$home/.ssh/authorized_keys" 600 "$ADMIN_USER:$ADMIN_USER" <<<"$AUTHORIZED_KEYS"
  passwd --lock --quiet root
  sshd -t || die "sshd rejects its new configuration; it was not reloaded"
  systemctl reload-or-restart ssh
}

# Which addresses may use SSH is up to the cloud firewall: it can be changed without SSH, this one cannot.
configure_firewall() {
  command -v ufw >/dev/null || { say "firewall: installing ufw"; install_packages ufw; }
  local rules port applied=/etc/ufw/slipway.rules
  rules=$(for port in 22 $PUBLIC_PORTS; do echo "allow $port/tcp"; done)
  if ! cmp --silent - "$applied" <<<"$rules" || ! ufw status | grep -q '^Status: active'; then
    say "firewall: closing all ports except 22${PUBLIC_PORTS:+ $PUBLIC_PORTS}"
    ufw --force reset >/dev/null
    ufw default deny incoming >/dev/null
    ufw default allow outgoing >/dev/null
    while read -r rule; do
      # Word splitting is intended: each word of the rule is an argument.
      # shellcheck disable=SC2086
      ufw $rule >/dev/null
    done <<<"$rules"
    ufw --force enable >/dev/null
    # Written last: an interrupted run starts over.
    write_file "$applied" 600 <<<"$rules"
  fi
}
