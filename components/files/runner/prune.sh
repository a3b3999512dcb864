#!/bin/bash
# slipway-prune [if-needed]: removes what no container uses and is older than three days; if the disk is nearly full, of
# any age. With `if-needed`, which costs next to nothing, only what cannot wait for the next time: the cache of Docker Hub
# if it is too large, and everything if the disk is about to be full, once an hour at most.
set -eu

readonly CACHE=slipway-docker-hub-cache.service CACHED=/var/cache/slipway/docker-hub DONE=/run/slipway-pruned

# empty_cache: the cache of Docker Hub forgets what is a week old, and has no other limit of its own. Jobs pull from Docker
# Hub itself for that moment. Comes last, because the image of a cache that is starting would seem unused.
empty_cache() {
  [ -d "$CACHED" ] || return 0
  systemctl stop "$CACHE"
  find "$CACHED" -mindepth 1 -delete
  systemctl start "$CACHE"
}

# share_of_cache: the percentage of the disk that it fills.
share_of_cache() {
  [ -d "$CACHED" ] || { echo 0; return; }
  echo $(($(du --summarize --block-size=1M "$CACHED" | cut -f1) * 100 / $(df --output=size --block-size=1M "$CACHED" | tail -n 1 | tr -dc 0-9)))
}

limit_cache() {
  local share
  share=$(share_of_cache)
  [ "$share" -lt 20 ] || { echo "the cache of Docker Hub fills $share % of the disk: emptying it"; empty_cache; }
}

# share_used: the percentage of the disk that is in use.
share_used() { df --output=pcent "$1" | tail -n 1 | tr -dc 0-9; }

root=$(docker info --format '{{.DockerRootDir}}')
if [ "${1:-}" = if-needed ]; then
  if [ "$(share_used "$root")" -lt 90 ] || [ -n "$(find "$DONE" -mmin -60 2>/dev/null)" ]; then
    limit_cache
    exit 0
  fi
  echo "$root is about to be full"
fi
touch "$DONE"
docker system prune --all --force --filter until=72h
# Anonymous volumes. Docker before version 23 would otherwise remove the caches of jobs, too.
docker volume prune --force --filter label!=com.gitlab.gitlab-runner.managed=true
used=$(share_used "$root")
if [ "$used" -lt 80 ]; then
  limit_cache
  exit 0
fi
echo "$root is $used % full: removing everything that no container uses, including the caches of jobs"
# A running job has containers that are briefly stopped between its steps.
docker container prune --force --filter until=1h
docker image prune --all --force
docker builder prune --all --force
# Named volumes, too. Docker before version 23 removes those anyway and does not support the filter.
docker volume prune --force --filter all=1 || docker volume prune --force
empty_cache
