# Write gitlab.rb, apply it and wait until GitLab is ready.
# Input: ADDRESS, ADMIN_PASSWORD, CERTIFICATE_CHAIN, CERTIFICATE_KEY, FQDN, GITLAB_RB, WAIT_FOR_DNS.
main() {
  [ "$WAIT_FOR_DNS" = no ] || wait_for_dns
  write_file /etc/gitlab/gitlab.rb 600 <<<"$GITLAB_RB" || true
  # The registry's own settings come later; until then there is none.
  [ -e /etc/gitlab/registry.rb ] || write_file /etc/gitlab/registry.rb 600 <<<"registry['enable'] = false"
  install_certificate
  say "gitlab: applying the configuration; this takes minutes the first time"
  # Counts at the very first run only, when the database is seeded.
  export GITLAB_ROOT_PASSWORD=$ADMIN_PASSWORD
  reconfigure
  unset GITLAB_ROOT_PASSWORD
  wait_until_ready
}

# Let's Encrypt looks the name up: without the record it fails, and counts the failure against a limit.
wait_for_dns() {
  local tries=0
  until getent ahostsv4 "$FQDN" | awk '{ print $1 }' | grep -qxF "$ADDRESS"; do
    tries=$((tries + 1))
    [ "$tries" -le 120 ] || die "$FQDN does not resolve to $ADDRESS after ten minutes; are the domain's name servers those of the DNS provider?"
    [ "$tries" != 1 ] || say "gitlab: waiting for $FQDN to resolve to $ADDRESS"
    sleep 5
  done
}

install_certificate() {
  [ -n "$CERTIFICATE_CHAIN" ] || return 0
  install -d -m 755 /etc/gitlab/ssl
  write_file "/etc/gitlab/ssl/$FQDN.crt" 644 <<<"$CERTIFICATE_CHAIN" || true
  write_file "/etc/gitlab/ssl/$FQDN.key" 600 <<<"$CERTIFICATE_KEY" || true
}

wait_until_ready() {
  local tries=0
  until curl --fail --silent --max-time 10 --output /dev/null --resolve "$FQDN:443:127.0.0.1" "https://$FQDN/-/readiness"; do
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || die "GitLab was configured, but is not ready after ten minutes; see: sudo gitlab-ctl status"
    sleep 1
  done
  say "gitlab: ready"
}
