# Install the pinned GitLab package and hold it. Input: GITLAB_VERSION, KEY_FINGERPRINT, KEY_URL, PACKAGES_URL,
# REQUIRED_STOPS.
main() {
  local installed options=()
  mountpoint --quiet /var/opt/gitlab || die "the data volume is not mounted; GitLab would store its data on the droplet"
  trust_key "$KEY_URL" gitlab-keyring
  add_apt_source gitlab-ce "$PACKAGES_URL/$(distribution)/$(codename)" gitlab-keyring
  refuse_version
  installed=$(installed_version gitlab-ce)
  # What a snapshot has brought along has run nothing yet, so that an earlier version may take its place.
  is_configured || options=(--allow-downgrades)
  if [ "$installed" = "$GITLAB_VERSION" ]; then
    say "gitlab: $GITLAB_VERSION is installed"
  else
    if [ -n "$installed" ] && is_configured; then
      require_available gitlab-ce "$GITLAB_VERSION"
      wait_for_migrations
      back_up "$installed"
    fi
    say "gitlab: installing $GITLAB_VERSION (about 2.5 GB on disk)"
    note_dumps before
    at_exit remove_old_dumps
    # In a subshell, so that `die` in it does not end this script.
    (install_pinned gitlab-ce "$GITLAB_VERSION" ${options[@]+"${options[@]}"}) || { note_version; die_of_installation "$installed"; }
  fi
  note_version
  apt-mark hold gitlab-ce >/dev/null
  installed_version gitlab-ce
}

# The package would accept an older version, whose GitLab cannot read the database. What is there may be half installed:
# the version in the stack is still that of before an upgrade that has failed. On a new droplet there is no package, or
# one that has never run, and only the volume knows which version its data has; then nothing but this step refuses to
# skip a stop.
refuse_version() {
  local present="" stop what="the server already has GitLab"
  ! is_configured || present=$(present_version gitlab-ce)
  if [ -z "$present" ]; then
    [ -s "$DATA_VERSION" ] || return 0
    present=$(<"$DATA_VERSION") what="the data on the volume is that of GitLab"
  fi
  if dpkg --compare-versions "$present" gt "$GITLAB_VERSION"; then
    die "$what $present, and $GITLAB_VERSION cannot read its database; nothing was changed. Set gitlab.version to $present or later; to go back, restore a backup from before the upgrade in a new environment that has the older version: $WAY_BACK"
  fi
  for stop in $REQUIRED_STOPS; do
    if dpkg --compare-versions "$(minor "$present")" lt "$stop" && dpkg --compare-versions "$stop" lt "$(minor "$GITLAB_VERSION")"; then
      die "$what $present, and upgrades to $GITLAB_VERSION must stop at $stop; nothing was changed. Set gitlab.version to the latest $stop first"
    fi
  done
}
# Its services are linked by the first reconfigure on this machine.
is_configured() { [ -n "$(ls -A /opt/gitlab/service 2>/dev/null)" ]; }
minor() { cut -d. -f1,2 <<<"$1"; }

# The version whose migrations have at least begun on this volume.
DATA_VERSION=/var/opt/gitlab/.slipway-version
note_version() {
  local present
  present=$(present_version gitlab-ce)
  [ -z "$present" ] || write_file "$DATA_VERSION" 644 <<<"$present"
}
WAY_BACK="make backups, then make restore STACK=new FROM=stack:ID"

# die_of_installation BEFORE: say what runs now, and how to go on.
die_of_installation() {
  if [ "$(installed_version gitlab-ce)" = "$1" ] && [ -n "$1" ]; then
    die "GitLab $GITLAB_VERSION could not be installed (see above); GitLab $1 continues to run. Fix the cause, then run pulumi up again"
  fi
  [ "$(present_version gitlab-ce)" = "$GITLAB_VERSION" ] || die "GitLab $GITLAB_VERSION could not be installed (see above). Fix the cause, then run pulumi up again"
  die "GitLab $GITLAB_VERSION is installed, but its configuration or the migration of its database has failed (see above); GitLab is stopped. Fix the cause, then run pulumi up again, which continues here. Setting the earlier version again does not bring it back; if this cannot be fixed, restore the backup from before the upgrade in a new environment: $WAY_BACK. The full log is $PACKAGES_LOG on the server"
}

# The previous upgrade left data to migrate while GitLab runs. The next one fails half way if that has not finished.
wait_for_migrations() {
  local deadline=$((SECONDS + 3600)) announced=-60 unfinished stuck
  while unfinished=$(unfinished_migrations) || die "GitLab's database does not respond, so nobody knows whether the last upgrade has finished; nothing was installed. On the server, run: sudo gitlab-ctl start"; [ -n "$unfinished" ]; do
    stuck=$(grep -E '\|(0|4)$' <<<"$unfinished" | cut -d'|' -f1 | paste --serial --delimiters=' ') || true
    [ -z "$stuck" ] || die "background migrations of the last upgrade are paused or have failed: $stuck; nothing was installed. Resume or retry them in GitLab, in Admin > Monitoring > Background migrations"
    [ "$SECONDS" -lt "$deadline" ] || die "background migrations of the last upgrade have not finished within an hour; nothing was installed, and GitLab continues with them. Run this again later"
    if [ $((SECONDS - announced)) -ge 60 ]; then
      say "gitlab: waiting for $(wc -l <<<"$unfinished") background migrations of the last upgrade, such as $(head -n 1 <<<"$unfinished" | cut -d'|' -f1)"
      announced=$SECONDS
    fi
    sleep 5
  done
}

# back_up INSTALLED: what an upgrade breaks can be restored only with a backup of the version from before it.
back_up() {
  [ -x /usr/local/sbin/slipway-backup ] && systemctl is-enabled --quiet slipway-backup.timer || return 0
  say "gitlab: backing up $1 before the upgrade"
  with_heartbeat "backup" /usr/local/sbin/slipway-backup create "before GitLab $GITLAB_VERSION" >&2 ||
    die "the backup before the upgrade failed (see above); nothing was installed, and GitLab $1 continues to run"
}

# One line each: its name and state. 3 and 6 are finished and finalized, 0 paused, 4 failed.
unfinished_migrations() {
  read_as_gitlab "$(current_server postgresql)" gitlabhq_production \
    'SELECT job_class_name, status FROM batched_background_migrations WHERE status NOT IN (3, 6) ORDER BY id'
}

# Before an upgrade, the package dumps the database and backs up its settings, and never removes either. Those of the
# last two upgrades stay; backups that somebody else made are not touched.
BACKUPS=(/var/opt/gitlab/backups /var/opt/gitlab/slipway-backups /etc/gitlab/config_backup)
note_dumps() {
  local folder
  for folder in "${BACKUPS[@]}"; do
    [ ! -d "$folder" ] || find "$folder" -maxdepth 1 -name '*.tar' | sort >"$folder/.slipway-$1"
  done
}
remove_old_dumps() {
  local folder
  note_dumps after
  for folder in "${BACKUPS[@]}"; do
    [ -e "$folder/.slipway-after" ] || continue
    touch "$folder/.slipway-before" "$folder/.slipway-dumps"
    comm -13 "$folder/.slipway-before" "$folder/.slipway-after" >>"$folder/.slipway-dumps"
    head --lines=-2 "$folder/.slipway-dumps" | xargs --no-run-if-empty --delimiter='\n' rm -f
    tail --lines=2 "$folder/.slipway-dumps" >"$folder/.slipway-kept"
    mv "$folder/.slipway-kept" "$folder/.slipway-dumps"
    rm -f "$folder/.slipway-before" "$folder/.slipway-after"
  done
}
