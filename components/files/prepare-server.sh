# Harden the server and mount its data volume.
# Input: ADMIN_USER, APT_CONF, AUTHORIZED_KEYS, BANNER, COREDUMP_CONF, FAIL2BAN_CONF, FQDN, LIMITS_CONF, MODPROBE_CONF,
# PUBLIC_PORTS, SSHD_CONF, SYSCTL_CONF, VOLUME_NAME, VOLUME_SIZE_GB.
main() {
  remove_first_contact_keys
  harden_ssh
  hostnamectl set-hostname "$FQDN"
  harden_system
  configure_firewall
  mount_data
  say "server: ready"
}

mount_data() {
  local device=/dev/disk/by-id/scsi-0DO_Volume_$VOLUME_NAME data=/mnt/gitlab deadline=$((SECONDS + 60)) mounted=no
  # After it is attached, udev needs some seconds to show it.
  until [ -e "$device" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "volume $VOLUME_NAME is attached, but $device does not appear"
    sleep 0.5
  done
  # Formatted here rather than by DigitalOcean, which would also mount its file system in a second place.
  [ -n "$(blkid -p -s TYPE -o value "$device")" ] || mkfs.ext4 -q "$device"
  install -d -m 755 "$data"
  release_lost_data "$data" "$device"
  ensure_mounted "$data" "$device" ext4 defaults,nofail,discard,noatime
  # The volume may have been enlarged; the file system grows with it.
  resize2fs "$device" >/dev/null 2>&1 || die "the file system of volume $VOLUME_NAME could not be enlarged to $VOLUME_SIZE_GB GiB"
  local pair
  for pair in etc:/etc/gitlab opt:/var/opt/gitlab log:/var/log/gitlab; do
    install -d -m 755 "$data/${pair%%:*}" "${pair#*:}"
    ensure_mounted "${pair#*:}" "$data/${pair%%:*}" none "bind,nofail,x-systemd.requires-mounts-for=$data"
  done
  # What was installed and never configured on this machine has no services.
  [ "$mounted" = no ] || [ -z "$(ls -A /opt/gitlab/service 2>/dev/null)" ] || restart_gitlab
}

# release_lost_data TARGET DEVICE: a volume that was detached may be mounted still, from a device that is gone.
release_lost_data() {
  local target
  mountpoint --quiet "$1" || return 0
  [ "$(mountpoint --fs-devno "$1")" != "$(mountpoint --devno "$2")" ] || return 0
  say "server: the volume was detached; mounting it again"
  gitlab-ctl stop >/dev/null 2>&1 || true
  for target in /etc/gitlab /var/opt/gitlab /var/log/gitlab "$1"; do
    umount --lazy "$target" 2>/dev/null || true
  done
}

# Whatever ran without its data has stopped, or has written next to it. A later step waits until GitLab is ready.
restart_gitlab() {
  # While its databases move, it stands still, and the step that moves them starts it.
  [ ! -e /etc/gitlab/slipway-moving ] || return 0
  say "server: starting GitLab on its data again"
  with_heartbeat "server: start of GitLab" gitlab-ctl restart >/dev/null || say "server: some of GitLab's services did not start"
}

# ensure_mounted TARGET SOURCE TYPE OPTIONS: mount now, and at every boot.
ensure_mounted() {
  grep -q " $1 " /etc/fstab || printf '%s %s %s %s 0 0\n' "$2" "$1" "$3" "$4" >>/etc/fstab
  mountpoint --quiet "$1" && return
  mount "$1"
  mounted=yes
}
