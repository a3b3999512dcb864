# shellcheck shell=bash
# Makes this machine the node of a managed PostgreSQL, or changes it. Values are environment variables.
#
# As on DigitalOcean: TLS only, no superuser for customers, and extensions that are not trusted only from a list. What is
# not known to be on the real list, such as amcheck, is not on this one.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
cluster="/etc/postgresql/$VERSION/main"

if ! [[ -d $cluster ]]; then
  cloud-init status --wait > /dev/null || true
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "postgresql-$VERSION" "postgresql-$VERSION-pgextwlist" > /dev/null
fi

if [[ $(cat "$cluster/conf.d/size" 2> /dev/null || true) != "$CONNECTIONS $MEMORY" ]]; then
  if ! [[ -e $cluster/node.key ]]; then
    install -o postgres -m 600 /dev/null "$cluster/node.key"
    printf '%s' "$PRIVATE_KEY" > "$cluster/node.key"
    printf '%s' "$CERTIFICATE" > "$cluster/node.crt"
  fi
  cat > "$cluster/conf.d/managed.conf" << EOF
listen_addresses = '*'
port = $PORT
max_connections = $((CONNECTIONS + 3))
superuser_reserved_connections = 3
shared_buffers = $((MEMORY / 5))MB
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '$cluster/node.crt'
ssl_key_file = '$cluster/node.key'
session_preload_libraries = 'pgextwlist'
extwlist.extensions = 'btree_gin,btree_gist,citext,hstore,pg_stat_statements,pg_trgm,pgcrypto,unaccent,uuid-ossp'
EOF
  cat > "$cluster/pg_hba.conf" << 'EOF'
local all postgres peer
hostssl all postgres all reject
hostssl all all all scram-sha-256
EOF
  systemctl restart "postgresql@$VERSION-main"
  echo "$CONNECTIONS $MEMORY" > "$cluster/conf.d/size"
fi

as_superuser() {
  runuser -u postgres -- psql --port "$PORT" --no-psqlrc --quiet --tuples-only --set ON_ERROR_STOP=1 > /dev/null
}

while read -r NAME PASSWORD; do
  export NAME PASSWORD
  as_superuser << 'EOF'
\getenv name NAME
\getenv password PASSWORD
\getenv admin ADMIN
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', :'name', :'password') \gexec
SELECT format('ALTER ROLE %I CREATEDB CREATEROLE REPLICATION', :'name') WHERE :'name' = :'admin' \gexec
SELECT format('GRANT pg_read_all_stats, pg_signal_backend TO %I', :'name') WHERE :'name' = :'admin' \gexec
EOF
done <<< "$USERS"

while read -r NAME; do
  [[ $NAME ]] || continue
  export NAME
  as_superuser << 'EOF'
\getenv name NAME
\getenv admin ADMIN
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'admin')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
EOF
done <<< "$DATABASES"

while read -r NAME; do
  [[ $NAME ]] || continue
  export NAME
  as_superuser << 'EOF'
\getenv name NAME
SELECT format('DROP DATABASE IF EXISTS %I WITH (FORCE)', :'name') \gexec
EOF
done <<< "$DROPPED_DATABASES"

while read -r NAME; do
  [[ $NAME ]] || continue
  export NAME
  as_superuser << 'EOF'
\getenv name NAME
SELECT format('DROP ROLE IF EXISTS %I', :'name') \gexec
EOF
done <<< "$DROPPED_USERS"
