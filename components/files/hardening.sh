# Functions that harden a machine. Input: ADMIN_USER, AUTHORIZED_KEYS, PUBLIC_PORTS, and the files of the folder hardening:
# SSHD_CONF, FAIL2BAN_CONF, APT_CONF, SYSCTL_CONF, MODPROBE_CONF, LIMITS_CONF, COREDUMP_CONF, BANNER.
remove_first_contact_keys() {
  # Anybody who can read user_data knows the ECDSA key.
  rm -f /etc/ssh/ssh_host_ecdsa_key /etc/ssh/ssh_host_ecdsa_key.pub
  rm -f /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_rsa_key.pub
}

harden_ssh() {
  # With a configuration that it rejects, sshd would not start again after a reboot. The git user, which GitLab creates, must
  # be able to log in, too; GitLab restricts what it can do. Its people may have several keys, of which the right one is
  # tried last.
  write_checked /etc/ssh/sshd_config.d/10-slipway.conf 644 sshd -t <<CONFIG || die "sshd rejects its new configuration; the previous one stays"
$SSHD_CONF
AllowUsers $ADMIN_USER git
Match User git
  MaxAuthTries 6
CONFIG
  local home
  home=$(getent passwd "$ADMIN_USER" | cut -d: -f6)
  write_file "$home/.ssh/authorized_keys" 600 "$ADMIN_USER:$ADMIN_USER" <<<"$AUTHORIZED_KEYS"
  passwd --lock --quiet root
  systemctl reload-or-restart ssh
}

# The kernel, and what the machine does by itself: updates, and blocking whoever guesses.
harden_system() {
  write_file /etc/sysctl.d/60-slipway.conf 644 <<<"$SYSCTL_CONF"
  sysctl --quiet --ignore --load=/etc/sysctl.d/60-slipway.conf >&2 || die "the kernel rejects a setting in /etc/sysctl.d/60-slipway.conf"
  write_file /etc/modprobe.d/60-slipway.conf 644 <<<"$MODPROBE_CONF"
  write_file /etc/security/limits.d/60-slipway.conf 644 <<<"$LIMITS_CONF"
  install -d -m 755 /etc/systemd/coredump.conf.d
  write_file /etc/systemd/coredump.conf.d/60-slipway.conf 644 <<<"$COREDUMP_CONF"
  write_file /etc/issue 644 <<<"$BANNER"
  write_file /etc/issue.net 644 <<<"$BANNER"
  # For whoever sets a password nevertheless.
  set_value /etc/login.defs PASS_MIN_DAYS 1
  set_value /etc/login.defs SHA_CRYPT_MIN_ROUNDS 100000
  set_value /etc/login.defs SHA_CRYPT_MAX_ROUNDS 100000
  write_file /etc/apt/apt.conf.d/60slipway 644 <<<"$APT_CONF"
  install -d -m 755 /etc/fail2ban
  write_file /etc/fail2ban/jail.local 644 <<<"$FAIL2BAN_CONF"
  local new=$changed
  install_hardening
  [ "$new" = no ] || systemctl restart fail2ban || die "fail2ban does not start with /etc/fail2ban/jail.local"
}

# set_value FILE NAME VALUE: set it in a file of lines "NAME VALUE" that belongs to a package.
set_value() {
  grep -qE "^$2[[:space:]]+$3\$" "$1" || { sed -i -E "/^$2[[:space:]]/d" "$1"; printf '%s\t%s\n' "$2" "$3" >>"$1"; }
}

# Which addresses may use SSH is up to the cloud firewall: it can be changed without SSH, this one cannot. Ports that were
# open stay open until a step calls `close_other_ports`: something may still be served there.
configure_firewall() {
  # The kernel's settings have one owner, `harden_system`: ufw would set some of them back at each boot.
  sed -i 's/^IPT_SYSCTL=.*/IPT_SYSCTL=/' /etc/default/ufw
  local added
  if [ -e "$APPLIED_RULES" ] && ufw status | grep -q '^Status: active'; then
    added=$(rules_of_ports | grep -vxF -f "$APPLIED_RULES") || return 0
    say "firewall: opening ${added//$'\n'/, }"
    apply_rules "" <<<"$added"
    { cat "$APPLIED_RULES"; printf '%s\n' "$added"; } | write_file "$APPLIED_RULES" 600
    return
  fi
  say "firewall: closing all ports except 22${PUBLIC_PORTS:+ $PUBLIC_PORTS}"
  ufw --force reset >/dev/null
  ufw default deny incoming >/dev/null
  ufw default allow outgoing >/dev/null
  rules_of_ports | apply_rules ""
  ufw --force enable >/dev/null
  # Written last: an interrupted run starts over.
  rules_of_ports | write_file "$APPLIED_RULES" 600
}
