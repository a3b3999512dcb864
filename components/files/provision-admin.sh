# Set root's password, turn sign-up off and let GitLab know the API token.
# Input: ADMIN_PASSWORD, ADMIN_USER, FQDN, PROVISION_RB, TOKEN, TOKEN_EXPIRES_AT, TOKEN_NAME, TOKEN_SCOPES.
main() {
  local program
  program=$(mktemp --suffix=.rb)
  # shellcheck disable=SC2064
  trap "rm -f '$program'" EXIT
  printf '%s\n' "$PROVISION_RB" >"$program"
  # GitLab's Rails console runs as git; the program is no secret, what it reads on standard input is.
  chmod 644 "$program"
  printf '%s\n' "$ADMIN_USER" "$ADMIN_PASSWORD" "$TOKEN_NAME" "$TOKEN_SCOPES" "$TOKEN_EXPIRES_AT" "$TOKEN" |
    gitlab-rails runner "$program" >&2 || die "GitLab did not take the administrator's password and API token"

  printf 'header = "PRIVATE-TOKEN: %s"\n' "$TOKEN" |
    curl --fail --silent --show-error --max-time 30 --output /dev/null --config - \
      --resolve "$FQDN:443:127.0.0.1" "https://$FQDN/api/v4/user" || die "GitLab's API refuses the new token"
  say "gitlab: the API token is good until $TOKEN_EXPIRES_AT"
}
