# Install DigitalOcean's metrics agent from its own archive, as its own installer does. It updates itself from there.
# Input: AGENT_PACKAGES_URL.
main() {
  local key=/etc/apt/keyrings/digitalocean-agent.asc source=/etc/apt/sources.list.d/digitalocean-agent.list download new
  command -v curl >/dev/null || install_packages ca-certificates curl
  install -d -m 755 /etc/apt/keyrings
  # DigitalOcean publishes no fingerprint of this key, so it is trusted for what TLS says: for its own archive alone.
  download=$(mktemp)
  at_exit rm -f "$download"
  curl --fail --silent --show-error --location --retry 3 --max-time 60 --output "$download" "$AGENT_PACKAGES_URL/sonar-agent.asc" ||
    die "the signing key of DigitalOcean's metrics agent could not be downloaded from $AGENT_PACKAGES_URL; disk, memory and load of this machine would not be watched"
  write_file "$key" 644 <"$download"
  write_file "$source" 644 <<<"deb [signed-by=$key] $AGENT_PACKAGES_URL/apt/do-agent main main"
  new=$changed
  if [ "$new" = yes ] || ! systemctl is-active --quiet do-agent; then
    say "metrics: installing DigitalOcean's agent"
    install_packages do-agent || die "do-agent could not be installed; disk, memory and load of this machine would not be watched"
  fi
  systemctl is-active --quiet do-agent || systemctl restart do-agent || die "the service do-agent does not start; read: journalctl -u do-agent"
  say "metrics: the agent is running"
}
