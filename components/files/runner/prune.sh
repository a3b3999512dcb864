#!/bin/bash
# Frees disk space: removes what no container uses and is older than three days; if the disk is nearly full, of any age.
set -eu

readonly CACHE=slipway-docker-hub-cache.service CACHED=/var/cache/slipway/docker-hub

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

docker system prune --all --force --filter until=72h
# Anonymous volumes. Docker before version 23 would otherwise remove the caches of jobs, too.
docker volume prune --force --filter label!=com.gitlab.gitlab-runner.managed=true
root=$(docker info --format '{{.DockerRootDir}}')
used=$(df --output=pcent "$root" | tail -n 1 | tr -dc 0-9)
if [ "$used" -lt 80 ]; then
  share=$(share_of_cache)
  [ "$share" -lt 20 ] || { echo "the cache of Docker Hub fills $share % of the disk: emptying it"; empty_cache; }
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
