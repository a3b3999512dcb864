# Functions for GitLab's files, on the data volume and in object storage. Input of all: OBJECT_BUCKETS (TYPE=BUCKET,
# separated by spaces; empty without object storage).

TASK_LOG=/var/log/slipway-objects.log

# bucket_of TYPE: print the bucket of a type.
bucket_of() { tr ' ' '\n' <<<"$OBJECT_BUCKETS" | sed -n "s/^$1=//p"; }

# count_files FOLDER: print how many files are in it, without those of uploads in progress.
count_files() {
  [ -d "$1" ] || { echo 0; return; }
  find "$1" -type f -not -path "$1/tmp/*" -not -name .gitkeep | wc -l
}

# run_task WHAT TASK: run one of GitLab's tasks, which report a file that they could not move and succeed nevertheless.
# Fails, and sets `cause`, if there was one.
run_task() {
  local status=0
  with_heartbeat "objects: $1" gitlab-rake "$2" >"$TASK_LOG.last" 2>&1 || status=$?
  cat "$TASK_LOG.last" >>"$TASK_LOG"
  cause=$(sed 's/\x1b\[[0-9;]*m//g' "$TASK_LOG.last" | grep -E 'ERROR -- :|WARN -- : Failed|Error while migrating' | head -n 1 | sed 's/^.* -- : //; s/^[[:space:]]*//') || true
  if [ -z "$cause" ] && [ "$status" != 0 ]; then
    cause=$(tail -n 1 "$TASK_LOG.last")
  fi
  rm -f "$TASK_LOG.last"
  [ -z "$cause" ]
}
