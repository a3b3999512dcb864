# Verify that GitLab can use its managed databases, and let its user into them. Nothing on this machine changes before.
# Input: DATABASE_ADMIN_PASSWORD, DATABASE_ADMIN_USER, DATABASE_CA, DATABASE_HOST, DATABASE_NAME, DATABASE_PASSWORD,
# DATABASE_PORT, DATABASE_USER, REGISTRY_DATABASE, USES_DATABASE (the host is empty without a managed PostgreSQL), and
# KEYS_PROGRAM, USES_VALKEY, VALKEY_CA, VALKEY_HOST, VALKEY_PASSWORD, VALKEY_PORT.
main() {
  local folder
  folder=$(mktemp --directory)
  at_exit rm -rf "$folder"
  printf '%s\n' "$DATABASE_CA" >"$folder/database.crt"
  printf '%s\n' "$VALKEY_CA" >"$folder/valkey.crt"
  if [ "$USES_DATABASE" = yes ]; then
    database_settings "$folder/database.crt" >"$folder/database.env"
    DATABASE_ENV=$folder/database.env
    verify_database
    DATABASE_ENV=$KEPT_ENV
  fi
  [ "$USES_VALKEY" = no ] || verify_valkey "$folder/valkey.crt"
  keep_settings
}

KEPT_ENV=$DATABASE_ENV
# What the scripts of this machine reach the databases with, also on their way back to the package's own.
keep_settings() {
  install -d -m 755 /etc/gitlab/ssl /etc/slipway
  if [ -n "$DATABASE_HOST" ]; then
    write_file /etc/gitlab/ssl/slipway-database.crt 644 <<<"$DATABASE_CA"
    database_settings /etc/gitlab/ssl/slipway-database.crt | write_file "$DATABASE_ENV" 600
  fi
  [ -z "$VALKEY_HOST" ] || write_file /etc/gitlab/ssl/slipway-valkey.crt 644 <<<"$VALKEY_CA"
}

database_settings() {
  printf '%s=%q\n' PGHOST "$DATABASE_HOST" PGPORT "$DATABASE_PORT" PGUSER "$DATABASE_USER" PGPASSWORD "$DATABASE_PASSWORD" \
    PGSSLROOTCERT "$1" DATABASE_ADMIN_USER "$DATABASE_ADMIN_USER" DATABASE_ADMIN_PASSWORD "$DATABASE_ADMIN_PASSWORD"
}

PLACE="the managed PostgreSQL at $DATABASE_HOST"
verify_database() {
  local name
  await_database "user $DATABASE_USER" as_gitlab managed psql --no-psqlrc --quiet --tuples-only --no-align --dbname "$DATABASE_NAME" --command "SELECT 1"
  await_database "user $DATABASE_ADMIN_USER" run_sql managed "$DATABASE_NAME" "SELECT 1"
  require_database_version
  require_same_data
  for name in "$DATABASE_NAME" "$REGISTRY_DATABASE"; do
    require_own_database "$name"
  done
  require_extensions
  say "databases: PostgreSQL at $DATABASE_HOST accepts GitLab, and has what GitLab needs"
}

# await_database WHO COMMAND…: a cluster trusts a new server, and knows a new user, some moments after it says so.
await_database() {
  local who=$1 said deadline=$((SECONDS + 300)) patience=$((SECONDS + 120))
  shift
  until said=$("$@" 2>&1); do
    said=$(tail -n 1 <<<"$said")
    said=${said#psql: error: }
    case $said in
      *certificate*) die "$PLACE has a certificate that the cluster's authority did not issue ($said); nothing was changed. Run pulumi up --refresh: the authority may be another one now" ;;
      *"password authentication failed"* | *"does not exist"*)
        [ "$SECONDS" -lt "$patience" ] || die "$PLACE does not accept $who ($said); nothing was changed. If the password was reset in the control panel, run pulumi up --refresh" ;;
      *)
        [ "$SECONDS" -lt "$deadline" ] || die "$PLACE does not respond to $who ($said); nothing was changed. In the control panel, see whether the cluster is online, and whether its trusted sources have the tag of this server" ;;
    esac
    sleep 2
  done
}

# Backups are made with the package's client, which reads no server that is newer than itself.
require_database_version() {
  local server client
  server=$(run_sql managed "$DATABASE_NAME" "SELECT current_setting('server_version_num')::integer / 10000") || die "$PLACE does not say which version it is; nothing was changed"
  client=$(/opt/gitlab/embedded/bin/pg_dump --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
  [ "$server" -ge 17 ] || die "$PLACE is version $server, and GitLab 19 needs 17 or later; nothing was changed. Upgrade the cluster in the control panel"
  [ "$server" -le "$client" ] || die "$PLACE is version $server, and GitLab's own clients are of version $client, which can make no backup of it; nothing was changed. Use a cluster of version $client"
}

# From one managed server to another nothing is copied: DigitalOcean's own means do that, and then the mark is there.
require_same_data() {
  local other mark
  [ "$(current_server postgresql)" = managed ] && [ -e "$KEPT_ENV" ] || return 0
  # shellcheck disable=SC1090,SC2031
  other=$(. "$KEPT_ENV" && printf '%s' "$PGHOST")
  [ "$other" != "$DATABASE_HOST" ] || return 0
  mark=$(mark_of managed "$DATABASE_NAME") || die "$PLACE does not say whose database $DATABASE_NAME is (see above); nothing was changed"
  [ "$mark" != "slipway $(installation_id): in use" ] || return 0
  die "GitLab's tables are in the managed PostgreSQL at $other, and $DATABASE_HOST does not have them; nothing was changed. Move them to the server first, and from there to the other cluster"
}

# require_own_database NAME: one that has anybody else's tables is not touched. A new one is created.
require_own_database() {
  local stranger status=0
  has_database managed "$1" || status=$?
  [ "$status" -le 1 ] || die "$PLACE does not list its databases; nothing was changed"
  if [ "$status" = 1 ]; then
    create_database managed "$1" || die "$DATABASE_ADMIN_USER could not create database $1 in $PLACE (see above); nothing was changed"
  else
    admit_user "$1" "$DATABASE_USER" || die "$DATABASE_ADMIN_USER could not let $DATABASE_USER into database $1 of $PLACE (see above); nothing was changed"
  fi
  [ "$(current_server postgresql)" = bundled ] || { mark_new_database "$1"; return; }
  stranger=$(stranger_in managed "$1") || die "database $1 of $PLACE could not be read (see above); nothing was changed"
  [ -z "$stranger" ] || die "database $1 of $PLACE has $stranger, which are not this installation's; nothing was changed. Use an empty cluster, or drop what is in it"
  # Before the first configuration nothing can be lost, and the tables that it makes are known by this.
  is_configured_gitlab || mark_new_database "$1"
}
mark_new_database() { mark_database managed "$1" "in use" || die "database $1 of $PLACE could not be marked (see above); nothing was changed"; }
is_configured_gitlab() { [ -d /etc/gitlab/slipway-working ] || [ -e /var/opt/gitlab/bootstrapped ]; }

# GitLab loads them itself, and fails half way where it may not. Its documentation asks for amcheck as well, which its tables
# do not need, and which DigitalOcean is not known to offer.
require_extensions() {
  local name said missing=""
  run_sql managed "$DATABASE_NAME" "CREATE EXTENSION IF NOT EXISTS amcheck" >/dev/null 2>&1 ||
    say "databases: $PLACE does not offer the extension amcheck; GitLab runs without it, but not its check of indexes"
  for name in pg_trgm btree_gist; do
    said=$(run_sql managed "$DATABASE_NAME" "CREATE EXTENSION IF NOT EXISTS $name" 2>&1) || missing+="${missing:+; }$name (${said##*ERROR:  })"
  done
  [ -z "$missing" ] || die "$PLACE does not let extensions be loaded that GitLab needs: $missing; nothing was changed. Use a cluster of another version or provider"
}

# verify_valkey CA: the same for sessions, queues and caches.
verify_valkey() {
  local place="the managed Valkey at $VALKEY_HOST" said status deadline=$((SECONDS + 300)) program version policy keys mark
  program=$(mktemp)
  at_exit rm -f "$program"
  printf '%s\n' "$KEYS_PROGRAM" >"$program"
  while status=0; said=$(printf 'tls\t%s\t%s\t%s\t%s\n' "$VALKEY_HOST" "$VALKEY_PORT" "$1" "$VALKEY_PASSWORD" | python3 "$program" check 2>&1) || status=$?; [ "$status" != 0 ]; do
    said=$(tail -n 1 <<<"$said")
    case $status:$said in
      1:*[Cc][Ee][Rr][Tt][Ii][Ff][Ii][Cc][Aa][Tt][Ee]*) die "$place has a certificate that neither a public authority nor the cluster's own issued ($said); nothing was changed. Run pulumi up --refresh: the authority may be another one now" ;;
      1:*) die "$place refuses GitLab ($said); nothing was changed. If the password was reset in the control panel, run pulumi up --refresh" ;;
    esac
    [ "$SECONDS" -lt "$deadline" ] || die "$place does not respond ($said); nothing was changed. In the control panel, see whether the cluster is online, and whether its trusted sources have the tag of this server"
    sleep 2
  done
  { read -r version policy _ _ keys; read -r mark || true; } <<<"$said"
  [ "${version%%.*}" -ge 7 ] || die "$place speaks as Redis $version, and GitLab 19 needs 7 or later; nothing was changed"
  [ "$policy" = noeviction ] || die "$place evicts keys when its memory is full ($policy), and GitLab would lose jobs; nothing was changed. Set its eviction policy to noeviction"
  if [ "$(current_server redis)" = bundled ] && [ "$keys" != 0 ] && [[ $mark != "slipway $(installation_id):"* ]] && is_configured_gitlab; then
    die "$place has $keys keys that are not this installation's${mark:+ (it is marked \"$mark\")}; nothing was changed. Use an empty cluster"
  fi
  say "databases: Valkey at $VALKEY_HOST accepts GitLab"
}
