# Write gitlab.rb, apply it and wait until GitLab is ready.
# Input: ADDRESS, CERTIFICATE_AUTHORITY, CERTIFICATE_CHAIN, CERTIFICATE_KEY, CERTIFICATE_SOURCE, FQDN, GITLAB_RB.
main() {
  [ "$CERTIFICATE_SOURCE" = provided ] || wait_for_dns
  write_file /etc/gitlab/gitlab.rb 600 <<<"$GITLAB_RB"
  follow_name
  trust_authority
  install_certificate
  say "gitlab: applying the configuration; this takes minutes the first time"
  reconfigure || die "GitLab is not configured"
  # A running nginx goes on with the certificate that it has read.
  [ "$renewed" = no ] || gitlab-ctl hup nginx >/dev/null
  wait_until_ready
}

# Let's Encrypt looks the name up: without the record it fails, and counts the failure against a limit.
wait_for_dns() {
  local deadline=$((SECONDS + 600)) found told=no
  until found=$(getent ahostsv4 "$FQDN" | awk '{ print $1 }') && grep -qxF "$ADDRESS" <<<"$found"; do
    [ "$SECONDS" -lt "$deadline" ] || die "$FQDN does not resolve to $ADDRESS after ten minutes; are the domain's name servers those of the DNS provider?"
    [ "$told" = yes ] || say "gitlab: waiting for $FQDN to resolve to $ADDRESS"
    told=yes
    sleep 5
  done
}

# The registry's own settings come later. Until then there is none, and after a change of name it goes by the new one:
# a certificate for the old name could not be had any more.
follow_name() {
  local registry=/etc/gitlab/registry.rb
  [ -e "$registry" ] || write_file "$registry" 600 <<<"registry['enable'] = false"
  sed -i "s#^registry_external_url 'https://[^:']*:#registry_external_url 'https://$FQDN:#" "$registry"
}

trust_authority() {
  [ -n "$CERTIFICATE_AUTHORITY" ] || return 0
  install -d -m 755 /etc/gitlab/trusted-certs
  write_file /etc/gitlab/trusted-certs/slipway.crt 644 <<<"$CERTIFICATE_AUTHORITY"
  write_file /usr/local/share/ca-certificates/slipway.crt 644 <<<"$CERTIFICATE_AUTHORITY"
  update-ca-certificates >/dev/null 2>&1
}

install_certificate() {
  local ssl=/etc/gitlab/ssl remembered=/etc/gitlab/ssl/slipway-source
  renewed=no
  install -d -m 755 "$ssl"
  # A certificate from elsewhere would be kept until it runs out.
  if [ -e "$remembered" ] && [ "$(cat "$remembered")" != "$CERTIFICATE_SOURCE" ]; then
    rm -f "$ssl/$FQDN.crt" "$ssl/$FQDN.key"
    renewed=yes
  fi
  if [ "$CERTIFICATE_SOURCE" = provided ]; then
    write_file "$ssl/$FQDN.crt" 644 <<<"$CERTIFICATE_CHAIN"
    [ "$changed" = no ] || renewed=yes
    write_file "$ssl/$FQDN.key" 600 <<<"$CERTIFICATE_KEY"
    [ "$changed" = no ] || renewed=yes
  fi
  write_file "$remembered" 644 <<<"$CERTIFICATE_SOURCE"
}

wait_until_ready() {
  local deadline=$((SECONDS + 600))
  until curl --fail --silent --max-time 10 --output /dev/null --resolve "$FQDN:443:127.0.0.1" "https://$FQDN/-/readiness"; do
    [ "$SECONDS" -lt "$deadline" ] || die "GitLab was configured, but is not ready after ten minutes; see: sudo gitlab-ctl status"
    sleep 1
  done
  say "gitlab: ready"
}
