#!/bin/sh
# Creates the Python environment of this checkout: .cache/venv, exactly as requirements.lock says. Takes no arguments.
# Does nothing if it is up to date.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.cache/venv
lock=$root/requirements.lock
stamp=$venv/.lock-sum

say() { printf '[  env ] %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The environment contains absolute paths, so it has to be created again after the checkout was moved.
wanted="$(sha256sum < "$lock" | cut -d' ' -f1) $venv"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c ''; then
    exit 0
fi

for python in python3 python3.13 python3.12 python3.11 /usr/bin/python3 ""; do
    [ -n "$python" ] || fail "no Python 3.11 or newer: install python3"
    command -v "$python" > /dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break
done

if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
    say "installing Debian's python3-venv"
    [ "$(id -u)" = 0 ] || fail "no python3-venv: install it, or run this as root"
    DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
    apt-get -q update && apt-get -q install --yes --no-install-recommends python3-venv
fi

say "installing the Python packages of requirements.lock into .cache/venv"
mkdir -p "$root/.cache"
"$python" -m venv --clear "$venv"
# --progress-bar off: one line per package is progress enough, in a log as well as on a terminal.
{
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --require-hashes --only-binary :all: -r "$lock" && : > "$venv/.installed"
} | sed -u -n 's/^Collecting \([^ ]*\).*/[  env ] \1/p; s/^Installing collected.*/[  env ] installing/p'
[ -e "$venv/.installed" ] || fail "the Python packages could not be installed; see the output of pip above"
printf '%s' "$wanted" > "$stamp"
say "done"
