# Log in to the registry as a Docker client does, once with a valid token and once with an invalid one. With a token, not
# the password: that no longer works once the administrator turns on two-factor authentication.
# Input: ADMIN_USER, API_TOKEN, FQDN, PORT.
main() {
  local valid invalid deadline=$((SECONDS + 120))
  # The step before restarts the registry, and GitLab, which signs the tokens: either may be away for a moment.
  until valid=$(login_status "$API_TOKEN") || exit; [[ ! $valid =~ ^(000|5..)$ ]]; do
    [ "$SECONDS" -lt "$deadline" ] || die "the registry or GitLab does not respond (status $valid); on the server, run: sudo gitlab-ctl status"
    sleep 1
  done
  [ "$valid" = 200 ] || die "the registry rejects $ADMIN_USER with a valid token (status $valid)"
  invalid=$(login_status "not-$API_TOKEN")
  [ "$invalid" = 401 ] || die "the registry does not reject $ADMIN_USER with an invalid token (status $invalid)"
  say "registry: $ADMIN_USER can log in at $FQDN:$PORT"
  printf 'checked\n'
}

# login_status SECRET: log in and print the final HTTP status, 200 on success.
login_status() {
  local challenge realm service answer status token
  challenge=$(curl --silent --max-time 30 --head --resolve "$FQDN:$PORT:127.0.0.1" --write-out 'status: %{http_code}\n' \
    "https://$FQDN:$PORT/v2/" | tr -d '\r') || true
  status=$(sed -n 's/^status: //p' <<<"$challenge")
  [[ ! $status =~ ^(000|5..)$ ]] || { printf '%s' "$status"; return; }
  challenge=$(grep -i '^www-authenticate: bearer' <<<"$challenge") || die "https://$FQDN:$PORT/v2/ does not ask for a token (status $status); is it a registry?"
  answer=$(mktemp)
  realm=$(sed -n 's/.*realm="\([^"]*\)".*/\1/p' <<<"$challenge")
  service=$(sed -n 's/.*service="\([^"]*\)".*/\1/p' <<<"$challenge")
  status=$(printf 'user = "%s:%s"\n' "$ADMIN_USER" "$1" |
    curl --silent --max-time 30 --config - --output "$answer" --write-out '%{http_code}' \
      --resolve "$FQDN:443:127.0.0.1" "$realm?service=$service&account=$ADMIN_USER") || true
  if [ "$status" = 200 ]; then
    token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' "$answer")
    status=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
      curl --silent --max-time 30 --config - --output /dev/null --write-out '%{http_code}' \
        --resolve "$FQDN:$PORT:127.0.0.1" "https://$FQDN:$PORT/v2/") || true
  fi
  rm -f "$answer"
  printf '%s' "$status"
}
