# Install the pinned package and hold it. Input: GITLAB_VERSION, KEY_FINGERPRINT, KEY_URL, PACKAGES_URL.
main() {
  mountpoint --quiet /var/opt/gitlab || die "the data volume is not mounted; GitLab would keep its data on the droplet"
  { command -v curl && command -v gpg; } >/dev/null || install_packages ca-certificates curl gpg
  trust_key
  declare_source
  if [ "$(installed_version)" = "$GITLAB_VERSION" ]; then
    say "gitlab: $GITLAB_VERSION is installed"
  else
    install_pinned
  fi
  apt-mark hold gitlab-ce >/dev/null
}

installed_version() { dpkg-query --show --showformat='${db:Status-Abbrev}${Version}' gitlab-ce 2>/dev/null | sed -n 's/^[ih]i *//p'; }

trust_key() {
  local key found
  key=$(mktemp)
  curl --fail --silent --show-error --location --retry 3 --max-time 60 --output "$key" "$KEY_URL" ||
    die "the key of GitLab's packages is not at $KEY_URL; nothing was installed"
  found=$(gpg --show-keys --with-colons "$key" 2>/dev/null | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
  if [ "$KEY_FINGERPRINT" != unpinned ] && [ "$found" != "$KEY_FINGERPRINT" ]; then
    die "the key at $KEY_URL is ${found:-no key}, not $KEY_FINGERPRINT; nothing was installed"
  fi
  install -d -m 755 /etc/apt/keyrings
  install -m 644 "$key" /etc/apt/keyrings/gitlab-keyring.asc
  rm "$key"
}

declare_source() {
  # shellcheck source=/dev/null
  . /etc/os-release
  write_file /etc/apt/sources.list.d/gitlab-ce.list 644 <<SOURCE
deb [signed-by=/etc/apt/keyrings/gitlab-keyring.asc] $PACKAGES_URL/$ID/$VERSION_CODENAME $VERSION_CODENAME main
SOURCE
}

install_pinned() {
  say "gitlab: installing $GITLAB_VERSION (some 2.5 GB on disk)"
  unlocked apt-get -qq update || die "the package lists could not be fetched; is $PACKAGES_URL right?"
  local offered
  offered=$(apt-cache madison gitlab-ce | awk '{ print $3 }')
  grep -qxF "$GITLAB_VERSION" <<<"$offered" || die "gitlab-ce $GITLAB_VERSION is not at $PACKAGES_URL; nothing was installed"
  patiently "gitlab: installation" install_packages "gitlab-ce=$GITLAB_VERSION" ||
    die "gitlab-ce $GITLAB_VERSION could not be installed"
}
