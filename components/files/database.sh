# Functions for the PostgreSQL server that GitLab uses: `bundled`, the one of its package, or `managed`, one outside.

# How to reach a managed one, as GitLab's user and as the owner of its databases. Only root can read it.
DATABASE_ENV=/etc/slipway/database.env
# Where databases are created and dropped from.
declare -A MAINTENANCE=([bundled]=template1 [managed]=defaultdb)

# Which servers have GitLab's data, after a move of this program's: lines `postgresql SERVER` and `redis SERVER`.
SERVERS=/etc/gitlab/slipway-servers
# There while they move and GitLab stands still, also after a run that was killed.
# shellcheck disable=SC2034
MOVING=/etc/gitlab/slipway-moving
# What names this installation in a server outside. It is on the data volume, as GitLab's secrets are.
INSTALLATION=/etc/gitlab/slipway-installation

# current_server SERVICE: print which server has GitLab's data, of `postgresql` or `redis`: where the last move has taken
# it, or that of the configuration with which GitLab became ready last.
current_server() {
  local file=/etc/gitlab/slipway-working/etc/gitlab/gitlab.rb moved
  moved=$(sed -n "s/^$1 //p" "$SERVERS" 2>/dev/null) || true
  [ -z "$moved" ] || { echo "$moved"; return; }
  [ -e "$file" ] || file=/etc/gitlab/gitlab.rb
  configured_server "$1" "$file"
}
configured_server() { if grep -qs "^$1\['enable'\] = false" "$2"; then echo managed; else echo bundled; fi; }

# run_sql SERVER DATABASE STATEMENT: run it as the owner of the database, and print what it returns without decoration.
run_sql() {
  if [ "$1" = bundled ]; then
    gitlab-psql -d "$2" -tAc "$3"
  else
    as_database_admin psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$2" --command "$3"
  fi
}

# read_as_gitlab SERVER DATABASE STATEMENT: the same in GitLab's own tables. The administrator of a managed server owns the
# database, and not what GitLab has created in it.
read_as_gitlab() {
  if [ "$1" = bundled ]; then
    run_sql "$@"
  else
    as_gitlab managed psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$2" --command "$3"
  fi
}

# as_database_admin PROGRAM…: run a client of PostgreSQL's as the owner of the managed databases.
as_database_admin() { (use_managed_database admin && run_client "$@"); }

# as_gitlab SERVER PROGRAM…: run one as whoever owns GitLab's tables; on the package's server, as its administrator.
as_gitlab() {
  local server=$1
  shift
  if [ "$server" = bundled ]; then
    (cd / && exec runuser --user gitlab-psql -- "/opt/gitlab/embedded/bin/$1" -h /var/opt/gitlab/postgresql "${@:2}")
  else
    (use_managed_database gitlab && run_client "$@")
  fi
}

# use_managed_database admin|gitlab: the password is in the environment of the client alone, never in its command line.
# shellcheck disable=SC1090,SC2030,SC2031,SC2154
use_managed_database() {
  [ -r "$DATABASE_ENV" ] || die "GitLab uses a managed PostgreSQL, and $DATABASE_ENV, which says where it is, is not there. Run pulumi up, which writes it"
  . "$DATABASE_ENV"
  [ "$1" = gitlab ] || PGUSER=$DATABASE_ADMIN_USER PGPASSWORD=$DATABASE_ADMIN_PASSWORD
  export PGHOST PGPORT PGUSER PGPASSWORD PGSSLMODE=verify-full PGSSLROOTCERT PGCONNECT_TIMEOUT=15 PGAPPNAME=slipway
}
run_client() { cd / && exec "/opt/gitlab/embedded/bin/$1" "${@:2}"; }

# has_database SERVER NAME: whether there is such a database. Fails with 2 if nobody knows.
has_database() {
  local found
  found=$(run_sql "$1" "${MAINTENANCE[$1]}" "SELECT count(*) FROM pg_database WHERE datname = '$2'") || return 2
  [ "$found" = 1 ]
}

# create_database SERVER NAME: an empty one that GitLab, or its registry, may fill. In a managed one, the administrator owns
# databases, and nobody may become another user.
create_database() {
  local user
  if [ "$1" = bundled ]; then
    run_sql bundled template1 "CREATE DATABASE $2 OWNER $(owner_of "$2")" >/dev/null
  else
    user=$(managed_user)
    run_sql managed defaultdb "CREATE DATABASE \"$2\"" && admit_user "$2" "$user"
  fi
}
owner_of() { if [ "$1" = gitlabhq_production ]; then echo gitlab; else echo registry; fi; }
# shellcheck disable=SC2031
managed_user() { (use_managed_database gitlab && printf '%s' "$PGUSER"); }

# admit_user DATABASE USER: let a user create what it needs there.
admit_user() {
  run_sql managed "$1" "GRANT ALL ON DATABASE \"$1\" TO \"$2\"" && run_sql managed "$1" "GRANT ALL ON SCHEMA public TO \"$2\""
}

# drop_database SERVER NAME: drop it if it is there, whoever is connected to it.
drop_database() {
  if [ "$1" = bundled ]; then
    run_sql bundled template1 "DROP DATABASE IF EXISTS $2 WITH (FORCE)" >/dev/null
  else
    run_sql managed defaultdb "DROP DATABASE IF EXISTS \"$2\" WITH (FORCE)"
  fi
}

# rename_database SERVER NAME NEW: nothing may be connected to it.
rename_database() { run_sql "$1" "${MAINTENANCE[$1]}" "ALTER DATABASE $2 RENAME TO $3" >/dev/null; }

# dump_database SERVER NAME: print it as an archive of PostgreSQL's.
dump_database() { as_gitlab "$1" pg_dump -Fc "$2"; }

# load_database SERVER NAME: read an archive of either server into an empty database. The owners of tables differ.
load_database() {
  local role=()
  [ "$1" = managed ] || role=(--role "$(owner_of "$2")")
  as_gitlab "$1" pg_restore --no-owner --no-privileges --exit-on-error ${role[@]+"${role[@]}"} -d "$2"
}

# The name under which this installation is known in a server outside.
installation_id() {
  [ -s "$INSTALLATION" ] || { od -An -N8 -tx1 /dev/urandom | tr -d ' \n' >"$INSTALLATION.new" && mv "$INSTALLATION.new" "$INSTALLATION"; }
  cat "$INSTALLATION"
}

# mark_database SERVER NAME WORDS: say in the server whose database it is, and what it is to it.
mark_database() { run_sql "$1" "${MAINTENANCE[$1]}" "COMMENT ON DATABASE \"$2\" IS 'slipway $(installation_id): $3'" >/dev/null; }

# mark_of SERVER NAME: what was said. Nothing if there was nothing, or no such database.
mark_of() { run_sql "$1" "${MAINTENANCE[$1]}" "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = '$2'"; }

# databases_of SERVER: the databases of GitLab and its registry, one a line. The registry has one for each storage.
databases_of() {
  run_sql "$1" "${MAINTENANCE[$1]}" "SELECT datname FROM pg_database WHERE datname ~ '^(gitlabhq_production|registry(_[0-9a-f]{12})?)\$' ORDER BY datname"
}

# stranger_in SERVER NAME: print whose tables a database has, if they are not this installation's.
stranger_in() {
  local mark tables
  mark=$(mark_of "$1" "$2") || return 1
  [[ $mark != "slipway $(installation_id):"* ]] || return 0
  tables=$(run_sql "$1" "$2" "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") || return 1
  [ "$tables" = 0 ] || printf '%s tables%s' "$tables" "${mark:+, and is marked \"$mark\"}"
}
