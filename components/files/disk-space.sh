# Functions for a disk that runs full. Input: HOSTNAME, which the shell sets where nobody else does.
readonly ROOM_MB=1024

# see_room: end here if jobs, or the packages for them, would not fit. What nobody uses is removed first.
see_room() {
  local path
  path=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null) && [ -d "$path" ] || path=/var/lib
  [ "$(free_mb "$path")" -lt "$ROOM_MB" ] || return 0
  say "runner: $path has $(free_mb "$path") MB left; removing what no container uses"
  systemctl start slipway-prune.service 2>/dev/null || say "runner: not all of it could be removed"
  [ "$(free_mb "$path")" -ge "$ROOM_MB" ] ||
    die "the disk of $HOSTNAME is full: $path has $(free_mb "$path") MB left, and jobs need $ROOM_MB. What no container uses is removed already; see what fills it with: sudo du -xm /var | sort -n | tail"
}

free_mb() { df --output=avail --block-size=1M "$1" | tail -n 1 | tr -dc 0-9; }
