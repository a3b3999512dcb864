# Set root's password, turn sign-up off, register the API token in GitLab and apply settings of its database.
# Input: ADMIN_PASSWORD, ADMIN_USER, API_TOKEN, APPLICATION_SETTINGS, GITLAB_URL, PROVISION_RB, TOKEN_EXPIRES_AT, TOKEN_NAME, TOKEN_SCOPES.
main() {
  local program status
  program=$(mktemp --suffix=.rb)
  at_exit rm -f "$program"
  printf '%s\n' "$PROVISION_RB" >"$program"
  # GitLab's Rails console runs as git. The program is not secret; what it reads on standard input is.
  chmod 644 "$program"
  printf '%s\n' "$ADMIN_USER" "$ADMIN_PASSWORD" "$TOKEN_NAME" "$TOKEN_SCOPES" "$TOKEN_EXPIRES_AT" "$API_TOKEN" \
    "$APPLICATION_SETTINGS" |
    gitlab-rails runner "$program" >&2 || die "GitLab did not accept the administrator's password and API token, or a setting"

  status=$(gitlab_api user /dev/null --show-error)
  [ "$status" != 000 ] || die "GitLab's API does not respond; it is safe to run this step again"
  [ "$status" = 200 ] || die "GitLab's API rejects the new token (status $status)"
  say "gitlab: the API token is valid until $TOKEN_EXPIRES_AT"
  printf '%s\n' "$TOKEN_EXPIRES_AT"
}
