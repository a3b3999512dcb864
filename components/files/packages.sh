# Functions that install packages from GitLab's repositories. Input: KEY_FINGERPRINT.

# installed_version NAME: nothing if it is not installed; of a package that dpkg does not know, its status is an error.
installed_version() {
  { dpkg-query --show --showformat='${db:Status-Abbrev}${Version}' "$1" 2>/dev/null || true; } | sed -n 's/^[ih]i *//p'
}

# trust_key URL NAME: download the signing key and install it if it is the pinned one. GitLab's file has one primary key,
# and apt would accept a repository that any key in the file has signed: a file with another one is refused.
trust_key() {
  local download home found
  { command -v curl && command -v gpg; } >/dev/null || install_packages ca-certificates curl gpg
  download=$(mktemp)
  curl --fail --silent --show-error --location --retry 3 --max-time 60 --output "$download" "$1" ||
    die "the signing key of GitLab's packages could not be downloaded from $1; nothing was installed"
  found=$(primary_fingerprints "$download") || found=""
  install -d -m 755 /etc/apt/keyrings
  if [ "$KEY_FINGERPRINT" = unpinned ]; then
    install -m 644 "$download" "/etc/apt/keyrings/$2.asc"
  elif [ "$found" = "$KEY_FINGERPRINT" ]; then
    home=$(mktemp --directory)
    gpg --homedir "$home" --batch --quiet --import "$download" 2>/dev/null || true
    gpg --homedir "$home" --batch --armor --export "$KEY_FINGERPRINT" | write_file "/etc/apt/keyrings/$2.asc" 644
    rm -rf "$home"
  elif grep -qxF "$KEY_FINGERPRINT" <<<"$found"; then
    die "the file at $1 has more keys than $KEY_FINGERPRINT: $(paste --serial --delimiters=, <<<"$found"); nothing was installed. Find out from GitLab's documentation who has added one"
  else
    die "the key at $1 is $(paste --serial --delimiters=, <<<"${found:-not a key}"), not $KEY_FINGERPRINT; nothing was installed"
  fi
  rm "$download"
}

# primary_fingerprints FILE: those of all keys in it, without those of their subkeys.
primary_fingerprints() {
  gpg --show-keys --with-colons "$1" 2>/dev/null | awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }'
}

# add_apt_source NAME URL KEY: an apt source for this release of the distribution, signed by that key.
add_apt_source() {
  write_file "/etc/apt/sources.list.d/$1.list" 644 <<<"deb [signed-by=/etc/apt/keyrings/$3.asc] $2 $(codename) main"
}

distribution() { sed -n 's/^ID=//p' /etc/os-release; }
codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# present_version NAME: also of a package whose installation was interrupted or has failed.
present_version() {
  { dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$1" 2>/dev/null || true; } |
    sed -nE '/^(not-installed|config-files) /!s/^[a-z-]+ //p'
}

# require_available NAME VERSION: stop before anything is changed if the repository does not have this version. Its list
# is downloaded alone, because apt continues with an old one if one of several fails.
require_available() {
  local versions
  with_apt_lock apt-get -qq update -o "Dir::Etc::sourcelist=/etc/apt/sources.list.d/$1.list" -o Dir::Etc::sourceparts=- \
    -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any ||
    die "the list of packages could not be downloaded from the repository of $1; nothing was installed"
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
