# Functions that ask which addresses a name has.

# Let's Encrypt resolves the name, and prefers IPv6: it has to find this server, and nothing else. Every request that
# fails counts against a rate limit. Input: ADDRESS, FQDN.
wait_for_dns() {
  local deadline=$((SECONDS + 600)) found last=unknown
  until found=$(addresses_of "$FQDN"); [ "$found" = "$ADDRESS" ]; do
    [ "$SECONDS" -lt "$deadline" ] || dns_failed "$found"
    [ "$found" = "$last" ] || say "gitlab: waiting until $FQDN resolves to $ADDRESS alone; now it resolves to ${found:-nothing}"
    last=$found
    sleep 5
  done
}

dns_failed() {
  local found=$1 domain=${FQDN#*.}
  # A name that every machine with a certificate from Let's Encrypt needs.
  [ -n "$found$(addresses_of acme-v02.api.letsencrypt.org)" ] || die "this machine cannot resolve any name: its resolvers do not respond. On the machine, run: resolvectl status; and allow DNS (port 53) in your network"
  [ -n "$found" ] || die "$FQDN does not resolve after ten minutes. Either the name servers of $domain are not those of its zone: set them at the registrar. Or a resolver was asked before the record existed, and remembers that answer for as long as the zone's SOA record says, at DigitalOcean 30 minutes. Run pulumi up again then"
  die "$FQDN resolves to ${found//$'\n'/ and } instead of $ADDRESS alone; Let's Encrypt would be sent elsewhere. Delete the other A and AAAA records, or, if the zone has none, set the name servers of $domain at the registrar to those of the zone"
}

# addresses_of NAME: its IPv4 and IPv6 addresses, one a line. For the name of the machine itself, systemd-resolved would
# answer with the addresses of its interfaces.
addresses_of() {
  local name=$1 kind
  if systemctl --quiet is-active systemd-resolved; then
    for kind in A AAAA; do
      resolvectl query --legend=no --synthesize=no --cache=no --type="$kind" "$name" 2>/dev/null |
        awk -v kind="$kind" '$2 == "IN" && $3 == kind { print $4 }' || true
    done
  else
    # Without an IPv6 address, the second one returns the IPv4 address in another form.
    { getent ahostsv4 "$name" || true; getent ahostsv6 "$name" || true; } | awk '!/^::ffff:/ { print $1 }'
  fi | sort -u
}
