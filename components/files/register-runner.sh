# Give the runner its configuration and see that GitLab takes its token.
# Input: AUTHORITY, CONFIGURATION, GITLAB_URL, REGISTRY, RUNNER_VERSION (of the package that reads the configuration).
main() {
  install -d -m 700 /etc/gitlab-runner
  see_room
  trust_authority
  await_gitlab
  write_file /etc/gitlab-runner/config.toml 600 <<<"$CONFIGURATION"
  see_token
  # A service that runs reads a changed configuration by itself, within seconds.
  systemctl enable --quiet --now gitlab-runner
  see_service
  say "runner: registered at $GITLAB_URL"
  sha256sum /etc/gitlab-runner/config.toml | cut -d' ' -f1
}

# see_service: that GitLab takes the token does not tell that jobs are asked for.
see_service() {
  local main look
  main=$(systemctl show --property MainPID --value gitlab-runner)
  # No event tells that a program goes on: one that cannot ends within its first moments.
  for look in 1 2 3 4; do
    if [ "$main" = 0 ] || [ "$(systemctl show --property MainPID --value gitlab-runner)" != "$main" ]; then
      die "gitlab-runner does not keep running; on its machine see: sudo journalctl -u gitlab-runner"
    fi
    sleep 0.5
  done
}

# see_token: the program ends well, too, when it could not ask.
see_token() {
  local said
  said=$(gitlab-runner verify 2>&1) || true
  case $said in
    *"is not valid"* | *"is removed"*)
      quote "$said"
      die "GitLab at $GITLAB_URL refuses the runner's token. If the runner was deleted there, bring it back with: pulumi refresh, then pulumi up"
      ;;
    *"is valid"* | *"is alive"*) ;;
    *)
      quote "$said"
      die "GitLab at $GITLAB_URL could not be asked whether it knows the runner; this step can be run again"
      ;;
  esac
}

quote() { grep -iE 'error|fatal|verifying' <<<"$1" | tail -n 3 >&2 || true; }

trust_authority() {
  [ -n "$AUTHORITY" ] || return 0
  write_file /etc/gitlab-runner/authority.crt 644 <<<"$AUTHORITY"
  install -d -m 755 "/etc/docker/certs.d/$REGISTRY"
  write_file "/etc/docker/certs.d/$REGISTRY/ca.crt" 644 <<<"$AUTHORITY"
}

await_gitlab() {
  local deadline=$((SECONDS + 30)) cause
  until cause=$(curl --silent --show-error --max-time 10 --output /dev/null ${AUTHORITY:+--cacert /etc/gitlab-runner/authority.crt} "$GITLAB_URL/users/sign_in" 2>&1); do
    [ "$SECONDS" -lt "$deadline" ] || die "this machine cannot reach $GITLAB_URL ($cause); no job could be fetched"
    sleep 2
  done
}
