# Harden a machine for applications, install Docker and Docker Compose, and let deploy jobs in.
# Input: ADMIN_USER, APT_CONF, AUTHORIZED_KEYS, BANNER, CA_CERTIFICATE, COREDUMP_CONF, DEPLOY_KEY, DEPLOY_SSHD_CONF,
# DEPLOY_USER, FAIL2BAN_CONF, HOSTNAME, LIMITS_CONF, MODPROBE_CONF, PUBLIC_PORTS, REGISTRY, SSHD_CONF, SYSCTL_CONF.
main() {
  remove_first_contact_keys
  harden_ssh
  hostnamectl set-hostname "$HOSTNAME"
  harden_system
  configure_firewall
  close_other_ports
  install_docker
  install_compose
  trust_registry
  admit_deploy_user
  say "target: machine ready"
}

# install_compose: Ubuntu calls it docker-compose-v2, and Debian docker-compose, which is version 1 in Debian 12. The
# settings refuse what needs it there.
install_compose() {
  local name version
  ! docker compose version >/dev/null 2>&1 || return 0
  for name in docker-compose-v2 docker-compose; do
    version=$(apt-cache madison "$name" | awk 'NR == 1 { print $3 }')
    case $version in
      "" | 1.*) ;;
      *) say "target: installing $name $version"; install_packages "$name"; return ;;
    esac
  done
  say "target: no package of this release has version 2 of Docker Compose, so it is left out"
}

trust_registry() {
  local folder=/etc/docker/certs.d/$REGISTRY
  [ -n "$CA_CERTIFICATE" ] || { rm -rf "$folder"; return; }
  install -d -m 755 /etc/docker/certs.d "$folder"
  write_file "$folder/ca.crt" 644 <<<"$CA_CERTIFICATE"
}

# admit_deploy_user: it may use Docker, which is as good as being root on this machine; it has no password and no sudo.
admit_deploy_user() {
  local home
  id "$DEPLOY_USER" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$DEPLOY_USER"
  usermod --append --groups docker "$DEPLOY_USER"
  home=$(getent passwd "$DEPLOY_USER" | cut -d: -f6)
  install -d -m 700 -o "$DEPLOY_USER" -g "$DEPLOY_USER" "$home/.ssh"
  write_file "$home/.ssh/authorized_keys" 600 "$DEPLOY_USER:$DEPLOY_USER" <<<"$DEPLOY_KEY"
  write_checked /etc/ssh/sshd_config.d/20-slipway-deploy.conf 644 sshd -t <<<"$DEPLOY_SSHD_CONF" ||
    die "sshd rejects its new configuration; the previous one stays"
  systemctl reload-or-restart ssh
}
