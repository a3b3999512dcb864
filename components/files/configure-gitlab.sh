# Write gitlab.rb, apply it and wait until GitLab is ready.
# Input: ADDRESS, CA_CERTIFICATE, CERTIFICATE_CHAIN, CERTIFICATE_KEY, CERTIFICATE_SOURCE, FQDN, GITLAB_RB.
main() {
  [ "$CERTIFICATE_SOURCE" = provided ] || wait_for_dns
  # Installations from before copies were kept run with what they have.
  [ -d "$WORKING_COPY" ] || [ ! -e "$SOURCE_FILE" ] || keep_copy
  trap restore_copy EXIT
  write_file /etc/gitlab/gitlab.rb 600 <<<"$GITLAB_RB"
  update_registry_hostname "$FQDN"
  trust_ca_certificate
  install_certificate
  say "gitlab: applying the configuration; this takes several minutes the first time"
  reconfigure || die "GitLab could not be configured"
  verify_served_certificate
  wait_until_ready
  keep_copy
}

SSL=/etc/gitlab/ssl
SOURCE_FILE=$SSL/slipway-source
# The files that this step owns, as GitLab last became ready with them.
WORKING_COPY=/etc/gitlab/slipway-working
OWN_FILES=(
  /etc/gitlab/gitlab.rb "$SOURCE_FILE" "$SSL/$FQDN.crt" "$SSL/$FQDN.key"
  /etc/gitlab/trusted-certs/slipway.crt /usr/local/share/ca-certificates/slipway.crt
)

keep_copy() {
  local file
  rm -rf "$WORKING_COPY.new"
  install -d -m 700 "$WORKING_COPY.new"
  for file in "${OWN_FILES[@]}"; do
    [ -e "$file" ] || continue
    mkdir -p "$(dirname "$WORKING_COPY.new$file")"
    cp --archive "$file" "$WORKING_COPY.new$file"
  done
  rm -rf "$WORKING_COPY"
  mv "$WORKING_COPY.new" "$WORKING_COPY"
}

# A failed step is not recorded in the stack. If its files stayed, setting the former settings again would change
# nothing: neither in the stack, nor here.
restore_copy() {
  local status=$? file restored=no
  [ "$status" != 0 ] && [ -d "$WORKING_COPY" ] || exit "$status"
  for file in "${OWN_FILES[@]}"; do
    cmp --silent "$file" "$WORKING_COPY$file" && continue
    [ -e "$file" ] || [ -e "$WORKING_COPY$file" ] || continue
    restored=yes
    rm -f "$file"
    [ ! -e "$WORKING_COPY$file" ] || cp --archive "$WORKING_COPY$file" "$file"
  done
  [ "$restored" = yes ] || exit "$status"
  say "gitlab: applying the previous configuration again"
  update_registry_hostname "$(sed -n "s#^external_url 'https://\([^']*\)'.*#\1#p" /etc/gitlab/gitlab.rb)"
  update-ca-certificates >/dev/null 2>&1 || true
  if reconfigure; then
    gitlab-ctl hup nginx >/dev/null || true
    say "gitlab: the previous configuration is in effect"
  fi
  exit "$status"
}

# update_registry_hostname NAME: a later step configures the registry. Until then it is turned off; after a change of
# hostname its URL follows, because no certificate can be obtained for the old hostname any more.
update_registry_hostname() {
  local registry=/etc/gitlab/registry.rb
  [ -e "$registry" ] || write_file "$registry" 600 <<<"registry['enable'] = false"
  sed -i "s#^registry_external_url 'https://[^:']*:#registry_external_url 'https://$1:#" "$registry"
}

trust_ca_certificate() {
  local gitlab=/etc/gitlab/trusted-certs/slipway.crt machine=/usr/local/share/ca-certificates/slipway.crt
  if [ -n "$CA_CERTIFICATE" ]; then
    install -d -m 755 /etc/gitlab/trusted-certs
    write_file "$gitlab" 644 <<<"$CA_CERTIFICATE"
    write_file "$machine" 644 <<<"$CA_CERTIFICATE"
  else
    rm -f "$gitlab" "$machine"
  fi
  update-ca-certificates >/dev/null 2>&1
}

install_certificate() {
  install -d -m 755 "$SSL"
  # GitLab would keep a certificate from another source until it expires.
  if [ -e "$SOURCE_FILE" ] && [ "$(cat "$SOURCE_FILE")" != "$CERTIFICATE_SOURCE" ]; then
    rm -f "$SSL/$FQDN.crt" "$SSL/$FQDN.key"
  fi
  if [ "$CERTIFICATE_SOURCE" = provided ]; then
    write_file "$SSL/$FQDN.crt" 644 <<<"$CERTIFICATE_CHAIN"
    write_file "$SSL/$FQDN.key" 600 <<<"$CERTIFICATE_KEY"
  fi
  write_file "$SOURCE_FILE" 644 <<<"$CERTIFICATE_SOURCE"
}

# A running nginx keeps using the certificate that it loaded at start, even after a reload with one that it cannot
# use; it would then not start the next time.
verify_served_certificate() {
  local port registry written deadline=$((SECONDS + 60))
  registry=$(sed -n "s#^registry_external_url 'https://[^:']*:\([0-9]*\)'.*#\1#p" /etc/gitlab/registry.rb)
  written=$(fingerprint <"$SSL/$FQDN.crt")
  for port in 443 $registry; do
    until [ "$(served_fingerprint "$port")" = "$written" ]; do
      [ "$SECONDS" -lt "$deadline" ] || die "nginx does not serve the certificate in $SSL/$FQDN.crt on port $port: $(nginx_error)"
      gitlab-ctl hup nginx >/dev/null || true
      sleep 1
    done
  done
}

fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null || true; }
served_fingerprint() {
  timeout 10 openssl s_client -connect "127.0.0.1:$1" -servername "$FQDN" </dev/null 2>/dev/null | fingerprint
}
nginx_error() {
  local found
  found=$(cat /var/log/gitlab/nginx/current /var/log/gitlab/nginx/error.log 2>/dev/null | grep '\[emerg\]' | tail -n 1)
  printf '%s' "${found:-its log names no reason; on the server, run: sudo gitlab-ctl tail nginx}"
}

wait_until_ready() {
  local deadline=$((SECONDS + 600)) answer
  until answer=$(curl --fail --silent --show-error --max-time 10 --output /dev/null --resolve "$FQDN:443:127.0.0.1" "https://$FQDN/-/readiness" 2>&1); do
    # Status 60: the certificate is served, and this machine does not accept it. Waiting would not change that.
    [ "$?" != 60 ] || die "the server itself rejects GitLab's certificate, and so would runners ($answer). If a private authority issued it, set certificate.caCertificate; if an intermediate certificate is missing, add it to certificate.chain"
    [ "$SECONDS" -lt "$deadline" ] || die "GitLab was configured, but is not ready after ten minutes ($answer); on the server, run: sudo gitlab-ctl status"
    [ $((SECONDS % 30)) != 0 ] || say "gitlab: waiting until it is ready ($answer)"
    sleep 1
  done
  say "gitlab: ready"
}
