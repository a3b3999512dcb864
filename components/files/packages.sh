# Functions for packages that come from GitLab's repositories. Input: KEY_FINGERPRINT.
installed_version() { dpkg-query --show --showformat='${db:Status-Abbrev}${Version}' "$1" 2>/dev/null | sed -n 's/^[ih]i *//p'; }

# trust_key URL NAME: fetch a signing key, and see that it is the right one.
trust_key() {
  local key found
  { command -v curl && command -v gpg; } >/dev/null || install_packages ca-certificates curl gpg
  key=$(mktemp)
  curl --fail --silent --show-error --location --retry 3 --max-time 60 --output "$key" "$1" ||
    die "the key of GitLab's packages is not at $1; nothing was installed"
  found=$(gpg --show-keys --with-colons "$key" 2>/dev/null | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
  if [ "$KEY_FINGERPRINT" != unpinned ] && [ "$found" != "$KEY_FINGERPRINT" ]; then
    die "the key at $1 is ${found:-no key}, not $KEY_FINGERPRINT; nothing was installed"
  fi
  install -d -m 755 /etc/apt/keyrings
  install -m 644 "$key" "/etc/apt/keyrings/$2.asc"
  rm "$key"
}

# declare_source NAME URL KEY: an apt source for this release of the distribution, signed by that key.
declare_source() {
  write_file "/etc/apt/sources.list.d/$1.list" 644 <<<"deb [signed-by=/etc/apt/keyrings/$3.asc] $2 $(codename) main"
}

distribution() { sed -n 's/^ID=//p' /etc/os-release; }
codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# see_offered NAME VERSION: see that it can be had, before anything is touched.
see_offered() {
  local offered
  unlocked apt-get -qq update || die "the package lists could not be fetched; nothing was installed"
  offered=$(apt-cache madison "$1" | awk '{ print $3 }')
  grep -qxF "$2" <<<"$offered" || die "$1 $2 is not in the repository; nothing was installed"
}

# install_pinned NAME VERSION [OTHER=VERSION…]
install_pinned() {
  local name=$1 version=$2
  shift 2
  see_offered "$name" "$version"
  patiently "installation of $name" install_packages "$name=$version" "$@" || die "$name $version could not be installed"
}
