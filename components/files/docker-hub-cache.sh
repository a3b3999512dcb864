# Functions that let a machine keep what it and its jobs pull from Docker Hub. CACHE_URL, as jobs know it, is empty on a
# machine without such a cache. Input: CACHE_CONFIG, CACHE_PROGRAM, CACHE_SERVICE, CACHE_URL.
readonly CACHE_UNIT=slipway-docker-hub-cache.service
readonly CACHE_SETTINGS=/etc/slipway/docker-hub-cache CACHE_DATA=/var/cache/slipway/docker-hub
readonly CACHE_AUTHORITIES=/etc/docker/certs.d

# cache_address: the address of this machine on Docker's bridge, and the port. The machine itself does not know the name.
cache_address() {
  local address
  address=$(ip -4 -oneline address show dev docker0 scope global | awk '{ print $4; exit }')
  printf '%s:%s\n' "${address%/*}" "${CACHE_URL##*:}"
}

# install_cache: that it does not serve is no reason to stop. Docker and Buildah turn to Docker Hub then.
install_cache() {
  local is_new=no
  install -d -m 755 /etc/slipway
  install -d -m 700 "$CACHE_SETTINGS" /var/cache/slipway "$CACHE_DATA"
  ensure_certificate
  write_file "$CACHE_SETTINGS/config.yml" 600 <<<"$CACHE_CONFIG"
  [ "$changed" = no ] || is_new=yes
  write_file /usr/local/sbin/slipway-docker-hub-cache 755 <<<"$CACHE_PROGRAM"
  [ "$changed" = no ] || is_new=yes
  write_file "/etc/systemd/system/$CACHE_UNIT" 644 <<<"$CACHE_SERVICE"
  [ "$changed" = no ] || is_new=yes
  systemctl daemon-reload
  systemctl enable --quiet --now "$CACHE_UNIT"
  [ "$is_new" = no ] || systemctl restart "$CACHE_UNIT"
  await_cache || say "runner: the cache of Docker Hub does not serve yet, so jobs pull from Docker Hub itself. It is started again and again; to find out more, run on the machine: sudo journalctl -u $CACHE_UNIT"
}

# ensure_certificate: containers of other jobs are on the same bridge and could answer in its place. It vouches for itself
# and for nothing else, so that trust in it is no trust in whoever has its key. Sets `is_new` to yes for another one.
ensure_certificate() {
  local address name folder
  address=$(cache_address)
  name=${CACHE_URL#https://}
  if [ "$(cat "$CACHE_SETTINGS/names" 2>/dev/null)" != "$name $address" ] ||
    ! openssl x509 -noout -checkend $((365 * 86400)) -in "$CACHE_SETTINGS/certificate.pem" >/dev/null 2>&1; then
    certificate_request "${name%:*}" "${address%:*}" >"$CACHE_SETTINGS/request.conf"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -config "$CACHE_SETTINGS/request.conf" \
      -keyout "$CACHE_SETTINGS/key.pem" -out "$CACHE_SETTINGS/certificate.pem" 2>/dev/null ||
      die "openssl could not create a certificate for the cache of Docker Hub; set runners[].dockerHubCache to false to do without"
    printf '%s\n' "$name $address" >"$CACHE_SETTINGS/names"
    is_new=yes
  fi
  # Where Docker before 29 and Buildah look, and where Docker looks since then, which asks all mirrors as it asks Docker Hub.
  for folder in "$name" "$address" docker.io; do
    install -d -m 755 "$CACHE_AUTHORITIES/$folder"
    write_file "$CACHE_AUTHORITIES/$folder/docker-hub-cache.crt" 644 <"$CACHE_SETTINGS/certificate.pem"
  done
}

# certificate_request NAME ADDRESS
certificate_request() {
  cat <<REQUEST
[req]
prompt = no
distinguished_name = subject
x509_extensions = extensions
[subject]
CN = Cache of Docker Hub
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:$1, IP:$2
REQUEST
}

await_cache() {
  local deadline=$((SECONDS + 60)) address
  address=$(cache_address)
  until curl --silent --fail --max-time 5 --output /dev/null --noproxy '*' --cacert "$CACHE_SETTINGS/certificate.pem" "https://$address/v2/"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

# remove_cache: with all that it has stored. The engine no longer knows it by then.
remove_cache() {
  local unit=/etc/systemd/system/$CACHE_UNIT image
  [ -e "$unit" ] || return 0
  say "runner: removing the cache of Docker Hub, and what it has stored"
  image=$(sed -n 's/^Environment=IMAGE=//p' "$unit")
  systemctl disable --quiet --now "$CACHE_UNIT"
  rm -f "$CACHE_AUTHORITIES"/*/docker-hub-cache.crt
  find "$CACHE_AUTHORITIES" -mindepth 1 -type d -empty -delete
  rm -rf "$CACHE_SETTINGS" "$CACHE_DATA" /usr/local/sbin/slipway-docker-hub-cache
  [ -z "$image" ] || docker image rm "$image" >/dev/null 2>&1 || true
  # Last: an interrupted run begins here again.
  rm -f "$unit"
  systemctl daemon-reload
}
