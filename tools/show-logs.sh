#!/bin/bash
# Print the end of the logs of one part of this machine: show-logs.sh gitlab|registry|runner|target|backup LINES
# [follow].
# Followed logs end with standard input, which sshd closes as soon as the client is gone. Reads only.
set -uo pipefail
part=$1 lines=$2 mode=${3:-}
shopt -s nullglob

# What GitLab's services have written within a day, the most recent last.
gitlab_logs() {
  find -L /var/log/gitlab -type f -size +0 -mmin -1440 \( -name current -o -name '*.log' \) -not -path '*registry*' -printf '%T@ %p\n' |
    sort --numeric-sort | cut --delimiter=' ' --fields=2-
}

# What the containers of this machine have printed, each line after the name of its container.
container_logs() {
  local names name
  mapfile -t names < <(docker ps --all --format '{{.Names}}')
  [ "${#names[@]}" != 0 ] || { echo "no container is on this machine" >&2; exit 1; }
  trap 'kill $(jobs -p) 2>/dev/null' TERM
  for name in "${names[@]}"; do
    docker logs --tail "$lines" "${follow[@]}" "$name" 2>&1 | sed --unbuffered "s|^|$name: |" &
  done
  wait
}

follow=() units=()
case $part in
  gitlab) mapfile -t files < <(gitlab_logs) ;;
  registry) files=(/var/log/gitlab/nginx/gitlab_registry_*.log /var/log/gitlab/registry/current) ;;
  runner) units=(--unit gitlab-runner --unit slipway-docker-hub-cache) ;;
  target) ;;
  backup) units=(--unit slipway-backup) ;;
  *) echo "show-logs.sh: $part is not known" >&2; exit 2 ;;
esac
if [ "$part" = target ]; then
  [ -z "$mode" ] || follow=(--follow)
  show=(container_logs)
elif [ "${#units[@]}" != 0 ]; then
  [ -z "$mode" ] || follow=(--follow)
  show=(journalctl --no-pager --output=short-iso "${units[@]}" --lines "$lines" "${follow[@]}")
else
  [ ${#files[@]} != 0 ] || { echo "no log of $part has been written within a day" >&2; exit 1; }
  [ -z "$mode" ] || follow=(--follow=name --retry)
  show=(tail --verbose --lines "$lines" "${follow[@]}" "${files[@]}")
fi
if [ -z "$mode" ]; then
  "${show[@]}" </dev/null
else
  "${show[@]}" </dev/null &
  cat >/dev/null
  kill $!
fi
