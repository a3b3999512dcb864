# Harden a machine for jobs and install Docker and the pinned gitlab-runner.
# Input: ADMIN_USER, APPARMOR_PROFILE, APT_CONF, AUTHORIZED_KEYS, BANNER, BUILDER, CACHE_CONFIG, CACHE_PROGRAM,
# CACHE_SERVICE, CACHE_URL, COREDUMP_CONF, DISK_SERVICE, DISK_TIMER, FAIL2BAN_CONF, HOSTNAME, JOB_FIREWALL,
# JOB_FIREWALL_SERVICE, JOB_IMAGES, KEY_FINGERPRINT, LIMITS_CONF, MODPROBE_CONF, PRUNE, PRUNE_SERVICE, PRUNE_TIMER,
# PUBLIC_PORTS, REGISTRIES_CONF, REGISTRY_MIRROR, RUNNER_KEY_URL, RUNNER_PACKAGES_URL, RUNNER_VERSION, SERVICE_DROP_IN,
# SSHD_CONF, STORAGE_CONF, SYSCTL_CONF.
readonly DRAIN_SECONDS=900

main() {
  require_disk_space
  remove_first_contact_keys
  harden_ssh
  hostnamectl set-hostname "$HOSTNAME"
  harden_system
  configure_firewall
  close_other_ports
  install_docker
  [ -z "$CACHE_URL" ] || install_cache
  configure_mirror
  [ -n "$CACHE_URL" ] || remove_cache
  install_housekeeping
  install_runner
  configure_builder
  fetch_job_images
  say "runner: machine ready"
}

# fetch_job_images: nothing waits for them. A job that comes earlier, or after a failure here, pulls them itself.
# shellcheck disable=SC2016,SC2086 # expanded by the other shell; one word for each image
fetch_job_images() {
  [ -n "$JOB_IMAGES" ] && ! systemctl is-active --quiet slipway-job-images.service || return 0
  systemd-run --quiet --collect --no-block --unit slipway-job-images.service --property Nice=10 \
    sh -c 'for image; do docker pull --quiet "$image"; done' sh $JOB_IMAGES || true
}

# configure_builder: after a change of builder no job may start until the runner is configured for the new one.
configure_builder() {
  local configuration=/etc/gitlab-runner/config.toml privileged=true
  [ "$BUILDER" = docker ] || privileged=false
  if [ -e "$configuration" ] && ! grep -qE "^ *privileged = $privileged\$" "$configuration"; then
    drain_jobs
  fi
  [ "$BUILDER" != buildah ] || configure_buildah
}

# configure_buildah: install what job containers need to build without privileges.
configure_buildah() {
  install -d -m 755 /etc/slipway
  write_file /etc/slipway/registries.conf 644 <<<"$REGISTRIES_CONF"
  write_file /etc/slipway/storage.conf 644 <<<"$STORAGE_CONF"
  # If AppArmor is off in the kernel, Docker ignores the profile.
  [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] || return 0
  command -v apparmor_parser >/dev/null || install_packages apparmor || die "AppArmor's tools could not be installed"
  # Older versions of AppArmor neither support the rule nor need it.
  [ -e /etc/apparmor.d/abi/4.0 ] || APPARMOR_PROFILE=$(grep -vE '^abi |userns,' <<<"$APPARMOR_PROFILE")
  write_checked /etc/apparmor.d/slipway-builder 644 apparmor_parser --replace /etc/apparmor.d/slipway-builder <<<"$APPARMOR_PROFILE" ||
    die "AppArmor rejects the profile slipway-builder; no job could start with it"
}

install_runner() {
  local failed
  trust_key "$RUNNER_KEY_URL" runner_gitlab-runner
  # One repository for all releases of a distribution (docs.gitlab.com, install/mirror).
  add_apt_source gitlab-runner "$RUNNER_PACKAGES_URL/$(distribution)" runner_gitlab-runner
  if [ "$(installed_version gitlab-runner)" != "$RUNNER_VERSION" ]; then
    say "runner: installing gitlab-runner $RUNNER_VERSION"
    require_available gitlab-runner "$RUNNER_VERSION"
    drain_jobs
    # Otherwise the package removes Docker data that it considers unused.
    export NO_DOCKER_PRUNE=1
    # In a subshell, so that `die` in it does not end this script. Downgrades are safe: a runner keeps no data.
    (install_pinned gitlab-runner "$RUNNER_VERSION" "gitlab-runner-helper-images=$RUNNER_VERSION" --allow-downgrades) ||
      { failed=$?; systemctl start gitlab-runner 2>/dev/null || true; exit "$failed"; }
  fi
  apt-mark hold gitlab-runner gitlab-runner-helper-images >/dev/null
}

# drain_jobs: make the runner accept no new jobs and finish the running ones.
drain_jobs() {
  local service
  service=$(systemctl show --property MainPID --value gitlab-runner)
  [ "${service:-0}" != 0 ] || return 0
  say "runner: accepting no new jobs; running jobs have up to $((DRAIN_SECONDS / 60)) minutes to finish"
  kill -QUIT "$service"
  with_heartbeat "runner: waiting for jobs to finish" wait_for_exit "$service" ||
    say "runner: a job has not finished and is aborted; its log says so, and it can be retried in GitLab"
  systemctl stop gitlab-runner
}

wait_for_exit() {
  local deadline=$((SECONDS + DRAIN_SECONDS))
  while kill -0 "$1" 2>/dev/null; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
}

install_housekeeping() {
  install -d -m 755 /etc/systemd/system/gitlab-runner.service.d
  write_file /etc/systemd/system/gitlab-runner.service.d/slipway.conf 644 <<<"$SERVICE_DROP_IN"
  write_file /usr/local/sbin/slipway-job-firewall 755 <<<"$JOB_FIREWALL"
  write_file /usr/local/sbin/slipway-prune 755 <<<"$PRUNE"
  write_file /etc/systemd/system/slipway-job-firewall.service 644 <<<"$JOB_FIREWALL_SERVICE"
  write_file /etc/systemd/system/slipway-prune.service 644 <<<"$PRUNE_SERVICE"
  write_file /etc/systemd/system/slipway-prune.timer 644 <<<"$PRUNE_TIMER"
  write_file /etc/systemd/system/slipway-disk.service 644 <<<"$DISK_SERVICE"
  write_file /etc/systemd/system/slipway-disk.timer 644 <<<"$DISK_TIMER"
  systemctl daemon-reload
  systemctl enable --quiet slipway-prune.timer slipway-disk.timer slipway-job-firewall.service
  # Even if they are already running: their files may have changed.
  systemctl restart slipway-prune.timer slipway-disk.timer slipway-job-firewall.service
}
