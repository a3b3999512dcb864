#!/bin/bash
# Frees disk space: what no container uses and is older than three days; on a disk that is nearly full, whatever its age.
set -eu

docker system prune --all --force --filter until=72h
# Those without a name. Engines before 23 would take the caches of jobs as well.
docker volume prune --force --filter label!=com.gitlab.gitlab-runner.managed=true
root=$(docker info --format '{{.DockerRootDir}}')
used=$(df --output=pcent "$root" | tail -n 1 | tr -dc 0-9)
[ "$used" -ge 80 ] || exit 0
echo "$root is $used % full: removing everything that no container uses, the caches of jobs as well"
# A job has containers that do not run for a moment, between its steps.
docker container prune --force --filter until=1h
docker image prune --all --force
docker builder prune --all --force
# Volumes with a name too. Engines before 23 remove those anyway, and do not know the filter.
docker volume prune --force --filter all=1 || docker volume prune --force
