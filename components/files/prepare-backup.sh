# Install the program that backs GitLab up, its settings and its timer.
# Input: BUCKET, COMMON, CREATE, DATABASE_LIBRARY, PROGRAM, RESTORE, SERVICE, SETTINGS, TIMER.
main() {
  local library=/usr/local/lib/slipway-backup timer=/etc/systemd/system/slipway-backup.timer
  { command -v rclone && command -v jq; } >/dev/null || install_packages jq rclone || die "rclone and jq could not be installed; no backups can be made"
  require_space_for_backups
  install -d -m 755 "$library"
  install -d -m 755 /etc/slipway
  write_file "$library/common.sh" 644 <<<"$COMMON"
  write_file "$library/create.sh" 644 <<<"$CREATE"
  write_file "$library/database.sh" 644 <<<"$DATABASE_LIBRARY"
  write_file "$library/restore.sh" 644 <<<"$RESTORE"
  write_file /etc/slipway/backup.env 600 <<<"$SETTINGS"
  write_file /usr/local/sbin/slipway-backup 755 <<<"$PROGRAM"
  write_file /etc/systemd/system/slipway-backup.service 644 <<<"$SERVICE"
  write_checked "$timer" 644 verify_timer "$timer" <<<"$TIMER" || die "systemd rejects the times in backup.times; the previous ones stay"
  systemctl daemon-reload
  systemctl enable --quiet slipway-backup.timer
  # Even if it is running: its times may have changed.
  systemctl restart slipway-backup.timer
  say "backup: the next one starts at $(systemctl show --property NextElapseUSecRealtime --value slipway-backup.timer)"
}

verify_timer() { systemd-analyze verify "$1" >/dev/null; }

# Do what a backup does, with its very key: write, read, list and delete. A new key may not be accepted for some seconds.
# Meanwhile, the next backup uses the settings from before.
require_space_for_backups() {
  local deadline=$((SECONDS + 60)) said proof
  proof=$(mktemp --directory)
  at_exit rm -rf "$proof"
  printf '%s\n' "$COMMON" >"$proof/common.sh"
  printf '%s\n' "$SETTINGS" >"$proof/backup.env"
  until said=$(round_trip "$proof" 2>&1); do
    [ "$SECONDS" -lt "$deadline" ] || die "the key for backups cannot write, read and delete in the Space $BUCKET, and the previous settings stay: $(tail -n 1 <<<"$said")"
    sleep 2
  done
  say "backup: the key can write, read, list and delete in the Space $BUCKET"
}

round_trip() (
  # shellcheck source=/dev/null
  . "$1/common.sh"
  load_settings "$1/backup.env"
  transfer rcat safe:check.txt <<<"written" && [ "$(transfer cat safe:check.txt)" = written ] &&
    backups >/dev/null && transfer deletefile safe:check.txt
)
