# Configure the runner and verify that GitLab accepts its token.
# Input: CA_CERTIFICATE, CONFIGURATION, GITLAB_URL, REGISTRY.
main() {
  install -d -m 700 /etc/gitlab-runner
  require_disk_space
  trust_ca_certificate
  await_gitlab
  verify_token
  write_configuration
  # A running service reloads a changed configuration by itself within seconds.
  systemctl enable --quiet --now gitlab-runner
  verify_service || put_back_configuration
  rm -f /etc/gitlab-runner/config.toml.previous
  say "runner: registered at $GITLAB_URL"
  sha256sum /etc/gitlab-runner/config.toml | cut -d' ' -f1
}

# write_configuration: a runner that is registered again may serve other projects from now on, and one that was shared may
# be allowed to use local images. Neither may find what jobs of former projects have left or pulled.
write_configuration() {
  local file=/etc/gitlab-runner/config.toml token policies
  token=$(setting token "$file")
  policies=$(setting allowed_pull_policies "$file")
  [ ! -e "$file" ] || cp --archive "$file" "$file.previous"
  if [ -n "$token" ] && [ "$token" != "$(setting token - <<<"$CONFIGURATION")" ]; then
    systemctl stop gitlab-runner
    empty_engine
  fi
  write_file "$file" 600 <<<"$CONFIGURATION"
  [ -z "$policies" ] || [ "$policies" = "$(setting allowed_pull_policies "$file")" ] || docker image prune --all --force >/dev/null
}

# setting NAME FILE
setting() { grep -E "^ *$1 = " "$2" 2>/dev/null || true; }

# empty_engine: start Docker without any data. Removing images, volumes and containers would not do: containerd overwrites
# what it has removed only when it needs the space, and that includes variables of jobs.
empty_engine() {
  local root
  root=$(docker info --format '{{.DockerRootDir}}') || die "Docker does not respond; on the runner's machine, run: sudo journalctl -u docker"
  say "runner: removing what jobs of its former registration have left on this machine"
  systemctl stop docker.socket docker
  systemctl stop containerd 2>/dev/null || true
  rm -rf --one-file-system "${root:?}"/* /var/lib/containerd/*
  systemctl start docker || die "Docker does not start again; on the runner's machine, run: sudo journalctl -u docker"
}

# verify_service: a valid token does not mean that the service keeps running and asks for jobs.
verify_service() {
  local pid
  pid=$(systemctl show --property MainPID --value gitlab-runner)
  # There is no event for "keeps running"; a program that cannot run exits within moments.
  for _ in 1 2 3 4; do
    if [ "$pid" = 0 ] || [ "$(systemctl show --property MainPID --value gitlab-runner)" != "$pid" ]; then
      return 1
    fi
    sleep 0.5
  done
}

put_back_configuration() {
  local file=/etc/gitlab-runner/config.toml kept=""
  if [ -e "$file.previous" ]; then
    mv "$file.previous" "$file"
    systemctl restart gitlab-runner || true
    kept="; its former configuration is in effect again"
  fi
  die "gitlab-runner does not keep running$kept. On its machine, run: sudo journalctl -u gitlab-runner"
}

# verify_token: ask GitLab before the service reads the new file, which it would do within seconds. Look at the output,
# because the exit status is 0 even if GitLab could not be reached.
verify_token() {
  local output new
  new=$(mktemp /etc/gitlab-runner/config.XXXXXX) || die "cannot create a file in /etc/gitlab-runner"
  at_exit rm -f "$new"
  printf '%s\n' "$CONFIGURATION" >"$new"
  output=$(gitlab-runner verify --config "$new" 2>&1) || true
  case $output in
    *"is not valid"* | *"is removed"*)
      print_errors "$output"
      die "GitLab at $GITLAB_URL rejects the runner's token; the machine keeps its former configuration. If the runner was deleted there, create it again with: pulumi refresh, then pulumi up"
      ;;
    *"is valid"* | *"is alive"*) ;;
    *)
      print_errors "$output"
      die "GitLab at $GITLAB_URL could not verify the runner's token; it is safe to run this step again"
      ;;
  esac
}

print_errors() { grep -iE 'error|fatal|verifying' <<<"$1" | tail -n 3 >&2 || true; }

trust_ca_certificate() {
  [ -n "$CA_CERTIFICATE" ] || return 0
  write_file /etc/gitlab-runner/authority.crt 644 <<<"$CA_CERTIFICATE"
  install -d -m 755 "/etc/docker/certs.d/$REGISTRY"
  write_file "/etc/docker/certs.d/$REGISTRY/ca.crt" 644 <<<"$CA_CERTIFICATE"
}

await_gitlab() {
  local deadline=$((SECONDS + 30)) cause
  until cause=$(curl --silent --show-error --max-time 10 --output /dev/null ${CA_CERTIFICATE:+--cacert /etc/gitlab-runner/authority.crt} "$GITLAB_URL/users/sign_in" 2>&1); do
    [ "$SECONDS" -lt "$deadline" ] || die "this machine cannot reach $GITLAB_URL ($cause), so the runner could not fetch jobs"
    sleep 2
  done
}
