# Harden the server and mount its data.
# Input: ADMIN_USER, AUTHORIZED_KEYS, FQDN, PUBLIC_PORTS, VOLUME_NAME, VOLUME_SIZE_GB.
main() {
  forget_first_contact
  harden_ssh
  hostnamectl set-hostname "$FQDN"
  close_ports
  mount_data
  say "server: ready"
}

mount_data() {
  local device=/dev/disk/by-id/scsi-0DO_Volume_$VOLUME_NAME data=/mnt/gitlab deadline=$((SECONDS + 60))
  # Attached a moment ago: udev shows it within seconds.
  until [ -e "$device" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "volume $VOLUME_NAME is attached, but $device does not appear"
    sleep 0.5
  done
  # Made here and not by the service, which would mount a file system of its own making in a second place.
  [ -n "$(blkid -p -s TYPE -o value "$device")" ] || mkfs.ext4 -q "$device"
  install -d -m 755 "$data"
  mount_once "$data" "$device" ext4 defaults,nofail,discard,noatime
  # The volume may have grown since; the file system follows.
  resize2fs "$device" >/dev/null 2>&1 || die "the file system of volume $VOLUME_NAME does not grow to $VOLUME_SIZE_GB GiB"
  local pair
  for pair in etc:/etc/gitlab opt:/var/opt/gitlab log:/var/log/gitlab; do
    install -d -m 755 "$data/${pair%%:*}" "${pair#*:}"
    mount_once "${pair#*:}" "$data/${pair%%:*}" none "bind,nofail,x-systemd.requires-mounts-for=$data"
  done
}

# mount_once WHERE WHAT TYPE OPTIONS: now, and at every boot.
mount_once() {
  grep -q " $1 " /etc/fstab || printf '%s %s %s %s 0 0\n' "$2" "$1" "$3" "$4" >>/etc/fstab
  mountpoint --quiet "$1" || mount "$1"
}
