#!/bin/sh
# A file of settings is served; what the registry knows as a command is for it.
set -e

case "$1" in
    *.yaml | *.yml) set -- registry serve "$@" ;;
    serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac
exec "$@"
