# Functions that install packages from GitLab's repositories. Input: KEY_FINGERPRINT.
installed_version() { dpkg-query --show --showformat='${db:Status-Abbrev}${Version}' "$1" 2>/dev/null | sed -n 's/^[ih]i *//p'; }

# trust_key URL NAME: download a signing key, verify its fingerprint and install it.
trust_key() {
  local key found
  { command -v curl && command -v gpg; } >/dev/null || install_packages ca-certificates curl gpg
  key=$(mktemp)
  curl --fail --silent --show-error --location --retry 3 --max-time 60 --output "$key" "$1" ||
    die "the signing key of GitLab's packages could not be downloaded from $1; nothing was installed"
  found=$(gpg --show-keys --with-colons "$key" 2>/dev/null | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
  if [ "$KEY_FINGERPRINT" != unpinned ] && [ "$found" != "$KEY_FINGERPRINT" ]; then
    die "the key at $1 is ${found:-not a key}, not $KEY_FINGERPRINT; nothing was installed"
  fi
  install -d -m 755 /etc/apt/keyrings
  install -m 644 "$key" "/etc/apt/keyrings/$2.asc"
  rm "$key"
}

# add_apt_source NAME URL KEY: an apt source for this release of the distribution, signed by that key.
add_apt_source() {
  write_file "/etc/apt/sources.list.d/$1.list" 644 <<<"deb [signed-by=/etc/apt/keyrings/$3.asc] $2 $(codename) main"
}

distribution() { sed -n 's/^ID=//p' /etc/os-release; }
codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# require_available NAME VERSION: stop before anything is changed if the repository does not have this version.
require_available() {
  local versions
  with_apt_lock apt-get -qq update || die "the package lists could not be downloaded; nothing was installed"
  versions=$(apt-cache madison "$1" | awk '{ print $3 }')
  grep -qxF "$2" <<<"$versions" || die "$1 $2 is not in the repository; nothing was installed"
}

# install_pinned NAME VERSION [OTHER=VERSION…]
install_pinned() {
  local name=$1 version=$2
  shift 2
  require_available "$name" "$version"
  with_heartbeat "installation of $name" install_packages "$name=$version" "$@" || die "$name $version could not be installed"
}
