#!/bin/bash
# Frees disk space: removes what no container uses and is older than three days; if the disk is nearly full, of any age.
set -eu

docker system prune --all --force --filter until=72h
# Anonymous volumes. Docker before version 23 would otherwise remove the caches of jobs, too.
docker volume prune --force --filter label!=com.gitlab.gitlab-runner.managed=true
root=$(docker info --format '{{.DockerRootDir}}')
used=$(df --output=pcent "$root" | tail -n 1 | tr -dc 0-9)
[ "$used" -ge 80 ] || exit 0
echo "$root is $used % full: removing everything that no container uses, including the caches of jobs"
# A running job has containers that are briefly stopped between its steps.
docker container prune --force --filter until=1h
docker image prune --all --force
docker builder prune --all --force
# Named volumes, too. Docker before version 23 removes those anyway and does not support the filter.
docker volume prune --force --filter all=1 || docker volume prune --force
