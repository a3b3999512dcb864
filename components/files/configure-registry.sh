# Verify that the registry can use its storage, then apply the registry's settings. Images that a registry without a
# metadata database has left in the storage are imported into the database first.
# Input: DATABASE, FQDN, PORT, PUBLIC_PORTS, REGISTRY_RB, and S3_ACCESS_KEY, S3_BUCKET, S3_ENDPOINT, S3_REGION, S3_SECRET_KEY (empty
# without object storage).
main() {
  local state unfinished=/etc/gitlab/registry.rb.unfinished
  [ -z "$S3_BUCKET" ] || has_begun || verify_bucket
  state=$(metadata_state)
  [ "$state" != database ] || use_known_database
  # Left by a run that was interrupted after writing the file: the new settings are not in effect yet.
  [ -e "$unfinished" ] || cp --preserve /etc/gitlab/registry.rb "$unfinished.new"
  if ! cmp --silent - /etc/gitlab/registry.rb <<<"$REGISTRY_RB" || [ -e "$unfinished" ] || ! registry_responds; then
    [ -e "$unfinished" ] || mv "$unfinished.new" "$unfinished"
    [ "$state" != legacy ] || import_images "$unfinished"
    apply_settings "$unfinished" "$REGISTRY_RB"
  fi
  storage_read "$DATABASE_NOTE" >/dev/null || finish_import "$state"
  rm -f "$unfinished" "$unfinished.new" "$BEGUN"
  # Only now: with another port, the registry was served on the former one until it answered on the new one.
  close_other_ports
  sha256sum /etc/gitlab/registry.rb | cut -d' ' -f1
}

# use_known_database: use the database that the storage names, for example because its endpoint has another name now. On
# a server without that database the registry would list nothing, and overwrite what other registries have.
use_known_database() {
  local named=$DATABASE status=0
  if storage_read "$DATABASE_NOTE" >/dev/null; then
    named=$(storage_read "$DATABASE_NOTE")
  fi
  [[ $named =~ ^[a-z0-9_]+$ ]] || die "$DATABASE_NOTE in $(storage_name) names no database; nothing was changed. Restore it, or use an empty bucket"
  has_database "$(current_server postgresql)" "$named" || status=$?
  [ "$status" -le 1 ] || die "GitLab's database does not respond; on the server, run: sudo gitlab-ctl status"
  [ "$status" = 0 ] || die "the images in $(storage_name) belong to a registry database, $named, that this server does not have: the registry would list none of them; nothing was changed. Restore that database from a backup, or use an empty bucket"
  REGISTRY_RB=${REGISTRY_RB//"'dbname' => '$DATABASE'"/"'dbname' => '$named'"}
  DATABASE=$named
}

# import_images PREVIOUS: import the list of images into the database, in GitLab's steps. Nothing can be pushed during
# the second one; images can be pulled all the time.
import_images() {
  local legacy=$REGISTRY_RB$'\n'"registry['database']['enabled'] = false"
  say "registry: importing the images in $(storage_name) into database $DATABASE"
  apply_settings "$1" "$legacy"
  registry_database "$1" migrate up
  registry_database "$1" import --step-one --log-to-stdout
  apply_settings "$1" "$legacy"$'\n'"registry['storage']['maintenance'] = { 'readonly' => { 'enabled' => true } }"
  registry_database "$1" import --step-two --log-to-stdout
}

# finish_import STATE: import what no image refers to, so that the garbage collector sees it; then note the database.
finish_import() {
  if [ "$1" != none ]; then
    registry_database "" import --step-three --log-to-stdout
    say "registry: the images in $(storage_name) are in database $DATABASE"
  fi
  printf '%s' "$DATABASE" | storage_write "$DATABASE_NOTE"
}

# registry_database PREVIOUS COMMAND…: run a command of GitLab's for the registry's database; if it fails, restore the
# file PREVIOUS.
registry_database() {
  local previous=$1 log=/var/log/slipway-registry-import.log
  shift
  with_heartbeat "registry: $1 $2" logged "$log" gitlab-ctl registry-database "$@" && return
  tail -n 15 "$log" >&2
  [ -z "$previous" ] || restore_settings "$previous"
  die "gitlab-ctl registry-database $* failed; images can be pulled and pushed as before. The full log is $log on the server"
}

# apply_settings PREVIOUS SETTINGS: apply registry.rb; if GitLab rejects it, restore the file PREVIOUS.
apply_settings() {
  say "registry: applying the configuration"
  write_file /etc/gitlab/registry.rb 600 <<<"$2"
  if ! reconfigure; then
    restore_settings "$1"
    die "GitLab rejects the registry's settings; the previous ones were restored"
  fi
  # The registry reads its settings only when it starts.
  if ! { gitlab-ctl restart registry >/dev/null && wait_for_registry; }; then
    restore_settings "$1"
    die "the registry does not respond on port $PORT with its new settings; the previous ones were restored. On the server, run: sudo gitlab-ctl tail registry"
  fi
}

restore_settings() {
  mv "$1" /etc/gitlab/registry.rb
  reconfigure || die "GitLab accepts neither the registry's new settings nor the previous ones; see above"
  gitlab-ctl restart registry >/dev/null 2>&1 || true
}

registry_responds() {
  [ "$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --resolve "$FQDN:$PORT:127.0.0.1" "https://$FQDN:$PORT/v2/")" = 401 ]
}

wait_for_registry() {
  local deadline=$((SECONDS + 120))
  until registry_responds; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.5
  done
  say "registry: responds on port $PORT"
}
