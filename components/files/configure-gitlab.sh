# Write gitlab.rb, apply it and wait until GitLab is ready.
# Input: ADDRESS, CA_CERTIFICATE, CERTIFICATE_CHAIN, CERTIFICATE_KEY, CERTIFICATE_SOURCE, DATABASE_HOST, DATABASE_STORAGE_MIB,
# FQDN, GITLAB_RB, KEYS_PROGRAM, LDAP_CA_CERTIFICATE, OBJECT_BUCKETS, S3_ACCESS_KEY, S3_ENDPOINT, S3_REGION, S3_SECRET_KEY,
# SECRETS_JSON, SMTP_CA_CERTIFICATE, UPLOADS_PROGRAM, USES_DATABASE, USES_OBJECTS, USES_VALKEY, VALKEY_CA, VALKEY_HOST,
# VALKEY_PASSWORD, VALKEY_PORT.
main() {
  [ "$CERTIFICATE_SOURCE" = provided ] || wait_for_dns
  # Installations from before copies were kept run with what they have.
  [ -d "$WORKING_COPY" ] || [ ! -e "$SOURCE_FILE" ] || keep_copy
  [ "$USES_OBJECTS" = no ] || verify_object_buckets
  # After a failure in the opposite order.
  at_exit resume_services
  at_exit restore_copy
  at_exit take_back
  [ "$USES_OBJECTS" = yes ] || [ -z "$OBJECT_BUCKETS" ] || return_objects
  move_databases
  write_secrets
  write_file /etc/gitlab/gitlab.rb 600 <<<"$GITLAB_RB"
  update_registry_hostname "$FQDN"
  trust_ca_certificate
  trust_one "$SMTP_CA" "$SMTP_CA_CERTIFICATE"
  trust_one "$LDAP_CA" "$LDAP_CA_CERTIFICATE"
  trust_valkey
  install_certificate
  [ "$CERTIFICATE_SOURCE" = provided ] || ! certificate_is_due || require_authority
  [ "$returned" = yes ] || start_services
  applied=yes
  say "gitlab: applying the configuration; this takes several minutes the first time"
  apply || die "GitLab could not be configured"
  resume_services
  [ "$returned" = no ] || start_services
  verify_served_certificate
  wait_until_ready
  keep_copy
}

# A package whose upgrade failed has stopped GitLab's services. A reconfigure starts only new ones, and the certificate is
# renewed only while nginx runs. What stands still for a move of the databases is started by whoever ends it.
start_services() {
  [ "$stopped" = yes ] || [ ! -e /var/opt/gitlab/bootstrapped ] || gitlab-ctl start >/dev/null 2>&1 || true
}

# verify_object_buckets: nothing is changed before GitLab's own key has done in each bucket what GitLab does.
verify_object_buckets() {
  local one
  S3_OWNER=GitLab
  for one in $OBJECT_BUCKETS; do
    S3_BUCKET=${one#*=}
    verify_bucket
  done
}

# The types that GitLab can move back. For the others it has no task (GitLab 19, lib/tasks/gitlab).
MOVED_BACK_BY=(
  "artifacts gitlab-rake gitlab:artifacts:migrate_to_local"
  "lfs gitlab-rake gitlab:lfs:migrate_to_local"
  "uploads move_uploads 1"
)

# return_objects: GitLab's files go back to the data volume before gitlab.rb turns object storage off: from then on, GitLab
# could not read them. It must not add any meanwhile, so it stands still until it is configured, even if there are none
# (GitLab, uploads migrate Rake tasks). A run that was killed may have written gitlab.rb already; the copy is older.
return_objects() {
  local entry type words left
  grep -qs "^gitlab_rails\['object_store'\]\['enabled'\] = true" /etc/gitlab/gitlab.rb "$WORKING_COPY/etc/gitlab/gitlab.rb" || return 0
  S3_OWNER=GitLab
  require_way_back
  if [ "$stopped" = yes ]; then
    # The tasks would write to the database that was configured last, which may not be the one that counts.
    [ "$objects_bytes" = 0 ] || die "GitLab's databases are between two servers, and its files in object storage come back only after that; nothing was changed. Set objectStorage.storage to spaces again until an update has succeeded"
    return 0
  fi
  say "objects: GitLab stands still while $((objects_bytes / 1048576)) MB move to the data volume"
  returned=yes
  at_exit start_services
  gitlab-ctl stop puma >/dev/null || true
  gitlab-ctl stop sidekiq >/dev/null 2>&1 || true
  # Again: what has come since.
  require_way_back
  for entry in "${MOVED_BACK_BY[@]}"; do
    read -ra words <<<"$entry"
    type=${words[0]}
    run_task "$type" "${words[@]:1}" || die "files of $type could not be moved to the data volume ($cause); GitLab runs on with object storage, and the next update goes on with them. The full log is $TASK_LOG on the server"
    left=$(bucket_bytes "$(bucket_of "$type")") || exit "$NAMED"
    [ "$left" = 0 ] || say "objects: bucket $(bucket_of "$type") has $left bytes left that belong to nothing in GitLab"
  done
  say "objects: GitLab's files are on the data volume"
}

# require_way_back: nothing is changed unless all files can come back. Sets `objects_bytes`, which is what they need.
require_way_back() {
  local entry type bytes free stuck=""
  objects_bytes=0
  for entry in $OBJECT_BUCKETS; do
    type=${entry%%=*}
    bytes=$(bucket_bytes "${entry#*=}") || exit "$NAMED"
    objects_bytes=$((objects_bytes + bytes))
    [ "$bytes" = 0 ] || grep -q "^$type " < <(printf '%s\n' "${MOVED_BACK_BY[@]}") || stuck+="${stuck:+, }$type"
  done
  [ -z "$stuck" ] || die "GitLab cannot move its files of these types back to the data volume: $stuck; nothing was changed. Delete them in GitLab, or set objectStorage.storage to spaces again"
  free=$(df --output=avail --block-size=1 /var/opt/gitlab | tail -n 1 | tr -dc 0-9)
  [ "$free" -gt $((objects_bytes + objects_bytes / 10 + 1073741824)) ] ||
    die "the data volume has $((free / 1048576)) MB left, and GitLab's files in object storage have $((objects_bytes / 1048576)) MB; nothing was changed. Increase server.volumeSizeGb"
}

# bucket_bytes BUCKET: print how many bytes are in a bucket, without uploads in progress; objects of no bytes count as one.
bucket_bytes() {
  local S3_BUCKET=$1 body token='' total=0 size
  body=$(mktemp)
  while :; do
    s3 GET "?${token:+continuation-token=$token&}list-type=2" "list" ListBucket "$body"
    while read -r size; do
      total=$((total + (size > 0 ? size : 1)))
    done < <(sed 's/<Contents>/\n&/g' "$body" | grep '<Contents>' | grep -v '<Key>tmp/' | sed -n 's/.*<Size>\([0-9]*\)<.*/\1/p')
    token=$(s3_next_page "$body")
    [ -n "$token" ] || break
  done
  rm -f "$body"
  echo "$total"
}

# Within 30 days of its end, GitLab renews a certificate whenever it is configured, and fails if it cannot.
certificate_is_due() {
  ! openssl x509 -noout -checkend $((30 * 86400)) -in "$SSL/$FQDN.crt" >/dev/null 2>&1
}

# require_authority: without an answer, GitLab would stop half way, in a page of output.
require_authority() {
  local directory=$CERTIFICATE_SOURCE answer
  [ "$directory" != lets-encrypt ] || directory=https://acme-v02.api.letsencrypt.org/directory
  answer=$(curl --fail --silent --show-error --max-time 30 --retry 3 --retry-all-errors --output /dev/null "$directory" 2>&1) ||
    die "this machine cannot reach the certificate authority at $directory ($answer), and a certificate is due; nothing was applied. Run the update again once the authority answers"
}

# Whether the files of this step may be in effect already.
applied=no
# Whether GitLab stands still until it is configured without object storage.
returned=no
SSL=/etc/gitlab/ssl
SOURCE_FILE=$SSL/slipway-source
# What gitlab.rb reads its secrets from. A message of Ruby about an error quotes the line, and no other file.
SECRETS=/etc/gitlab/slipway-secrets.json
# GitLab checks the certificates of the mail server and of the directory with one file each, instead of the authorities that
# it trusts otherwise.
SMTP_CA=$SSL/slipway-smtp.crt
LDAP_CA=$SSL/slipway-ldap.crt
# Beside the public authorities, whoever of GitLab connects to Valkey trusts the account's own.
VALKEY_TRUST=/etc/gitlab/trusted-certs/slipway-valkey.crt
# The files that this step owns, as GitLab last became ready with them.
WORKING_COPY=/etc/gitlab/slipway-working
OWN_FILES=(
  /etc/gitlab/gitlab.rb "$SECRETS" "$SOURCE_FILE" "$SSL/$FQDN.crt" "$SSL/$FQDN.key"
  "$SMTP_CA" "$LDAP_CA" "$VALKEY_TRUST" /etc/gitlab/trusted-certs/slipway.crt /usr/local/share/ca-certificates/slipway.crt
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
  local file restored=no
  [ "$exit_status" != 0 ] && [ -d "$WORKING_COPY" ] || return 0
  if has_moved_before; then
    say "gitlab: its databases have moved already, and the configuration stays for them; the next update goes on with it"
    return
  fi
  for file in "${OWN_FILES[@]}"; do
    cmp --silent "$file" "$WORKING_COPY$file" && continue
    [ -e "$file" ] || [ -e "$WORKING_COPY$file" ] || continue
    restored=yes
    rm -f "$file"
    [ ! -e "$WORKING_COPY$file" ] || cp --archive "$WORKING_COPY$file" "$file"
  done
  # What a run that was killed has applied is to be replaced even if its files have been.
  if [ "$stopped" = yes ] && [ "$in_effect" != "$(counting_servers)" ]; then restored=yes applied=yes; fi
  [ "$restored" = yes ] || return 0
  update_registry_hostname "$(sed -n "s#^external_url 'https://\([^']*\)'.*#\1#p" /etc/gitlab/gitlab.rb)"
  update-ca-certificates >/dev/null 2>&1 || true
  [ "$applied" = yes ] || return 0
  say "gitlab: applying the previous configuration again"
  if apply; then
    gitlab-ctl hup nginx >/dev/null || true
    say "gitlab: the previous configuration is in effect"
  fi
}

# update_registry_hostname NAME: a later step configures the registry. Until then it is turned off; after a change of
# hostname its URL follows, because no certificate can be obtained for the old hostname any more.
update_registry_hostname() {
  local registry=/etc/gitlab/registry.rb
  [ -e "$registry" ] || write_file "$registry" 600 <<<"registry['enable'] = false"
  sed -i "s#^registry_external_url 'https://[^:']*:#registry_external_url 'https://$1:#" "$registry"
}

write_secrets() {
  if [ -n "$SECRETS_JSON" ]; then write_file "$SECRETS" 600 <<<"$SECRETS_JSON"; else rm -f "$SECRETS"; fi
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

# trust_one FILE CERTIFICATE: without a certificate there is no file.
trust_one() {
  [ -n "$2" ] || { rm -f "$1"; return; }
  install -d -m 755 "$SSL"
  write_file "$1" 644 <<<"$2"
}

trust_valkey() {
  if [ "$USES_VALKEY" = yes ]; then
    install -d -m 755 /etc/gitlab/trusted-certs
    write_file "$VALKEY_TRUST" 644 <<<"$VALKEY_CA"
  else
    rm -f "$VALKEY_TRUST"
  fi
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
