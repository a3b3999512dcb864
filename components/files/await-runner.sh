# Wait until GitLab has heard of the runner. Input: API_TOKEN, GITLAB_URL, REGISTRATIONS, RUNNER_ID.
main() {
  local deadline=$((SECONDS + 120))
  until [ "$(status)" = online ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "runner $RUNNER_ID has not contacted GitLab within two minutes; on its machine see: sudo journalctl -u gitlab-runner"
    sleep 1
  done
  say "runner: $RUNNER_ID is online"
  printf 'online\n'
}

status() {
  printf 'header = "PRIVATE-TOKEN: %s"\n' "$API_TOKEN" |
    curl --silent --max-time 15 --config - "$GITLAB_URL/api/v4/runners/$RUNNER_ID" |
    sed -n 's/.*"status": *"\([a-z_]*\)".*/\1/p'
}
