# Install the check of what nobody can see from outside, and run it once.
# Input: BACKUP_HOURS, DISK_PERCENT, PROGRAM, SERVICE, TIMER, TOKEN_DAYS, TOKEN_EXPIRES.
main() {
  install -d -m 755 /etc/slipway
  write_file /etc/slipway/health.env 644 <<SETTINGS
BACKUP_HOURS=$BACKUP_HOURS
DISK_PERCENT=$DISK_PERCENT
TOKEN_DAYS=$TOKEN_DAYS
TOKEN_EXPIRES=$TOKEN_EXPIRES
SETTINGS
  write_file /usr/local/sbin/slipway-health 755 <<<"$PROGRAM"
  write_file /etc/systemd/system/slipway-health.service 644 <<<"$SERVICE"
  write_file /etc/systemd/system/slipway-health.timer 644 <<<"$TIMER"
  systemctl daemon-reload
  systemctl enable --quiet --now slipway-health.timer
  # What is wrong by now is for the alert; the update goes on.
  systemctl start slipway-health || say "health: $(slipway-health || true)"
  say "health: checked every five minutes"
}
