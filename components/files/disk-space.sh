# Functions that make sure the disk has space for jobs. Input: HOSTNAME; the shell sets it where the stack does not.
readonly REQUIRED_MB=1024

# require_disk_space: stop if jobs, or the packages that they need, would not fit. Removes what is unused first.
require_disk_space() {
  local path
  path=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null) && [ -d "$path" ] || path=/var/lib
  [ "$(free_mb "$path")" -lt "$REQUIRED_MB" ] || return 0
  say "runner: $path has $(free_mb "$path") MB left; removing what no container uses"
  systemctl start slipway-prune.service 2>/dev/null || say "runner: some of it could not be removed"
  [ "$(free_mb "$path")" -ge "$REQUIRED_MB" ] ||
    die "the disk of $HOSTNAME is full: $path has $(free_mb "$path") MB left, and jobs need $REQUIRED_MB MB. What no container uses has already been removed; to find out what uses the space, run: sudo du -xm /var | sort -n | tail"
}

free_mb() { df --output=avail --block-size=1M "$1" | tail -n 1 | tr -dc 0-9; }
