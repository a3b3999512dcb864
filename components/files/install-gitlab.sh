# Install the pinned GitLab package and hold it. Input: GITLAB_VERSION, KEY_FINGERPRINT, KEY_URL, PACKAGES_URL.
main() {
  mountpoint --quiet /var/opt/gitlab || die "the data volume is not mounted; GitLab would store its data on the droplet"
  trust_key "$KEY_URL" gitlab-keyring
  add_apt_source gitlab-ce "$PACKAGES_URL/$(distribution)/$(codename)" gitlab-keyring
  if [ "$(installed_version gitlab-ce)" = "$GITLAB_VERSION" ]; then
    say "gitlab: $GITLAB_VERSION is installed"
  else
    say "gitlab: installing $GITLAB_VERSION (about 2.5 GB on disk)"
    install_pinned gitlab-ce "$GITLAB_VERSION"
  fi
  apt-mark hold gitlab-ce >/dev/null
  installed_version gitlab-ce
}
