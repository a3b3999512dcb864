# Harden the server and mount its data volume.
# Input: ADMIN_USER, AUTHORIZED_KEYS, FQDN, PUBLIC_PORTS, VOLUME_NAME, VOLUME_SIZE_GB.
main() {
  remove_first_contact_keys
  harden_ssh
  hostnamectl set-hostname "$FQDN"
  configure_firewall
  mount_data
  say "server: ready"
}

mount_data() {
  local device=/dev/disk/by-id/scsi-0DO_Volume_$VOLUME_NAME data=/mnt/gitlab deadline=$((SECONDS + 60))
  # After it is attached, udev needs some seconds to show it.
  until [ -e "$device" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "volume $VOLUME_NAME is attached, but $device does not appear"
    sleep 0.5
  done
  # Formatted here rather than by DigitalOcean, which would also mount its file system in a second place.
  [ -n "$(blkid -p -s TYPE -o value "$device")" ] || mkfs.ext4 -q "$device"
  install -d -m 755 "$data"
  ensure_mounted "$data" "$device" ext4 defaults,nofail,discard,noatime
  # The volume may have been enlarged; the file system grows with it.
  resize2fs "$device" >/dev/null 2>&1 || die "the file system of volume $VOLUME_NAME could not be enlarged to $VOLUME_SIZE_GB GiB"
  local pair
  for pair in etc:/etc/gitlab opt:/var/opt/gitlab log:/var/log/gitlab; do
    install -d -m 755 "$data/${pair%%:*}" "${pair#*:}"
    ensure_mounted "${pair#*:}" "$data/${pair%%:*}" none "bind,nofail,x-systemd.requires-mounts-for=$data"
  done
}

# ensure_mounted TARGET SOURCE TYPE OPTIONS: mount now, and at every boot.
ensure_mounted() {
  grep -q " $1 " /etc/fstab || printf '%s %s %s %s 0 0\n' "$2" "$1" "$3" "$4" >>/etc/fstab
  mountpoint --quiet "$1" || mount "$1"
}
