# Install what the machine of a runner needs, in its pinned version, configure nothing, and forget the machine that it was
# done on.
# Input: ADMIN_USER, KEY_FINGERPRINT, RUNNER_KEY_URL, RUNNER_PACKAGES_URL, RUNNER_VERSION.
main() {
  install_hardening
  require_installed apparmor
  install_docker
  trust_key "$RUNNER_KEY_URL" runner_gitlab-runner
  add_apt_source gitlab-runner "$RUNNER_PACKAGES_URL/$(distribution)" runner_gitlab-runner
  say "image: installing gitlab-runner $RUNNER_VERSION"
  export NO_DOCKER_PRUNE=1
  install_pinned gitlab-runner "$RUNNER_VERSION" "gitlab-runner-helper-images=$RUNNER_VERSION"
  apt-mark hold gitlab-runner gitlab-runner-helper-images >/dev/null
  systemctl stop gitlab-runner docker.socket docker
  # Among it the number by which GitLab tells the machines of a runner apart, and the engine's.
  rm -rf /etc/gitlab-runner/.runner_system_id /var/lib/docker/engine-id
  seal
}
