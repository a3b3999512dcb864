# Harden a machine for jobs and give it Docker and gitlab-runner, pinned.
# Input: ADMIN_USER, APPARMOR_PROFILE, AUTHORIZED_KEYS, BUILDER, HOSTNAME, JOB_FIREWALL, JOB_FIREWALL_SERVICE,
# KEY_FINGERPRINT, PRUNE, PRUNE_SERVICE, PRUNE_TIMER, PUBLIC_PORTS, REGISTRIES_CONF, REGISTRY_MIRROR, RUNNER_KEY_URL,
# RUNNER_PACKAGES_URL, RUNNER_VERSION, SERVICE_DROP_IN, STORAGE_CONF.
readonly JOBS_SECONDS=900

main() {
  see_room
  forget_first_contact
  harden_ssh
  hostnamectl set-hostname "$HOSTNAME"
  close_ports
  install_docker
  keep_house
  install_runner
  settle_builder
  say "runner: machine ready"
}

install_docker() {
  if ! { command -v dockerd && command -v docker && command -v iptables && command -v jq; } >/dev/null; then
    say "runner: installing Docker"
    # Debian has the client in a package of its own, Ubuntu in that of the daemon.
    local client=()
    unlocked apt-get -qq update
    [ -z "$(apt-cache madison docker-cli)" ] || client=(docker-cli)
    patiently "runner: installation of Docker" install_packages docker.io "${client[@]}" iptables jq ||
      die "Docker could not be installed"
  fi
  # Of the version that the distribution has; no upgrade of it may end the containers of jobs.
  local package
  for package in docker.io docker-cli containerd runc; do
    [ -z "$(installed_version "$package")" ] || apt-mark hold "$package" >/dev/null
  done
  # What else the machine has set for Docker stays.
  local settings=/etc/docker/daemon.json wanted='{}'
  install -d -m 755 /etc/docker
  [ -z "$REGISTRY_MIRROR" ] || wanted=$(jq -n --arg mirror "$REGISTRY_MIRROR" '{"registry-mirrors": [$mirror]}')
  [ -s "$settings" ] || echo '{}' >"$settings"
  jq --sort-keys --argjson wanted "$wanted" 'del(."registry-mirrors") + $wanted' "$settings" |
    write_file "$settings.wanted" 644
  if ! cmp --silent "$settings.wanted" "$settings"; then
    cp "$settings.wanted" "$settings"
    # Mirrors are among what a running engine reads anew; a restart would end the containers of jobs.
    systemctl reload-or-restart docker
  fi
  rm -f "$settings.wanted"
  systemctl enable --quiet --now docker
}

# settle_builder: with another builder than before no job may start until the runner is configured for it.
settle_builder() {
  local configuration=/etc/gitlab-runner/config.toml privileged=true
  [ "$BUILDER" = docker ] || privileged=false
  if [ -e "$configuration" ] && ! grep -qE "^ *privileged = $privileged\$" "$configuration"; then
    end_jobs
  fi
  [ "$BUILDER" != buildah ] || allow_buildah
}

# allow_buildah: what containers of jobs get, so that they can build without privileges.
allow_buildah() {
  install -d -m 755 /etc/slipway
  write_file /etc/slipway/registries.conf 644 <<<"$REGISTRIES_CONF"
  write_file /etc/slipway/storage.conf 644 <<<"$STORAGE_CONF"
  # Without AppArmor in the kernel Docker does not look for the profile.
  [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] || return 0
  command -v apparmor_parser >/dev/null || install_packages apparmor || die "AppArmor's tools could not be installed"
  # An older AppArmor neither knows the rule nor needs it.
  [ -e /etc/apparmor.d/abi/4.0 ] || APPARMOR_PROFILE=$(grep -vE '^abi |userns,' <<<"$APPARMOR_PROFILE")
  write_file /etc/apparmor.d/slipway-builder 644 <<<"$APPARMOR_PROFILE"
  apparmor_parser --replace /etc/apparmor.d/slipway-builder || die "AppArmor does not take the profile slipway-builder; no job could be started"
}

install_runner() {
  trust_key "$RUNNER_KEY_URL" runner_gitlab-runner
  # One repository for all releases of a distribution (docs.gitlab.com, install/mirror).
  declare_source gitlab-runner "$RUNNER_PACKAGES_URL/$(distribution)" runner_gitlab-runner
  if [ "$(installed_version gitlab-runner)" != "$RUNNER_VERSION" ]; then
    say "runner: installing gitlab-runner $RUNNER_VERSION"
    see_offered gitlab-runner "$RUNNER_VERSION"
    end_jobs
    # Without it the package removes Docker data that it takes for unused.
    export NO_DOCKER_PRUNE=1
    # In a shell of its own, which ends in place of this one. A step back loses nothing: a runner keeps no data.
    (install_pinned gitlab-runner "$RUNNER_VERSION" "gitlab-runner-helper-images=$RUNNER_VERSION" --allow-downgrades) ||
      { systemctl start gitlab-runner 2>/dev/null || true; exit 1; }
  fi
  apt-mark hold gitlab-runner gitlab-runner-helper-images >/dev/null
}

# end_jobs: have the runner take no more jobs and finish those that it has.
end_jobs() {
  local service
  service=$(systemctl show --property MainPID --value gitlab-runner)
  [ "${service:-0}" != 0 ] || return 0
  say "runner: no new jobs; those that run may take $((JOBS_SECONDS / 60)) minutes to end"
  kill -QUIT "$service"
  patiently "runner: waiting for its jobs" gone "$service" ||
    say "runner: a job has not ended; it is aborted, its log says so, and it can be run again in GitLab"
  systemctl stop gitlab-runner
}

gone() {
  local deadline=$((SECONDS + JOBS_SECONDS))
  while kill -0 "$1" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

keep_house() {
  install -d -m 755 /etc/systemd/system/gitlab-runner.service.d
  write_file /etc/systemd/system/gitlab-runner.service.d/slipway.conf 644 <<<"$SERVICE_DROP_IN"
  write_file /usr/local/sbin/slipway-job-firewall 755 <<<"$JOB_FIREWALL"
  write_file /usr/local/sbin/slipway-prune 755 <<<"$PRUNE"
  write_file /etc/systemd/system/slipway-job-firewall.service 644 <<<"$JOB_FIREWALL_SERVICE"
  write_file /etc/systemd/system/slipway-prune.service 644 <<<"$PRUNE_SERVICE"
  write_file /etc/systemd/system/slipway-prune.timer 644 <<<"$PRUNE_TIMER"
  systemctl daemon-reload
  systemctl enable --quiet slipway-prune.timer slipway-job-firewall.service
  # Also where they run already: they may be other ones now.
  systemctl restart slipway-prune.timer slipway-job-firewall.service
}
