#!/bin/sh
# Entrypoint of the engine. Listens on its socket and on TCP: with TLS on 2376 where DOCKER_TLS_CERTDIR is set, with
# certificates made at every start, those of clients in $DOCKER_TLS_CERTDIR/client; else without on 2375.
set -eu

# An authority unless there is one. Certificates are made anew: addresses change, and a client folder may have been
# kept from an engine with another authority.
make_certificates() {
    folder=$1
    mkdir -p "$folder/ca" "$folder/server" "$folder/client"
    if [ ! -s "$folder/ca/key.pem" ]; then
        [ ! -s "$folder/ca/cert.pem" ] || return 0 # somebody else's authority: its certificates are theirs to make
        make_key "$folder/ca/key.pem"
        openssl req -new -x509 -key "$folder/ca/key.pem" -out "$folder/ca/cert.pem" -days 825 -sha256 \
            -subj '/CN=docker:dind CA'
    fi
    names=IP:127.0.0.1,IP:::1,DNS:docker,DNS:localhost,DNS:$(hostname)
    for address in $(hostname -I); do
        names=$names,IP:$address
    done
    [ -z "${DOCKER_TLS_SAN:-}" ] || names=$names,$DOCKER_TLS_SAN
    issue "$folder" server serverAuth "$names" 'docker:dind server'
    issue "$folder" client clientAuth '' 'docker:dind client'
    chmod 0644 "$folder/client/key.pem" # jobs need not be root
}

# The length of the official image's keys: it takes most of the start of an engine that finds none.
make_key() { openssl genrsa -out "$1" 4096; }

issue() {
    folder=$1 kind=$2 usage=$3 names=$4 subject=$5
    [ -s "$folder/$kind/key.pem" ] || make_key "$folder/$kind/key.pem"
    {
        echo "extendedKeyUsage = $usage"
        [ -z "$names" ] || echo "subjectAltName = $names"
    } > "$folder/$kind/extensions.cnf"
    openssl req -new -key "$folder/$kind/key.pem" -out "$folder/$kind/csr.pem" -subj "/CN=$subject"
    openssl x509 -req -in "$folder/$kind/csr.pem" -CA "$folder/ca/cert.pem" -CAkey "$folder/ca/key.pem" \
        -CAcreateserial -out "$folder/$kind/cert.new" -days 825 -sha256 -extfile "$folder/$kind/extensions.cnf" 2>&1
    cp "$folder/ca/cert.pem" "$folder/$kind/ca.pem"
    mv "$folder/$kind/cert.new" "$folder/$kind/cert.pem"
}

# Control groups of version 2 cannot be handed on by a group that has processes of its own.
nest_control_groups() {
    [ -f /sys/fs/cgroup/cgroup.controllers ] || return 0
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs 2> /dev/null || :
    sed -e 's/ / +/g' -e 's/^/+/' < /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control || :
}

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
    if [ -n "${DOCKER_TLS_CERTDIR:-}" ]; then
        server=$DOCKER_TLS_CERTDIR/server
        set -- --host=tcp://0.0.0.0:2376 --tlsverify "--tlscacert=$server/ca.pem" "--tlscert=$server/cert.pem" \
            "--tlskey=$server/key.pem" "$@"
    else
        set -- --host=tcp://0.0.0.0:2375 "$@"
    fi
    set -- dockerd --host=unix:///var/run/docker.sock "$@"
fi

if [ "$1" = dockerd ]; then
    if ! mount -t tmpfs none /mnt 2> /dev/null; then
        echo >&2 'error: an engine in a container needs privileges: run this image with --privileged'
        exit 1
    fi
    umount /mnt
    if [ -n "${DOCKER_TLS_CERTDIR:-}" ]; then
        make_certificates "$DOCKER_TLS_CERTDIR"
    fi
    # From a former run of this container.
    find /run/ -name 'docker*.pid' -delete -o -name 'container*.pid' -delete
    nest_control_groups
    mount --make-rshared /
else
    set -- docker-entrypoint.sh "$@"
fi
exec "$@"
