# shellcheck shell=bash
# Makes this machine the node of a managed Valkey, or changes it. Values are environment variables.
#
# As on DigitalOcean: TLS only, and a user who may do everything but administer the server.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
folder=/etc/valkey

if ! [[ -e $folder/valkey.conf ]]; then
  cloud-init status --wait > /dev/null || true
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends valkey-server > /dev/null
fi

if ! [[ -e $folder/node.key ]]; then
  install -o valkey -m 600 /dev/null "$folder/node.key"
  printf '%s' "$PRIVATE_KEY" > "$folder/node.key"
  printf '%s' "$CERTIFICATE" > "$folder/node.crt"
fi

read -r NAME PASSWORD <<< "$USERS"
hash=$(printf '%s' "$PASSWORD" | sha256sum | cut -d ' ' -f 1)
wanted="bind * -::*
port 0
tls-port $PORT
tls-cert-file $folder/node.crt
tls-key-file $folder/node.key
tls-ca-cert-file /etc/ssl/certs/ca-certificates.crt
tls-auth-clients no
maxclients 10000
maxmemory $((MEMORY * 3 / 4))mb
maxmemory-policy $EVICTION_POLICY
appendonly yes
dir /var/lib/valkey
pidfile /run/valkey/valkey-server.pid
logfile /var/log/valkey/valkey-server.log
supervised systemd
daemonize no
user $NAME on #$hash ~* &* +@all -@admin +slowlog"
if [[ $(cat "$folder/valkey.conf") != "$wanted" ]]; then
  printf '%s\n' "$wanted" > "$folder/valkey.conf"
  chown valkey:valkey "$folder/valkey.conf"
  chmod 640 "$folder/valkey.conf"
  systemctl restart valkey-server
fi
