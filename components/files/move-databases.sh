# Functions that move GitLab's databases between the servers of its package and managed ones, while GitLab stands still.
# The content of one server is copied into the other and compared; what is there stays, so that nothing is lost whatever
# fails. Which of the two counts is noted on the data volume, in one line that changes when the copy is complete. Input:
# DATABASE_HOST, DATABASE_STORAGE_MIB, KEYS_PROGRAM, USES_DATABASE, USES_VALKEY, VALKEY_HOST, VALKEY_PASSWORD, VALKEY_PORT.

REDIS_SOCKET=/var/opt/gitlab/redis/redis.socket
# What is there only if a Redis of the package's has run, also on a volume that comes to a new machine.
REDIS_DUMP=/var/opt/gitlab/redis/dump.rdb
# What neither GitLab's tables nor its keys are written by. All other services stop.
STAY="gitaly logrotate nginx postgresql redis"
# What does write there, by name: a new machine has no services yet, and starts each as soon as it is configured.
WRITERS="gitlab-exporter gitlab-kas gitlab-pages gitlab-workhorse mailroom puma registry sidekiq"
# Whether GitLab's services stand still, and what this run has handed over: words SERVICE:FROM:TO.
stopped=no
[ ! -e "$MOVING" ] || stopped=yes
handed_over=""
# The servers of the configuration in effect, as in counting_servers. Empty while nobody knows: a run that was killed may
# have applied another one, and so may a reconfigure that has failed.
in_effect=""

# move_databases: bring tables and keys to the servers that the settings name, if they are elsewhere.
move_databases() {
  local tables="" keys=""
  [ -d "$WORKING_COPY" ] || return 0
  [ "$(current_server postgresql)" = "$(wanted_server "$USES_DATABASE")" ] || tables=$(current_server postgresql)
  [ "$(current_server redis)" = "$(wanted_server "$USES_VALKEY")" ] || keys=$(current_server redis)
  [ -n "$tables$keys" ] || return 0
  require_way "$tables" "$keys"
  stop_writers
  # What leaves the package's servers goes first: starting one of them for what comes back may end the other.
  [ "$tables" != bundled ] || copy_databases bundled managed
  [ "$keys" != bundled ] || copy_keys bundled managed
  [[ " $tables $keys " != *" managed "* ]] || start_bundled_servers
  [ "$tables" != managed ] || copy_databases managed bundled
  [ "$keys" != managed ] || copy_keys managed bundled
  [ -z "$tables" ] || hand_over postgresql "$tables" "$(other_server "$tables")"
  [ -z "$keys" ] || hand_over redis "$keys" "$(other_server "$keys")"
}
wanted_server() { if [ "$1" = yes ]; then echo managed; else echo bundled; fi; }
other_server() { if [ "$1" = managed ]; then echo bundled; else echo managed; fi; }
name_of() { if [ "$1" = managed ]; then echo "the managed cluster"; else echo "this server"; fi; }

# require_way TABLES KEYS: what would fail half way is refused while GitLab runs.
require_way() {
  local bytes free
  [ "$1$2" = "${1#managed}${2#managed}" ] || require_clusters "$1" "$2"
  [ "$1" != bundled ] || restart_bundled_server postgresql PostgreSQL
  [ "$2" != bundled ] || ! has_own_redis || restart_bundled_server redis Redis
  [ -n "$1" ] || return 0
  bytes=$(run_sql "$1" "${MAINTENANCE[$1]}" "SELECT coalesce(sum(pg_database_size(datname)), 0) FROM pg_database WHERE datname ~ '^(gitlabhq_production|registry)'") ||
    die "the PostgreSQL that GitLab uses does not respond (see above); nothing was changed"
  if [ "$1" = managed ]; then
    free=$(df --output=avail --block-size=1 /var/opt/gitlab | tail -n 1 | tr -dc 0-9)
    [ "$free" -gt $((bytes + bytes / 4 + 1610612736)) ] ||
      die "the data volume has $((free / 1048576)) MB left, and GitLab's databases have $((bytes / 1048576)) MB; nothing was changed. Increase server.volumeSizeGb"
  elif [ -n "$DATABASE_STORAGE_MIB" ]; then
    [ "$bytes" -lt $((DATABASE_STORAGE_MIB * 1048576 * 4 / 5)) ] ||
      die "the managed PostgreSQL has $DATABASE_STORAGE_MIB MiB of storage, and GitLab's databases have $((bytes / 1048576)) MB; nothing was changed. Increase databases.postgresql.storageSizeGb"
  fi
}

# The way back needs what it comes from.
require_clusters() {
  [ "$1" != managed ] || [ -n "$DATABASE_HOST" ] || die "GitLab's tables are in a managed PostgreSQL that this stack does not have any more; nothing was changed. Set databases.postgresql.kind to managed again, or restore a backup in a new environment"
  [ "$2" != managed ] || [ -n "$VALKEY_HOST" ] || die "GitLab's sessions and jobs are in a managed Valkey that this stack does not have any more; nothing was changed. Set databases.valkey.kind to managed again"
}

# restart_bundled_server SERVICE NAME: on a new droplet, nothing has run yet, and a run that was killed may have left it
# disabled. Redis refuses questions until it has read its keys.
restart_bundled_server() {
  local deadline
  ! bundled_server_responds "$1" 2>/dev/null || return 0
  say "databases: starting the servers of GitLab's package"
  # Of what counts, the other half may be in a cluster already.
  stop_writers
  cp --archive "$WORKING_COPY/etc/gitlab/gitlab.rb" /etc/gitlab/gitlab.rb
  apply || true
  gitlab-ctl start "$1" >/dev/null 2>&1 || true
  deadline=$((SECONDS + 60))
  until bundled_server_responds "$1" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; do sleep 1; done
  bundled_server_responds "$1" || die "the $2 of GitLab's package does not start (see above); nothing was changed. On the server, run: sudo gitlab-ctl tail $1"
}
bundled_server_responds() {
  if [ "$1" = redis ]; then keys_server bundled | run_keys check >/dev/null; else run_sql bundled template1 "SELECT 1" >/dev/null; fi
}
has_own_redis() { [ -e /opt/gitlab/service/redis ] || [ -e "$REDIS_DUMP" ]; }

# apply: have gitlab.rb take effect, and know whose it is.
apply() {
  in_effect=""
  reconfigure && in_effect=$(servers_of /etc/gitlab/gitlab.rb)
}
servers_of() { echo "$(configured_server postgresql "$1") $(configured_server redis "$1")"; }
counting_servers() { echo "$(current_server postgresql) $(current_server redis)"; }

# stop_writers: nothing may write while the databases are copied, neither after a restart of the machine, nor once one
# that is new has been configured. A backup that runs comes first.
stop_writers() {
  local service services
  # With it, no backup and no restore begins.
  : >"$MOVING"
  if [ "$stopped" = no ]; then
    await_backup
    stopped=yes
    in_effect=$(counting_servers)
  fi
  services="$WRITERS $(writing_services)"
  # All of these first: it takes a while until each has stopped, and the power may fail meanwhile.
  for service in $services; do
    install -d -m 755 /opt/gitlab/sv "/opt/gitlab/sv/$service"
    touch "/opt/gitlab/sv/$service/down"
  done
  for service in $services; do
    [ ! -e "/opt/gitlab/service/$service" ] || gitlab-ctl stop "$service" >/dev/null 2>&1 || true
  done
}
await_backup() {
  local lock=/run/slipway-backup.lock
  flock --nonblock "$lock" true || { say "databases: waiting for the end of a backup"; flock --wait 7200 "$lock" true; } || { rm -f "$MOVING"; die "a backup has been running for two hours; nothing was changed"; }
  say "databases: GitLab stands still from here on, while its databases move"
}
writing_services() {
  local service
  for service in /opt/gitlab/service/*; do
    [[ ! -e $service || " $STAY $WRITERS " == *" ${service##*/} "* ]] || echo "${service##*/}"
  done
}

# resume_services: start what stands still, unless that would run with another server than the one that counts.
resume_services() {
  local one service from moved=$handed_over
  # A run that has ended while it waited for a backup has stopped nothing.
  [ "$stopped" = yes ] || { rm -f "$MOVING"; return 0; }
  if [ "$in_effect" != "$(counting_servers)" ]; then
    say "gitlab: it stands still, because the configuration in effect is not the one for its databases; the next update goes on"
    return
  fi
  # From here on, GitLab writes: what was handed over is not taken back.
  handed_over=""
  rm -f /opt/gitlab/sv/*/down "$MOVING"
  # Those of services that this GitLab does not have.
  rmdir /opt/gitlab/sv/* 2>/dev/null || true
  stopped=no
  gitlab-ctl start >/dev/null 2>&1 || true
  [ "${exit_status:-0}" != 0 ] || return 0
  for one in $moved; do
    IFS=: read -r service from _ <<<"$one"
    mark_server "$service" "$from" "in use" 2>/dev/null
  done
}

# start_bundled_servers: have the package start its own, without tables of GitLab's: those are on their way.
start_bundled_servers() {
  say "databases: starting the servers of GitLab's package"
  write_secrets
  applied=yes in_effect=""
  write_file /etc/gitlab/gitlab.rb 600 <<<"$(bundled_settings)"
  reconfigure || die "the servers of GitLab's package could not be started"
  # A new machine has its services only now.
  stop_writers
}
bundled_settings() { printf '%s\n' "$GITLAB_RB" "gitlab_rails['auto_migrate'] = false" "registry['auto_migrate'] = false"; }

# copy_databases FROM TO: each of GitLab's and its registry's, with everything in it.
copy_databases() {
  local name names
  names=$(databases_of "$1") || die "the PostgreSQL that GitLab uses does not respond (see above)"
  for name in $names; do
    # The package has made the registry's by itself, if it had none.
    [ "$2" != bundled ] || [ "$name" = gitlabhq_production ] || continue
    refuse_stranger "$2" "$name"
  done
  for name in $names; do
    close_sessions "$1" "$name"
    copy_database "$1" "$2" "$name"
  done
}

# refuse_stranger SERVER NAME: only what is known to be this installation's, or to be absent, is replaced.
refuse_stranger() {
  local stranger status=0
  has_database "$1" "$2" || status=$?
  [ "$status" != 1 ] || return 0
  { [ "$status" = 0 ] && stranger=$(stranger_in "$1" "$2"); } || die "nobody knows what database $2 of $(name_of "$1") has (see above); it was not touched"
  [ -z "$stranger" ] || die "database $2 of $(name_of "$1") has $stranger, which are not this installation's; it was not touched"
}

# close_sessions SERVER NAME: those of programs that do not belong to GitLab's services, such as consoles.
close_sessions() {
  run_sql "$1" "${MAINTENANCE[$1]}" "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '$2' AND usename IN ('gitlab', 'registry')" >/dev/null 2>&1 || true
}

copy_database() {
  local from=$1 to=$2 name=$3 extension work
  work=$(mktemp --directory)
  at_exit rm -rf "$work"
  say "databases: copying $name ($(($(run_sql "$from" "$name" "SELECT pg_database_size('$name')") / 1048576)) MB) to $(name_of "$to")"
  { drop_database "$to" "$name" && create_database "$to" "$name" && mark_database "$to" "$name" "unfinished copy"; } ||
    die "database $name could not be created in $(name_of "$to") (see above)"
  for extension in $(run_sql "$from" "$name" "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY oid"); do
    run_sql "$to" "$name" "CREATE EXTENSION IF NOT EXISTS \"$extension\"" >/dev/null && continue
    # GitLab's tables do not need it.
    [ "$extension" = amcheck ] || die "extension $extension of database $name could not be loaded in $(name_of "$to") (see above)"
    say "databases: $(name_of "$to") does not offer the extension amcheck; GitLab runs without it, but not its check of indexes"
  done
  with_heartbeat "databases: $name" send_database "$from" "$to" "$name" "$work/log" ||
    { tail -n 5 "$work/log" >&2; die "database $name could not be copied to $(name_of "$to") (see above)"; }
  { contents_of "$from" "$name" >"$work/from" && contents_of "$to" "$name" >"$work/to"; } || die "database $name could not be compared (see above)"
  cmp --silent "$work/from" "$work/to" ||
    die "database $name is not the same in $(name_of "$to"): $(diff "$work/from" "$work/to" | grep '^[<>]' | head -n 4 | tr '\n' ' ')"
  say "databases: $name is complete, $(grep -c '^table|' "$work/from" || true) tables"
}

# send_database FROM TO NAME LOG: the tables belong to whoever is their user on the other server. There, extensions are
# nobody's to change, so they are created before.
send_database() {
  {
    [ "$2" = managed ] || printf 'SET ROLE %s;\n' "$(owner_of "$3")"
    as_gitlab "$1" pg_dump --no-owner --no-privileges --exclude-extension='*' "$3" && printf 'ANALYZE;\n'
  } 2>"$4" | as_gitlab "$2" psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --output /dev/null --dbname "$3" 2>>"$4"
}

# contents_of SERVER NAME: the number of rows of every table, the value of every sequence, and how much else there is.
# The package's server ends a statement after a minute, which a large table exceeds. Indexes that pg_dump leaves out, such as
# one whose concurrent creation has failed, do not count.
contents_of() {
  as_gitlab "$1" psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$2" <<'SQL'
SET statement_timeout = 0;
SELECT format('SELECT ''table'', %L, count(*) FROM %I.%I', nspname || '.' || relname, nspname, relname)
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
  ORDER BY nspname COLLATE "C", relname COLLATE "C" \gexec
SELECT 'sequence', schemaname, sequencename, last_value FROM pg_sequences
  ORDER BY schemaname COLLATE "C", sequencename COLLATE "C";
SELECT 'relations', relkind, count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
  WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%' AND NOT EXISTS (
    SELECT FROM pg_index JOIN pg_class indexed ON indexed.oid = indrelid
    WHERE indexrelid = pg_class.oid AND NOT (indisready AND (indisvalid OR indexed.relkind = 'p')))
  GROUP BY relkind ORDER BY relkind;
SELECT 'constraints', contype, count(*) FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace
  WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%' GROUP BY contype ORDER BY contype;
SELECT 'triggers', count(*) FROM pg_trigger WHERE NOT tgisinternal;
SQL
}

# keys_server SERVER: how the program for keys reaches it.
keys_server() {
  if [ "$1" = bundled ]; then
    printf 'socket\t%s\n' "$REDIS_SOCKET"
  else
    printf 'tls\t%s\t%s\t/etc/gitlab/ssl/slipway-valkey.crt\t%s\n' "$VALKEY_HOST" "$VALKEY_PORT" "$VALKEY_PASSWORD"
  fi
}

# run_keys COMMAND… : run the program for keys; the servers are on standard input.
run_keys() {
  local program status=0
  program=$(mktemp)
  printf '%s\n' "$KEYS_PROGRAM" >"$program"
  python3 "$program" "$@" || status=$?
  rm -f "$program"
  return "$status"
}

# copy_keys FROM TO: sessions, jobs in queues, scheduled jobs and those that are tried again. The cache is left behind.
copy_keys() {
  local said used room
  has_own_redis || { say "databases: this GitLab runs no Redis of its own, so there are no keys to copy"; return 0; }
  said=$(keys_server "$1" | run_keys check 2>&1) || die "the Redis that GitLab uses does not respond: $(tail -n 1 <<<"$said")"
  read -r _ _ _ used _ <<<"$said"
  said=$(keys_server "$2" | run_keys check 2>&1) || die "the Redis of $(name_of "$2") does not respond: $(tail -n 1 <<<"$said")"
  read -r _ _ room _ <<<"$said"
  [ "$room" = 0 ] || [ "$used" -lt "$room" ] || die "the Redis of $(name_of "$2") has $((room / 1048576)) MB of memory, and GitLab's keys use $((used / 1048576)) MB. Increase databases.valkey.size"
  say "databases: copying sessions and jobs to $(name_of "$2")"
  said=$({ keys_server "$1"; keys_server "$2"; } | run_keys copy slipway "$(installation_id):" unfinished copy 2>&1) ||
    die "sessions and jobs could not be copied to $(name_of "$2"): $(tail -n 1 <<<"$said")"
  say "databases: $said keys are complete"
}

# hand_over SERVICE FROM TO: from here on the other server counts, whatever happens to this run.
hand_over() {
  mark_server "$1" "$2" "left"
  mark_server "$1" "$3" "in use"
  note_server "$1" "$3"
  handed_over+=" $1:$2:$3"
}

# take_back: GitLab did not start with what was handed over, and goes back to where it was.
take_back() {
  local one service from to
  [ "$exit_status" != 0 ] && [ -n "$handed_over" ] || return 0
  stop_writers
  for one in $handed_over; do
    IFS=: read -r service from to <<<"$one"
    note_server "$service" "$from"
    mark_server "$service" "$to" "unfinished copy" 2>/dev/null
  done
}

# has_moved_before: whether what the last working configuration does not use was handed over, by a run that was killed, or
# by one that has failed once GitLab wrote there.
has_moved_before() { [ "$(counting_servers)" != "$(servers_of "$WORKING_COPY/etc/gitlab/gitlab.rb")" ]; }

# mark_server SERVICE SERVER WORDS: for people, and for the next move.
mark_server() {
  local name
  if [ "$1" = redis ]; then
    [ "$2" = bundled ] && [ ! -e "$REDIS_SOCKET" ] || keys_server "$2" | run_keys mark slipway "$(installation_id):" "$3" || true
    return
  fi
  for name in $(databases_of "$2"); do
    mark_database "$2" "$name" "$3" || true
  done
}

# note_server SERVICE SERVER
note_server() {
  { grep -v "^$1 " "$SERVERS" 2>/dev/null || true; echo "$1 $2"; } | write_file "$SERVERS" 600
}
