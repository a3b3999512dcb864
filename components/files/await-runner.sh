# Wait until GitLab has heard of the runner. Input: API_TOKEN, GITLAB_URL, REGISTRATIONS, RUNNER_ID.
ONLINE='"status": *"online"'

main() {
  local deadline=$((SECONDS + 120)) host=${GITLAB_URL#https://} answer
  until answer=$(ask) && [[ $answer =~ $ONLINE ]]; do
    case $answer in
      *" 404") die "GitLab knows no runner $RUNNER_ID: it was deleted there. Bring it back with: pulumi refresh, then pulumi up" ;;
      *" 401" | *" 403") die "GitLab refuses the stack's own API token; make it anew with: pulumi up --replace URN of gitlab-api-token-digits" ;;
    esac
    [ "$SECONDS" -lt "$deadline" ] || die "runner $RUNNER_ID has not contacted GitLab within two minutes; on its machine see: sudo journalctl -u gitlab-runner"
    sleep 1
  done
  say "runner: $RUNNER_ID is online"
  printf 'online\n'
}

# ask: what GitLab answers, then the status of the answer.
ask() {
  printf 'header = "PRIVATE-TOKEN: %s"\n' "$API_TOKEN" |
    curl --silent --max-time 15 --config - --write-out ' %{http_code}' --resolve "$host:443:127.0.0.1" \
      "$GITLAB_URL/api/v4/runners/$RUNNER_ID"
}
