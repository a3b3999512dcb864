# Wait until the runner has contacted GitLab. Input: API_TOKEN, GITLAB_URL, RUNNER_ID.
main() {
  local deadline=$((SECONDS + 120)) body status
  body=$(mktemp)
  at_exit rm -f "$body"
  until status=$(gitlab_api "runners/$RUNNER_ID" "$body" --max-time 15) && [ "$status" = 200 ] && is_online "$body"; do
    case $status in
      404) die "GitLab has no runner $RUNNER_ID: it was deleted there. To create it again, run: pulumi refresh, then pulumi up" ;;
      401 | 403) die_of_rejected_token ;;
    esac
    [ "$SECONDS" -lt "$deadline" ] || die "runner $RUNNER_ID has not contacted GitLab within two minutes; on its machine, run: sudo journalctl -u gitlab-runner"
    sleep 1
  done
  say "runner: $RUNNER_ID is online"
  printf 'online\n'
}

is_online() { grep -qE '"status": *"online"' "$1"; }
