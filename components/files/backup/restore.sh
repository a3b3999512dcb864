# Restoring one backup, from this server's Space or from another's. Nothing is overwritten before the whole backup is on
# this server and has been checked, and the present state has been saved; if a later step fails, that is put back.
# Standard input: lines NAME=VALUE. BACKUP_… replace the settings of this server's own backups; HOST_KEY=take takes over
# the SSH host keys of the backup; DISCARD_PRESENT=yes restores over a GitLab that cannot be backed up any more.
# Settings come from a file; common.sh has the functions.
# shellcheck shell=bash disable=SC2034,SC2154,SC2153

restore() {
  local id=$1
  HOST_KEY=keep DISCARD_PRESENT=no CHANGED=no
  lock
  load_settings "$SETTINGS"
  use_images
  use_objects
  # Own settings first: those of the images are always this server's.
  cat >"$WORK/given"
  load_settings "$WORK/given"
  FOLDER=$(mktemp --directory "$STAGING/.restore.XXXXXX")
  trap 'finish_restore $?' EXIT
  read_manifest "$id"
  require_same_version
  require_space_for_restore
  download "$id"
  verify_download
  require_images
  require_objects
  [ "$DISCARD_PRESENT" = yes ] || save_present
  say "restore: everything is here and has been checked; GitLab stops now"
  CHANGED=yes
  restore_everything "$FOLDER"
  [ "$HOST_KEY" = keep ] || restore_host_keys
  CHANGED=no
  say "restore: $id is restored"
}

# finish_restore STATUS: after a failure, put back what was there before.
finish_restore() {
  local status=$1
  trap - EXIT
  if [ "$status" != 0 ] && [ "$CHANGED" = yes ]; then
    if [ "$DISCARD_PRESENT" = yes ]; then
      say "restore: it failed half way, and the previous state was not saved. Fix the cause, and restore again"
    elif (restore_everything "$FOLDER/present"); then
      say "restore: it failed; the previous state is in effect again"
    else
      say "restore: it failed, and so did putting the previous state back. That state is in $FOLDER/present; fix the cause, and restore again with --discard-present"
      rm -rf "$WORK"
      exit "$status"
    fi
  fi
  rm -rf "$WORK" "$FOLDER"
  exit "$status"
}

read_manifest() {
  local id=$1 known
  known=$(backups) || die "the Space with the backups cannot be listed; nothing was changed"
  if ! grep -qxF "$id" <<<"$known"; then
    known=${known:-none}
    [ -z "$(transfer lsf "safe:backups/$id" 2>/dev/null || true)" ] ||
      die "$id is unfinished: the run that made it was interrupted; nothing was changed. Complete backups: ${known//$'\n'/, }"
    die "there is no backup $id; nothing was changed. There are: ${known//$'\n'/, }"
  fi
  transfer cat "safe:backups/$id/manifest.json" >"$WORK/manifest.json" 2>"$WORK/command.log" ||
    die "$id cannot be decrypted ($(cause "$WORK/command.log")); nothing was changed. The key is not the one that it was made with: use that of the stack that made it"
  jq --exit-status '.id and .gitlab_version and .files' "$WORK/manifest.json" >/dev/null 2>&1 ||
    die "the manifest of $id is damaged; nothing was changed. Use another backup"
}
field() { jq --raw-output ".$1" "$WORK/manifest.json"; }

# GitLab restores a backup of its own version alone.
require_same_version() {
  local made installed
  made=$(field gitlab_version)
  installed=$(installed_version)
  [ "$made" = "$installed" ] || die "the backup was made by GitLab $made, and $installed is installed; GitLab restores a backup of its own version only; nothing was changed. Set gitlab.version to $made in the stack file of a new environment, run pulumi up, and restore there"
}

# GitLab wants three times its archive; the archive itself and what is saved of the present state come on top.
require_space_for_restore() {
  local needed free
  needed=$(($(field size) * 6 / 1024))
  free=$(free_kb "$STAGING")
  [ "$free" -ge "$needed" ] || die "the data volume has $((free / 1024)) MB left, and restoring this backup needs $((needed / 1024)) MB; nothing was changed. Increase server.volumeSizeGb"
}

download() {
  say "restore: downloading $1 ($(($(field size) / 1048576)) MB)"
  attempt "the backup could not be downloaded; nothing was changed" transfer copy "safe:backups/$1" "$FOLDER"
}

verify_download() {
  local sum name
  while read -r sum name; do
    [ -f "$FOLDER/$name" ] || die "the backup lacks $name; nothing was changed. Use another backup"
    [ "$(sha256sum <"$FOLDER/$name" | cut -d' ' -f1)" = "$sum" ] || die "$name in the backup is damaged; nothing was changed. Use another backup"
  done < <(jq --raw-output '.files[] | .sha256 + " " + .name' "$WORK/manifest.json")
  tar --list --file "$FOLDER/$(archive_of "$FOLDER")" >/dev/null || die "GitLab's archive in the backup is damaged; nothing was changed. Use another backup"
  /opt/gitlab/embedded/bin/pg_restore --list "$FOLDER/registry.dump" >/dev/null || die "the registry's database in the backup is damaged; nothing was changed. Use another backup"
}
archive_of() { basename "$1"/*_gitlab_backup.tar; }

require_images() {
  local missing
  attempt "the images of the backup could not be listed; nothing was changed" list_stored
  missing=$(comm -23 <(sort "$FOLDER/images.txt") "$WORK/stored" | wc -l)
  [ "$missing" = 0 ] || die "the backup lacks $missing of $(wc -l <"$FOLDER/images.txt") files of images; nothing was changed. Use another backup"
}

# A database that says that a file is in object storage is of no use on a server without it.
require_objects() {
  local missing
  [ -s "$FOLDER/objects.txt" ] || return 0
  [ -n "$OBJECTS_BUCKETS" ] || die "the backup has $(wc -l <"$FOLDER/objects.txt") files of GitLab's that were in object storage, and this server has none for them; nothing was changed. Set objectStorage.storage to spaces, run pulumi up, and restore again"
  attempt "the files of the backup could not be listed; nothing was changed" list_stored_objects
  missing=$(comm -23 <(sort "$FOLDER/objects.txt") "$WORK/stored-objects" | wc -l)
  [ "$missing" = 0 ] || die "the backup lacks $missing of $(wc -l <"$FOLDER/objects.txt") files of GitLab's; nothing was changed. Use another backup"
}
list_stored_objects() { files_in safe:objects | sort >"$WORK/stored-objects"; }
list_stored() { files_in safe:images | sort >"$WORK/stored"; }

save_present() {
  local present=$FOLDER/present
  say "restore: saving the present state"
  install -d -m 700 "$present"
  { gitlab_archive "$present" && dump_registry_database "$present/registry.dump"; } >"$WORK/gitlab.log" 2>&1 ||
    { tail -n 5 "$WORK/gitlab.log" >&2; die "the present state could not be saved; nothing was changed. If it is of no use any more: --discard-present"; }
  tar --create --absolute-names --file "$present/etc-gitlab.tar" /etc/gitlab/gitlab-secrets.json
}

# restore_everything FOLDER: GitLab's documented order: secrets, then the data while nothing uses the database.
restore_everything() {
  local from=$1 archive
  archive=$(archive_of "$from")
  restore_images "$from"
  restore_objects "$from"
  tar --extract --absolute-names --file "$from/etc-gitlab.tar" /etc/gitlab/gitlab-secrets.json || return 1
  attempt "GitLab does not accept the secrets of the backup" gitlab-ctl reconfigure
  gitlab-ctl stop puma >/dev/null || true
  gitlab-ctl stop sidekiq >/dev/null 2>&1 || true
  gitlab-ctl stop registry >/dev/null || true
  install -m 600 -o git -g git "$from/$archive" "$STAGING/$archive" || return 1
  say "restore: GitLab's data"
  GITLAB_ASSUME_YES=1 gitlab-backup restore "BACKUP=${archive%_gitlab_backup.tar}" SKIP=registry >"$WORK/gitlab.log" 2>&1 ||
    { rm -f "$STAGING/$archive"; tail -n 20 "$WORK/gitlab.log" >&2; say "error: gitlab-backup restore failed (see above)"; return 1; }
  rm -f "$STAGING/$archive"
  restore_registry_database "$from/registry.dump" || return 1
  attempt "GitLab cannot be configured after the restore" gitlab-ctl reconfigure
  gitlab-ctl restart >/dev/null || true
  wait_until_ready
}

# Images are only added: what the present state needs stays until the garbage collector finds that nothing does.
restore_images() {
  [ -e "$1/images.txt" ] || return 0
  say "restore: $(grep -c '/data$' "$1/images.txt" || true) blobs of images"
  attempt "the images could not be copied; GitLab's data is unchanged" transfer copy --size-only --files-from-raw "$1/images.txt" safe:images "$IMAGES"
  [ -n "$REGISTRY_BUCKET" ] || chown -R registry: "$IMAGES"
}

# restore_objects FOLDER: the same for GitLab's files, each into the bucket of its type.
restore_objects() {
  local entry type
  [ -s "$1/objects.txt" ] || return 0
  say "restore: $(wc -l <"$1/objects.txt") files of GitLab's"
  for entry in $OBJECTS_BUCKETS; do
    type=${entry%%=*}
    sed -n "s,^$type/,,p" "$1/objects.txt" >"$WORK/objects"
    [ -s "$WORK/objects" ] || continue
    attempt "the files of $type could not be copied; GitLab's data is unchanged" transfer copy --size-only --files-from-raw "$WORK/objects" "safe:objects/$type" "objects:${entry#*=}"
  done
}

# The database that this server's storage belongs to gets the content; its former content is dropped at the end.
restore_registry_database() {
  local server database before
  server=$(current_server postgresql)
  database=$(registry_database)
  before=${database}_before_restore
  say "restore: the registry's database"
  # A restore that was killed may have left the former content under its other name alone.
  if has_database "$server" "$database"; then
    drop_database "$server" "$before" && rename_database "$server" "$database" "$before" || return 1
  fi
  create_database "$server" "$database" || return 1
  [ "$server" = bundled ] || mark_database "$server" "$database" "in use" || return 1
  load_database "$server" "$database" <"$1" ||
    { say "error: the registry's database could not be restored (see above)"; return 1; }
  drop_database "$server" "$before"
}

restore_host_keys() {
  say "restore: taking over the SSH host keys of the backup"
  tar --extract --file "$FOLDER/host-keys.tar" --directory /etc/ssh
  sshd -t || die "sshd does not accept the host keys of the backup"
  systemctl reload-or-restart ssh
  # The stack gets it, so that the next connection is pinned to it.
  cat /etc/ssh/ssh_host_ed25519_key
}

wait_until_ready() {
  local port deadline=$((SECONDS + 900))
  until curl --fail --silent --max-time 10 --output /dev/null --resolve "$FQDN:443:127.0.0.1" "https://$FQDN/-/readiness"; do
    [ "$SECONDS" -lt "$deadline" ] || { say "error: GitLab is not ready fifteen minutes after the restore; on the server, run: sudo gitlab-ctl status"; return 1; }
    sleep 1
  done
  port=$(sed -n "s#^registry_external_url 'https://[^:']*:\([0-9]*\)'.*#\1#p" /etc/gitlab/registry.rb)
  until [ "$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' --resolve "$FQDN:$port:127.0.0.1" "https://$FQDN:$port/v2/")" = 401 ]; do
    [ "$SECONDS" -lt "$deadline" ] || { say "error: the registry does not respond fifteen minutes after the restore; on the server, run: sudo gitlab-ctl tail registry"; return 1; }
    sleep 1
  done
}
