# Write gitlab.rb, apply it and wait until GitLab is ready.
# Input: ADDRESS, CA_CERTIFICATE, CERTIFICATE_CHAIN, CERTIFICATE_KEY, CERTIFICATE_SOURCE, FQDN, GITLAB_RB.
main() {
  [ "$CERTIFICATE_SOURCE" = provided ] || wait_for_dns
  write_file /etc/gitlab/gitlab.rb 600 <<<"$GITLAB_RB"
  update_registry_hostname
  trust_ca_certificate
  install_certificate
  say "gitlab: applying the configuration; this takes several minutes the first time"
  reconfigure || die "GitLab could not be configured"
  # A running nginx keeps using the certificate that it loaded at start.
  [ "$renewed" = no ] || gitlab-ctl hup nginx >/dev/null
  wait_until_ready
}

# Let's Encrypt resolves the name: without the record the request fails and counts against a rate limit.
wait_for_dns() {
  local deadline=$((SECONDS + 600)) found announced=no
  until found=$(getent ahostsv4 "$FQDN" | awk '{ print $1 }') && grep -qxF "$ADDRESS" <<<"$found"; do
    [ "$SECONDS" -lt "$deadline" ] || die "$FQDN does not resolve to $ADDRESS after ten minutes; do the domain's name servers belong to the DNS provider?"
    [ "$announced" = yes ] || say "gitlab: waiting for $FQDN to resolve to $ADDRESS"
    announced=yes
    sleep 5
  done
}

# A later step configures the registry. Until then it is turned off; after a change of hostname its URL follows, because
# no certificate can be obtained for the old hostname any more.
update_registry_hostname() {
  local registry=/etc/gitlab/registry.rb
  [ -e "$registry" ] || write_file "$registry" 600 <<<"registry['enable'] = false"
  sed -i "s#^registry_external_url 'https://[^:']*:#registry_external_url 'https://$FQDN:#" "$registry"
}

trust_ca_certificate() {
  [ -n "$CA_CERTIFICATE" ] || return 0
  install -d -m 755 /etc/gitlab/trusted-certs
  write_file /etc/gitlab/trusted-certs/slipway.crt 644 <<<"$CA_CERTIFICATE"
  write_file /usr/local/share/ca-certificates/slipway.crt 644 <<<"$CA_CERTIFICATE"
  update-ca-certificates >/dev/null 2>&1
}

install_certificate() {
  local ssl=/etc/gitlab/ssl source_file=/etc/gitlab/ssl/slipway-source
  renewed=no
  install -d -m 755 "$ssl"
  # GitLab would keep a certificate from another source until it expires.
  if [ -e "$source_file" ] && [ "$(cat "$source_file")" != "$CERTIFICATE_SOURCE" ]; then
    rm -f "$ssl/$FQDN.crt" "$ssl/$FQDN.key"
    renewed=yes
  fi
  if [ "$CERTIFICATE_SOURCE" = provided ]; then
    write_file "$ssl/$FQDN.crt" 644 <<<"$CERTIFICATE_CHAIN"
    [ "$changed" = no ] || renewed=yes
    write_file "$ssl/$FQDN.key" 600 <<<"$CERTIFICATE_KEY"
    [ "$changed" = no ] || renewed=yes
  fi
  write_file "$source_file" 644 <<<"$CERTIFICATE_SOURCE"
}

wait_until_ready() {
  local deadline=$((SECONDS + 600))
  until curl --fail --silent --max-time 10 --output /dev/null --resolve "$FQDN:443:127.0.0.1" "https://$FQDN/-/readiness"; do
    [ "$SECONDS" -lt "$deadline" ] || die "GitLab was configured, but is not ready after ten minutes; on the server, run: sudo gitlab-ctl status"
    sleep 1
  done
  say "gitlab: ready"
}
