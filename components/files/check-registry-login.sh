# Log in to the registry as a Docker client does: with a token that is good, and with one that is not. The token and not
# the password: that is no longer enough once the administrator asks for a second factor.
# Input: ADMIN_USER, API_TOKEN, FQDN, PORT.
main() {
  local right wrong
  right=$(login "$API_TOKEN")
  [ "$right" = 200 ] || die "the registry refuses $ADMIN_USER with a good token (status $right)"
  wrong=$(login "not-$API_TOKEN")
  [ "$wrong" = 401 ] || die "the registry does not refuse $ADMIN_USER with a wrong token (status $wrong)"
  say "registry: $ADMIN_USER can log in at $FQDN:$PORT"
  printf 'checked\n'
}

# login SECRET: the status that ends a login, 200 where it succeeds.
login() {
  local challenge realm service answer status token
  answer=$(mktemp)
  challenge=$(curl --silent --max-time 30 --head --resolve "$FQDN:$PORT:127.0.0.1" "https://$FQDN:$PORT/v2/" |
    tr -d '\r' | grep -i '^www-authenticate: bearer') || die "https://$FQDN:$PORT/v2/ asks for no token; is it a registry?"
  realm=$(sed -n 's/.*realm="\([^"]*\)".*/\1/p' <<<"$challenge")
  service=$(sed -n 's/.*service="\([^"]*\)".*/\1/p' <<<"$challenge")
  status=$(printf 'user = "%s:%s"\n' "$ADMIN_USER" "$1" |
    curl --silent --max-time 30 --config - --output "$answer" --write-out '%{http_code}' \
      --resolve "$FQDN:443:127.0.0.1" "$realm?service=$service&account=$ADMIN_USER")
  if [ "$status" = 200 ]; then
    token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' "$answer")
    status=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
      curl --silent --max-time 30 --config - --output /dev/null --write-out '%{http_code}' \
        --resolve "$FQDN:$PORT:127.0.0.1" "https://$FQDN:$PORT/v2/")
  fi
  rm -f "$answer"
  printf '%s' "$status"
}
