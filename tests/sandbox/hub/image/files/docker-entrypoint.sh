#!/bin/sh
# Entrypoint of the client: what docker knows as a command is for docker. Finds the engine of a service called
# "docker": with TLS where that has put client certificates into $DOCKER_TLS_CERTDIR/client.
set -eu

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    set -- docker "$@"
elif docker help "$1" > /dev/null 2>&1; then
    set -- docker "$@"
fi

certificates=${DOCKER_TLS_CERTDIR:+$DOCKER_TLS_CERTDIR/client}
has_certificates() {
    [ -n "$certificates" ] && [ -s "$certificates/ca.pem" ] && [ -s "$certificates/cert.pem" ] &&
        [ -s "$certificates/key.pem" ]
}

if [ -z "${DOCKER_HOST:-}" ] && [ ! -S /var/run/docker.sock ]; then
    if has_certificates || [ -n "${DOCKER_TLS_VERIFY:-}" ]; then
        export DOCKER_HOST=tcp://docker:2376
    else
        export DOCKER_HOST=tcp://docker:2375
    fi
fi
case ${DOCKER_HOST:-} in
    tcp:*)
        if [ -z "${DOCKER_TLS_VERIFY:-}" ] && [ -z "${DOCKER_CERT_PATH:-}" ] && has_certificates; then
            export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH="$certificates"
        fi
        ;;
esac

if [ "$1" = dockerd ]; then
    echo >&2 "This image has no engine: the tag -dind has"
fi
exec "$@"
