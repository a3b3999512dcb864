#!/bin/sh
# What a job of .gitlab-ci.yml runs: `python -m tools`, with the tools of this checkout.
#
# Usage: job.sh COMMAND [OPTION …]
#
# SLIPWAY_TOOLS, which an image made by tools/Dockerfile sets, names a folder with a Python environment, beside the lock
# file that it was made from. It is used if that is the lock file of this checkout, which names the versions of Pulumi and
# of its plugins as well; otherwise everything is installed into .cache, which jobs keep for each other.
set -eu
cd "$(dirname "$0")/.."

lock=requirements-tools.txt
if [ -n "${SLIPWAY_TOOLS:-}" ]; then
    if cmp -s "$SLIPWAY_TOOLS/$lock" "$lock"; then
        mkdir -p .cache
        rm -rf .cache/venv
        ln -s "$SLIPWAY_TOOLS/venv" .cache/venv
        exec .cache/venv/bin/python -m tools "$@"
    fi
    echo "The tools in this image are of other versions than $lock says: installing those. Build the image again."
fi
tools/bootstrap.sh tools
.cache/venv/bin/python -m tools prepare
exec .cache/venv/bin/python -m tools exec -- python -m tools "$@"
