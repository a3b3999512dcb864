#!/bin/sh
# Creates the Python environment of this checkout, .cache/venv, exactly as one of the lock files says.
#
# Usage: bootstrap.sh [tools|sandbox]
#   tools    requirements-tools.txt: the program and the tools, all that a stack on a real account needs
#   sandbox  requirements-sandbox.txt: the same, and what the sandbox and its tests need (the default)
#
# Does nothing if it is up to date. Of two that run at the same time, the second one waits. Runs on Linux and macOS,
# without root.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.cache/venv
wanted=${1:-sandbox}
lock=$root/requirements-$wanted.txt
# What was installed, and where: the environment contains absolute paths, so it is useless after a move.
stamp=$venv/.requirements.txt
place=$venv/.place

say() { printf '[  env ] %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

case $wanted in
    tools | sandbox) ;;
    *) fail "bootstrap.sh: $wanted is not a valid choice; use tools or sandbox" ;;
esac

up_to_date() {
    [ -x "$venv/bin/python" ] && [ "$(cat "$place" 2> /dev/null || :)" = "$venv" ] && "$venv/bin/python" -c '' || return 1
    # The larger environment has all of the smaller one.
    for installed in "$lock" "$root/requirements-sandbox.txt"; do
        cmp -s "$installed" "$stamp" && return 0
    done
    return 1
}

up_to_date && exit 0

for python in python3 python3.14 python3.13 python3.12 python3.11 ""; do
    [ -n "$python" ] || fail "no Python 3.11 or newer on PATH: install one"
    command -v "$python" > /dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && break
done

mkdir -p "$root/.cache"
# Python's own lock, because flock(1) is not on every system. The second run of this script has it.
[ "${2:-}" = locked ] || exec "$python" "$root/tools/locked.py" "$root/.cache/venv.lock" "$0" "$wanted" locked

if ! "$python" -c 'import ensurepip, venv' 2> /dev/null; then
    if ! command -v apt-get > /dev/null || [ "$(id -u)" != 0 ]; then
        fail "$(command -v "$python") has no modules venv and ensurepip: install them (on Debian, the package python3-venv)"
    fi
    say "installing Debian's python3-venv"
    DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
    apt-get -q update && apt-get -q install --yes --no-install-recommends python3-venv
fi

say "installing the Python packages of ${lock##*/} into .cache/venv"
# First: until the end, nobody takes the environment for complete.
rm -f "$stamp"
"$python" -m venv --clear "$venv"
# --progress-bar off: one line per package is progress enough, in a log as well as on a terminal.
{
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        --require-hashes --only-binary :all: -r "$lock" && : > "$venv/.installed"
} | while IFS= read -r line; do
    case $line in
        "Collecting "*) line=${line#Collecting }; say "${line%% *}" ;;
        "Installing collected"*) say "installing" ;;
    esac
done
[ -e "$venv/.installed" ] || fail "the Python packages could not be installed; see the output of pip above"
printf '%s' "$venv" > "$place"
cp "$lock" "$stamp"
say "done"
