# Functions of slipway-backup: messages, settings, the encrypted folder in the Space, and the storages of the
# registry and of GitLab's files.
# Settings are in /etc/slipway/backup.env, which only root can read.
# Settings come from a file; other parts of the program use what is set here.
# shellcheck shell=bash disable=SC2034,SC2154,SC2120

STAGING=/var/opt/gitlab/slipway-backups
LAYERS=docker/registry/v2

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# load_settings FILE: the settings of this server, or those of another one's backups.
load_settings() {
  # shellcheck source=/dev/null
  . "$1"
  export RCLONE_CONFIG=/dev/null
  use_bucket SPACE "$BACKUP_ENDPOINT" "$BACKUP_REGION" "$BACKUP_ACCESS_KEY" "$BACKUP_SECRET_KEY"
  export RCLONE_CONFIG_SAFE_TYPE=crypt RCLONE_CONFIG_SAFE_REMOTE=space:$BACKUP_BUCKET/$BACKUP_PREFIX
  # Names stay readable, so that a wrong key can be told from an empty folder.
  export RCLONE_CONFIG_SAFE_FILENAME_ENCRYPTION=off RCLONE_CONFIG_SAFE_DIRECTORY_NAME_ENCRYPTION=false
  RCLONE_CONFIG_SAFE_PASSWORD=$(rclone obscure - <<<"$BACKUP_KEY")
  export RCLONE_CONFIG_SAFE_PASSWORD
}

# use_bucket NAME ENDPOINT REGION ACCESS_KEY SECRET_KEY: a remote of rclone. A scoped key may not create buckets.
use_bucket() {
  local prefix=RCLONE_CONFIG_$1
  printf -v "${prefix}_TYPE" s3
  printf -v "${prefix}_PROVIDER" Other
  printf -v "${prefix}_ENDPOINT" %s "$2"
  printf -v "${prefix}_REGION" %s "$3"
  printf -v "${prefix}_ACCESS_KEY_ID" %s "$4"
  printf -v "${prefix}_SECRET_ACCESS_KEY" %s "$5"
  printf -v "${prefix}_FORCE_PATH_STYLE" true
  printf -v "${prefix}_NO_CHECK_BUCKET" true
  export "${prefix}_TYPE" "${prefix}_PROVIDER" "${prefix}_ENDPOINT" "${prefix}_REGION" "${prefix}_ACCESS_KEY_ID"
  export "${prefix}_SECRET_ACCESS_KEY" "${prefix}_FORCE_PATH_STYLE" "${prefix}_NO_CHECK_BUCKET"
}

# use_images: the remote of the registry's storage, as the registry itself is configured: a bucket, or a folder.
use_images() {
  if [ -n "$REGISTRY_BUCKET" ]; then
    use_bucket IMAGES "$REGISTRY_ENDPOINT" "$REGISTRY_REGION" "$REGISTRY_ACCESS_KEY" "$REGISTRY_SECRET_KEY"
    IMAGES=images:$REGISTRY_BUCKET/$LAYERS
  else
    IMAGES=/var/opt/gitlab/gitlab-rails/shared/registry/$LAYERS
    [ -d "$IMAGES" ] || install -d -m 750 -o registry -g registry "$IMAGES"
  fi
}

# use_objects: the remote of GitLab's files in object storage: a folder for each bucket.
use_objects() {
  [ -n "$OBJECTS_BUCKETS" ] || return 0
  use_bucket OBJECTS "$OBJECTS_ENDPOINT" "$OBJECTS_REGION" "$OBJECTS_ACCESS_KEY" "$OBJECTS_SECRET_KEY"
}

# The log of rclone: errors alone, without a line for each try. Limits: no try lasts for ever.
transfer() {
  rclone --quiet --retries 3 --low-level-retries 5 --contimeout 20s --timeout 5m --fast-list "$@"
}

# attempt WHAT COMMAND…: run a command; if it fails, stop with its last line as the cause.
attempt() {
  local what=$1 log=$WORK/command.log
  shift
  "$@" >"$log" 2>&1 && return
  die "$what: $(cause "$log")"
}

# cause LOG: the last line that says something; what S3 adds to it is indented.
cause() { grep -v $'^\t' "$1" | tail -n 1; }

# lock: one backup or restore at a time. The lock ends with the process.
lock() {
  exec 9>/run/slipway-backup.lock
  flock --nonblock 9 || die "another backup or restore is running on this server; wait for its end. See it with: journalctl -fu slipway-backup"
  [ ! -e "$MOVING" ] || die "GitLab stands still, because its databases move to other servers; when an update was interrupted, run it again"
  WORK=$(mktemp --directory)
  trap 'rm -rf "$WORK"' EXIT
}

# backups: the IDs of all complete backups, the newest first. The manifest is uploaded last.
backups() {
  files_in safe:backups --max-depth 2 --include '/*/manifest.json' | sed 's,/manifest.json$,,' | sort -rn
}

# files_in FOLDER [OPTION…]: the paths of its files. A folder that does not exist has none; rclone reports it with 3.
files_in() {
  local status=0 log
  log=$(mktemp)
  transfer lsf --recursive --files-only "$@" 2>"$log" || status=$?
  [ "$status" = 0 ] || [ "$status" = 3 ] || { cause "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}

installed_version() { dpkg-query --show --showformat='${Version}' gitlab-ce; }
registry_database() { sed -n "s/^registry\['database'\].*'dbname' => '\([a-z0-9_]*\)'.*/\1/p" /etc/gitlab/registry.rb; }
free_kb() { df --output=avail --block-size=1K "$1" | tail -n 1 | tr -dc 0-9; }

# dump_registry_database FILE: the metadata database, which GitLab's own backup leaves out.
dump_registry_database() { dump_database "$(current_server postgresql)" "$(registry_database)" >"$1"; }

# gitlab_archive FOLDER: back GitLab up into a file of FOLDER, without images, which are copied as they are.
gitlab_archive() {
  local tar
  find "$STAGING" -maxdepth 1 -name '*_gitlab_backup.tar' -delete
  gitlab-backup create SKIP=registry CRON=1 || return 1
  tar=$(find "$STAGING" -maxdepth 1 -name '*_gitlab_backup.tar')
  [ -s "$tar" ] || { say "gitlab-backup has written no archive"; return 1; }
  mv "$tar" "$1/"
}
