# Functions for GitLab's files, on the data volume and in object storage. Input of all: OBJECT_BUCKETS (TYPE=BUCKET,
# separated by spaces; empty without object storage), UPLOADS_PROGRAM.

TASK_LOG=/var/log/slipway-objects.log

# bucket_of TYPE: print the bucket of a type.
bucket_of() { tr ' ' '\n' <<<"$OBJECT_BUCKETS" | sed -n "s/^$1=//p"; }

# count_files FOLDER: print how many files are in it, without those of uploads in progress.
count_files() {
  [ -d "$1" ] || { echo 0; return; }
  find "$1" -type f -not -path "$1/tmp/*" -not -name .gitkeep | wc -l
}

# move_uploads STORE: move attachments, avatars and logos there; 1 is the data volume, 2 object storage.
move_uploads() {
  local program status=0
  program=$(mktemp --suffix=.rb)
  printf '%s\n' "$UPLOADS_PROGRAM" >"$program"
  # GitLab's Rails console runs as git.
  chmod 644 "$program"
  gitlab-rails runner "$program" <<<"$1" || status=$?
  rm -f "$program"
  return "$status"
}

# run_task WHAT COMMAND…: run what moves files. GitLab's tasks report one that they could not move and succeed
# nevertheless. Fails, and sets `cause`, if there was one.
run_task() {
  local what=$1 status=0
  shift
  : >"$TASK_LOG.last"
  with_heartbeat "objects: $what" logged "$TASK_LOG.last" "$@" || status=$?
  cat "$TASK_LOG.last" >>"$TASK_LOG"
  cause=$(sed 's/\x1b\[[0-9;]*m//g' "$TASK_LOG.last" | grep -E 'ERROR -- :|WARN -- : Failed|Error while migrating' | head -n 1 | sed 's/^.* -- : //; s/^[[:space:]]*//') || true
  if [ -z "$cause" ] && [ "$status" != 0 ]; then
    cause=$(tail -n 1 "$TASK_LOG.last")
    cause=${cause:-it ended with status $status}
  fi
  rm -f "$TASK_LOG.last"
  [ -z "$cause" ]
}
