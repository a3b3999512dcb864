# Install what a server needs, in its pinned version, configure nothing, and forget the machine that it was done on.
# Input: ADMIN_USER, GITLAB_VERSION, KEY_FINGERPRINT, KEY_URL, PACKAGES_URL.
main() {
  install_hardening
  trust_key "$KEY_URL" gitlab-keyring
  add_apt_source gitlab-ce "$PACKAGES_URL/$(distribution)/$(codename)" gitlab-keyring
  say "image: installing GitLab $GITLAB_VERSION"
  install_pinned gitlab-ce "$GITLAB_VERSION"
  apt-mark hold gitlab-ce >/dev/null
  # The data volume is mounted over both.
  rm -rf /etc/gitlab /var/opt/gitlab/*
  seal
}
