"""The life of one runner, in order: upgraded, kept from its machine, full, cut off, deleted, replaced, removed.

The tests build on each other: each leaves the stack as the next one needs it.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any

import gitlab
import pytest
import yaml
from gitlab.v4.objects import Project, ProjectJob, Runner

from tests.e2e.control import Control
from tests.e2e.hosts import Host
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.clients import CheckError, Outputs, run
from tools.pipelines import ENDED, project_of, started, until

OLD, NEW = "19.2.1-1", "19.3.0-1"
MACHINE = "delivery-docker-builder-1"
REGISTRATION, ONLINE = f"{MACHINE}-registration", "delivery-docker-builder-online"
#: Runs until somebody says that it may end.
WAITING = {"script": ["until [ -e /go ]; do sleep 0.2; done", "echo went on"]}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one project and one runner of an older version; destroyed at the end."""
    made = Stack.create(
        "life",
        tmp_path_factory.mktemp("life"),
        SANDBOX,
        domain="life.test",
        registry={"storage": "filesystem"},
        projects=[{"path": "hello", "sample": False}],
        runners=[{**RUNNER, "version": OLD}],
    )
    try:
        made.up()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def host(life: Stack) -> Host:
    """The runner's machine."""
    return Host.of(life, MACHINE)


def runner_of(outputs: Outputs) -> Runner:
    """The one runner of the project, in full."""
    [listed] = project_of(outputs).runners.list(type="project_type", get_all=True)
    return outputs.gitlab().runners.get(listed.id)


def start_job(project: Project, job: dict[str, Any]) -> ProjectJob:
    """A job on a branch of its own."""
    content = yaml.safe_dump({"job": job})
    action = {"action": "update", "file_path": ".gitlab-ci.yml", "content": content}
    branch = f"try-{secrets.token_hex(4)}"
    about = {"branch": branch, "start_branch": "main", "commit_message": "Try something", "actions": [action]}
    sha = project.commits.create(about).id
    [one] = started(project, sha).jobs.list(get_all=True)
    return project.jobs.get(one.id)


def ended(project: Project, job: ProjectJob) -> ProjectJob:
    """A job once it has ended."""

    def look() -> ProjectJob | None:
        seen = project.jobs.get(job.id)
        return seen if seen.status in ENDED else None

    return until(look, f"job {job.id} has ended")


def log_of(job: ProjectJob) -> str:
    """What a job has said."""
    return bytes(job.trace()).decode()


def container_of(host: Host, job: ProjectJob) -> str:
    """The build container of a job that runs."""
    query = f"docker ps -q --filter label=com.gitlab.gitlab-runner.job.id={job.id} --filter name=-build"
    return str(until(lambda: host.root(query).strip(), f"a container of job {job.id}"))


@contextmanager
def running(stack: Stack, *words: str) -> Iterator[Iterator[str]]:
    """The lines of a Pulumi command while it runs; it has to succeed by the end of the block."""
    with stack.start(*words) as process:
        limit = threading.Timer(300, process.kill)
        limit.start()
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
            rest = process.stdout.read()
            assert process.wait() == 0, rest
        finally:
            limit.cancel()
            process.kill()


def refused(stack: Stack) -> str:
    """What an `up` says that has to fail."""
    done = stack.attempt("up", "--yes", "--skip-preview")
    assert done.returncode != 0
    return done.stdout + done.stderr


def reboot(host: Host) -> None:
    """Start the machine anew, until its runner's service is there again."""
    look = "cut -d' ' -f22 /proc/1/stat; systemctl is-active gitlab-runner"
    before = host.root(look)

    def is_back() -> bool:
        with suppress(CheckError, subprocess.TimeoutExpired):
            return host.root(look, timeout=15) != before
        return False

    with suppress(CheckError):
        host.root("systemctl reboot")
    until(is_back, "the machine is there again")


@contextmanager
def full_disk(host: Host) -> Iterator[None]:
    """A small and full file system where Docker keeps its data, for the time of the block."""
    host.root(
        """
        systemctl stop docker docker.socket
        mount -t tmpfs -o size=48m tmpfs /var/lib/docker
        systemctl start docker
        docker volume create cache-of-a-job
        fallocate -l 45M /var/lib/docker/filler
        """
    )
    try:
        yield
    finally:
        host.root("systemctl stop docker docker.socket; umount /var/lib/docker; systemctl start docker")


@contextmanager
def cut_off(host: Host, address: str) -> Iterator[None]:
    """A machine that cannot reach an address, for the time of the block."""
    rule = f"OUTPUT --destination {address} --protocol tcp --jump REJECT --reject-with tcp-reset"
    host.root(f"iptables --wait --insert {rule}")
    try:
        yield
    finally:
        host.root(f"iptables --wait --delete {rule}")


def old_image(name: str) -> str:
    """Shell lines that load an image which was made years ago."""
    layer, archive = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    configuration = {
        "created": "2020-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(configuration).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return f"base64 --decode <<< {base64.b64encode(archive.getvalue()).decode()} | docker load\n"


def test_the_version_that_is_asked_for_is_installed_and_held(life: Stack, host: Host) -> None:
    said = host.root("gitlab-runner --version; apt-mark showhold; systemctl list-timers --no-pager")
    assert "Version:      19.2.1\n" in said
    assert {"gitlab-runner", "gitlab-runner-helper-images", "docker.io"} <= set(said.split())
    assert "slipway-prune.timer" in said
    assert runner_of(life.outputs()).status == "online"


def test_an_upgrade_waits_for_the_job_that_runs_and_keeps_the_runner(life: Stack, host: Host) -> None:
    project, before = project_of(life.outputs()), runner_of(life.outputs())
    token = host.root("grep token /etc/gitlab-runner/config.toml")
    job = start_job(project, WAITING)
    container = container_of(host, job)
    life.set(runners=[{**RUNNER, "version": NEW}])
    assert life.changes() == {f"{MACHINE}-preparation": "update", REGISTRATION: "update", ONLINE: "update"}

    with running(life, "up", "--yes", "--skip-preview") as lines:
        waits = next((line for line in lines if "running jobs have up to 15 minutes to finish" in line), None)
        assert waits is not None
        assert project.jobs.get(job.id).status == "running"
        host.root(f"docker exec {container} touch /go")
    assert ended(project, job).status == "success"
    assert "Version:      19.3.0\n" in host.root("gitlab-runner --version")
    assert "gitlab-runner" in host.root("apt-mark showhold").split()
    after = runner_of(life.outputs())
    assert (after.id, after.status) == (before.id, "online")
    assert host.root("grep token /etc/gitlab-runner/config.toml") == token


def test_a_job_reaches_neither_the_metadata_service_nor_the_machine_that_it_runs_on(life: Stack, host: Host) -> None:
    reboot(host)
    assert "-i docker0 -m conntrack --ctstate NEW -j REJECT" in host.root("ip6tables -S INPUT")
    own = host.root("ip -4 -o address | awk '$2 != \"lo\" { print $4 }' | cut -d/ -f1").split()
    assert len(own) == 4, own
    assert host.root("curl -sS --max-time 10 http://169.254.169.254/metadata/v1/id").strip() == str(host.droplet)
    doors = [f"{address}/22" for address in own] + ["169.254.169.254/80"]
    host.root("\n".join(f"timeout 5 bash -c '</dev/tcp/{door}'" for door in doors))
    # That a door which is open is seen to be: that of the server.
    attempts = "; ".join(
        f"timeout 5 bash -c '</dev/tcp/{door}' && echo open {door} || echo closed {door}"
        for door in [*doors, f"{life.outputs().host}/443"]
    )
    job = start_job(
        project_of(life.outputs()),
        {
            "services": [{"name": "docker:29-dind", "command": ["--registry-mirror=https://mirror.gcr.io"]}],
            "variables": {"DOCKER_TLS_CERTDIR": "/certs"},
            "script": [attempts, f'docker run --rm docker:29-cli bash -c "{attempts}"'],
        },
    )
    done = ended(project_of(life.outputs()), job)
    said = log_of(done)
    assert done.status == "success", said
    for door in doors:
        assert said.splitlines().count(f"closed {door}") == 2, said
    assert said.splitlines().count(f"open {life.outputs().host}/443") == 2, said


def test_housekeeping_removes_what_is_old_and_unused_and_leaves_a_job_alone(life: Stack, host: Host) -> None:
    project = project_of(life.outputs())
    job = start_job(project, WAITING)
    container = container_of(host, job)
    host.root(old_image("old-unused") + old_image("old-used") + "docker create --name user old-used")
    host.root("tar --create --files-from /dev/null | docker import - new-unused; docker volume create")
    volume = host.root("docker volume ls -q --filter dangling=true | grep -E '^[0-9a-f]{64}$'").split()
    host.root("systemctl start slipway-prune.service")
    images = host.root("docker images --format '{{.Repository}}'").split()
    host.root(f"docker exec {container} touch /go")
    assert "old-unused" not in images
    assert {"old-used", "new-unused", "docker"} <= set(images)
    assert set(volume).isdisjoint(host.root("docker volume ls -q").split())
    assert ended(project, job).status == "success"
    host.root("docker rm user; docker rmi --force old-used new-unused")


def test_what_a_killed_runner_has_left_is_gone_before_the_next_one_takes_jobs(life: Stack, host: Host) -> None:
    project = project_of(life.outputs())
    job = start_job(project, WAITING)
    container = container_of(host, job)
    host.root("systemctl kill --signal KILL gitlab-runner; systemctl restart gitlab-runner")
    assert container not in host.root("docker ps --all --quiet")
    job.cancel()
    assert ended(project, start_job(project, {"script": ["true"]})).status == "success"


def test_a_job_whose_image_does_not_exist_fails_and_names_it(life: Stack) -> None:
    project = project_of(life.outputs())
    job = ended(project, start_job(project, {"image": "docker:no-such-tag", "script": ["true"]}))
    assert (job.status, job.failure_reason) == ("failed", "image_pull_failure")
    assert 'failed to pull image "docker:no-such-tag"' in log_of(job)


def test_a_full_disk_is_named_by_the_job_and_by_up(life: Stack, host: Host) -> None:
    project = project_of(life.outputs())
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 3}])
    with full_disk(host):
        job = ended(project, start_job(project, {"script": ["true"]}))
        said = refused(life)
        left = host.root("docker volume ls -q")
    assert job.status == "failed"
    assert "no space left on device" in log_of(job)
    assert f"error: the disk of slipway-{life.name}-docker-builder-1 is full: /var/lib/docker has" in said
    # All that could go has gone before that was said.
    assert "cache-of-a-job" not in left


def test_a_machine_that_cannot_reach_gitlab_says_so_in_its_log_and_at_up(life: Stack, host: Host) -> None:
    outputs = life.outputs()
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 4}])
    with cut_off(host, outputs.address):
        said = refused(life)
        log = host.root("journalctl -u gitlab-runner --no-pager --lines 20")
    project = project_of(outputs)
    assert ended(project, start_job(project, {"script": ["true"]})).status == "success"
    assert f"error: this machine cannot reach {outputs.url} (curl: (7)" in said
    assert "Checking for jobs... failed" in log
    assert f"couldn't execute POST against {outputs.url}/api/v4/jobs/request" in log


def test_a_runner_that_was_deleted_in_gitlab_is_told_at_up_and_comes_back_after_a_refresh(life: Stack) -> None:
    outputs = life.outputs()
    before = runner_of(outputs)
    before.delete()
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 5}])
    said = refused(life)
    assert f"error: GitLab at {outputs.url} rejects the runner's token" in said
    assert "pulumi refresh, then pulumi up" in said
    life.run("refresh", "--yes", "--skip-preview")
    life.up()
    after = runner_of(outputs)
    assert after.id != before.id
    assert after.status == "online"
    assert ended(project_of(outputs), start_job(project_of(outputs), {"script": ["true"]})).status == "success"


def test_registering_again_with_nothing_changed_touches_nothing(life: Stack, host: Host) -> None:
    look = "stat -c '%y %i' /etc/gitlab-runner/config.toml; systemctl show -p MainPID gitlab-runner"
    before = host.root(look)
    life.up("--replace", life.urn(REGISTRATION))
    assert host.root(look) == before


def test_a_replaced_runner_has_a_new_token_on_its_machine_and_the_old_one_is_gone(life: Stack, host: Host) -> None:
    outputs = life.outputs()
    before, token = runner_of(outputs), host.root("grep token /etc/gitlab-runner/config.toml")
    life.up("--replace", life.urn("delivery-docker-builder-registration"))
    after = runner_of(outputs)
    assert after.id != before.id
    assert after.status == "online"
    assert host.root("grep token /etc/gitlab-runner/config.toml") != token
    with pytest.raises(gitlab.GitlabGetError, match="404"):
        outputs.gitlab().runners.get(before.id)


def test_a_runner_that_is_no_longer_wanted_is_gone_and_its_project_stays(life: Stack, control: Control) -> None:
    outputs = life.outputs()
    life.set(runners=[], projects=[{"path": "hello", "sample": False, "runners": []}])
    life.up()
    assert outputs.gitlab().runners.list(type="project_type", get_all=True) == []
    assert project_of(outputs).runners.list(get_all=True) == []
    assert f"slipway-{life.name}-docker-builder" not in str(control.resources()["droplets"])
    assert f"slipway-{life.name}" in str(control.resources()["droplets"])


def test_a_project_that_is_no_longer_wanted_is_gone_and_gitlab_stays(life: Stack) -> None:
    outputs = life.outputs()
    path = project_of(outputs).path_with_namespace
    life.set(projects=[])
    life.up()
    with pytest.raises(gitlab.GitlabGetError, match="404"):
        outputs.gitlab().projects.get(path)
    assert run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{outputs.url}/users/sign_in") == "200"
