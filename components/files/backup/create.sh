# Making backups and listing them. A backup is a folder `backups/ID`: GitLab's own archive, /etc/gitlab, the host keys,
# the registry's metadata database, and the lists of the files that its images consist of and of GitLab's files in object
# storage. These files are shared by all backups, in `images` and `objects`. `manifest.json` is written last: a folder without one is
# unfinished.
# Settings come from a file; common.sh has the functions.
# shellcheck shell=bash disable=SC2034,SC2154

create() {
  local reason=$1 id folder
  lock
  use_images
  use_objects
  require_space
  attempt "the Space cannot be reached; nothing was backed up" backups
  folder=$(mktemp --directory "$STAGING/.create.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$WORK' '$folder'" EXIT
  say "backup: GitLab's data"
  gitlab_archive "$folder" >"$WORK/gitlab.log" 2>&1 || { tail -n 20 "$WORK/gitlab.log" >&2; die "gitlab-backup failed (see above); nothing was uploaded"; }
  id=$(basename "$folder"/*_gitlab_backup.tar _gitlab_backup.tar)
  say "backup: the registry's database, the configuration and the host keys"
  # Before the images: what a push adds meanwhile is not in the dump, and what is in the dump is deleted later, if at all.
  attempt "the registry's database could not be dumped; nothing was uploaded" dump_registry_database "$folder/registry.dump"
  attempt "/etc/gitlab could not be backed up; nothing was uploaded" gitlab-ctl backup-etc --no-delete-old-backups --backup-path "$folder"
  mv "$folder"/gitlab_config_*.tar "$folder/etc-gitlab.tar"
  (cd /etc/ssh && tar --create --file "$folder/host-keys.tar" ssh_host_*)
  copy_images "$folder"
  copy_objects "$folder"
  write_manifest "$id" "$reason" "$folder"
  upload "$id" "$folder"
  remove_old
  say "backup: $id is complete"
}

# GitLab's archive is written beside its parts before these are deleted.
require_space() {
  local needed free
  needed=$(($(du --summarize --block-size=1K --total --exclude='registry' /var/opt/gitlab/git-data /var/opt/gitlab/gitlab-rails 2>/dev/null | tail -n 1 | cut -f1) * 2))
  free=$(free_kb "$STAGING")
  [ "$free" -ge "$needed" ] || die "the data volume has $((free / 1024)) MB left, and a backup may need $((needed / 1024)) MB; nothing was backed up. Increase server.volumeSizeGb"
}

# copy_images FOLDER: copy what the storage has and no backup had yet. Uploads in progress are of no use.
copy_images() {
  say "backup: the images in ${IMAGES#images:}"
  attempt "the registry's storage could not be listed; nothing was uploaded" list_files "$1/images.txt"
  attempt "the images could not be copied" transfer copy --size-only --files-from-raw "$1/images.txt" "$IMAGES" safe:images
}
# copy_objects FOLDER: the same for GitLab's files in object storage. Unlike images, a file such as an avatar can have
# another content under the same name, so those that are newer than their copy are copied again.
copy_objects() {
  local entry type bucket
  : >"$1/objects.txt"
  for entry in $OBJECTS_BUCKETS; do
    type=${entry%%=*} bucket=${entry#*=}
    say "backup: GitLab's files in $bucket"
    attempt "bucket $bucket could not be listed; nothing was uploaded" list_bucket "$bucket"
    attempt "the files in bucket $bucket could not be copied" \
      transfer copy --update --use-server-modtime --files-from-raw "$WORK/objects" "objects:$bucket" "safe:objects/$type"
    # What GitLab has deleted meanwhile is in no backup.
    attempt "the copied files could not be listed" list_copies "$type"
    comm -12 "$WORK/objects" "$WORK/copies" | sed "s,^,$type/," >>"$1/objects.txt"
  done
}
list_bucket() { files_in "objects:$1" --exclude 'tmp/**' | sort >"$WORK/objects"; }
list_copies() { files_in "safe:objects/$1" | sort >"$WORK/copies"; }
list_files() { files_in "$IMAGES" --exclude '_uploads/**' | sort >"$1"; }

write_manifest() {
  local id=$1 reason=$2 folder=$3 file files=()
  for file in "$folder"/*; do
    files+=("$(jq --null-input --arg name "$(basename "$file")" --arg sum "$(sha256sum <"$file" | cut -d' ' -f1)" \
      --argjson size "$(stat --format %s "$file")" '{name: $name, sha256: $sum, size: $size}')")
  done
  printf '%s\n' "${files[@]}" | jq --slurp --arg id "$id" --arg reason "$reason" --arg version "$(installed_version)" \
    --arg host "$FQDN" --arg storage "${REGISTRY_BUCKET:+object storage}" \
    --arg files_storage "${OBJECTS_BUCKETS:+object storage}" --argjson objects "$(wc -l <"$folder/objects.txt")" \
    --argjson images "$(grep -c '/data$' "$folder/images.txt" || true)" --argjson time "$(date +%s)" \
    '{id: $id, time: $time, reason: $reason, gitlab_version: $version, host: $host,
      storage: (if $storage == "" then "filesystem" else $storage end), blobs: $images,
      files_storage: (if $files_storage == "" then "filesystem" else $files_storage end), objects: $objects,
      size: (map(.size) | add), files: .}' >"$WORK/manifest.json"
}

upload() {
  say "backup: uploading $(du --summarize --human-readable "$2" | cut -f1)"
  attempt "the backup could not be uploaded; what was is unfinished" transfer copy "$2" "safe:backups/$1"
  attempt "the backup could not be completed" transfer copy "$WORK/manifest.json" "safe:backups/$1"
}

# remove_old: keep those that are young enough and those that are among the newest; then the images of the kept ones.
remove_old() {
  local known id kept=() position=0 oldest
  known=$(backups) || die "the old backups could not be listed; none was removed"
  oldest=$(($(date +%s) - KEEP_DAYS * 86400))
  for id in $known; do
    position=$((position + 1))
    if [ "$position" -le "$KEEP_LAST" ] || [ "${id%%_*}" -ge "$oldest" ]; then
      kept+=("$id")
    else
      say "backup: removing $id"
      attempt "$id could not be removed" transfer purge "safe:backups/$id"
    fi
  done
  remove_unfinished "${kept[@]}"
  remove_unused images images.txt "images" "${kept[@]}"
  remove_unused objects objects.txt "files of GitLab's" "${kept[@]}"
}

# What an interrupted backup has left: this run holds the lock, so none is in progress.
remove_unfinished() {
  local id
  for id in $(transfer lsf --dirs-only safe:backups 2>/dev/null | sed 's,/$,,'); do
    [[ " $* " == *" $id "* ]] && continue
    say "backup: removing $id, which is unfinished"
    attempt "$id could not be removed" transfer purge "safe:backups/$id"
  done
}

# remove_unused FOLDER LIST WHAT ID…: remove from a shared folder what is in the lists of no backup. Backups from before
# there was such a list need nothing.
remove_unused() {
  local folder=$1 list=$2 what=$3 id
  shift 3
  : >"$WORK/used"
  for id in "$@"; do
    [ -n "$(files_in "safe:backups/$id" --include "/$list")" ] || continue
    transfer cat "safe:backups/$id/$list" >>"$WORK/used" || die "the list of the $what of $id could not be read; none was removed"
  done
  files_in "safe:$folder" | sort >"$WORK/stored" || die "the stored $what could not be listed; none was removed"
  sort --unique "$WORK/used" | comm -13 - "$WORK/stored" >"$WORK/unused"
  [ ! -s "$WORK/unused" ] || attempt "$what that no backup needs could not be removed" transfer delete --files-from-raw "$WORK/unused" "safe:$folder"
}

# list: the manifests, the newest first, and the IDs of unfinished ones.
list() {
  local known id all WORK
  WORK=$(mktemp --directory)
  known=$(backups) || die "the Space with the backups cannot be listed"
  all=$(transfer lsf --dirs-only safe:backups 2>/dev/null | sed 's,/$,,') || true
  for id in $known; do
    transfer cat "safe:backups/$id/manifest.json" 2>"$WORK/log" || die "$id cannot be decrypted: $(cause "$WORK/log"). The stack's key is not the one that it was made with"
  done | jq --slurp --arg all "$all" '. as $known | {backups: $known, unfinished: (($all | split("\n")) - ($known | map(.id)) | map(select(. != "")))}'
  rm -rf "$WORK"
}
