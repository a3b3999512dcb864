"""The lifecycle of one runner: upgraded, isolated, out of disk space, cut off, deleted, replaced, removed.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import secrets
import shlex
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import gitlab
import pytest
from gitlab.v4.objects import Runner

from components.settings import DOCKER_HUB_CACHE
from components.versions import DOCKER
from tests.e2e.control import Control
from tests.e2e.hosts import Host
from tests.e2e.jobs import container_of, load_old_image, log_of, start_job, wait_for_job
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.answers import Health, Question
from tools.clients import CheckError, Outputs, run
from tools.hub_cache import caches_serve
from tools.pipelines import ENDED, project_of, until
from tools.state import StackState

OLD, NEW = "19.2.1-1", "19.3.0-1"
MACHINE = "delivery-docker-builder-1"
REGISTRATION, ONLINE = f"{MACHINE}-registration", "delivery-docker-builder-online"
#: What has a variable's value after its job: docs/security.md.
REMEMBERED = {"/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"}
#: Runs until `/go` exists in its container.
WAITING = {"script": ["until [ -e /go ]; do sleep 0.2; done", "echo done"]}
#: Words of `docker ps`.
OF_JOBS = "--filter label=com.gitlab.gitlab-runner.managed=true"
#: Does nothing, in an image of Docker Hub that no other job of these tests uses.
IN_DEBIAN = {"image": "debian:13-slim", "script": ["true"]}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one project and one runner; destroyed at the end."""
    made = Stack.create(
        "life",
        tmp_path_factory.mktemp("life"),
        SANDBOX,
        domain="life.test",
        registry={"storage": "filesystem"},
        projects=[{"path": "hello", "sample": False}],
        runners=[{**RUNNER, "version": NEW}],
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
    """The only runner of the project, with all its attributes."""
    [listed] = project_of(outputs).runners.list(type="project_type", get_all=True)
    return outputs.gitlab().runners.get(listed.id)


@contextmanager
def running(stack: Stack, *words: str) -> Iterator[Iterator[str]]:
    """Run a Pulumi command and yield its output line by line; it must succeed by the end of the block."""
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


def failed_up(stack: Stack) -> str:
    """Run a `pulumi up` that must fail, and return its output."""
    done = stack.attempt("up", "--yes", "--skip-preview")
    assert done.returncode != 0
    return done.stdout + done.stderr


def reboot(host: Host) -> None:
    """Reboot the machine, and wait until the runner's service is active again."""
    look = "cut -d' ' -f22 /proc/1/stat; systemctl is-active gitlab-runner"
    before = host.sudo(look)

    def is_back() -> bool:
        with suppress(CheckError, subprocess.TimeoutExpired):
            return host.sudo(look, timeout=15) != before
        return False

    with suppress(CheckError):
        host.sudo("systemctl reboot")
    until(is_back, "the machine is up again")


@contextmanager
def full_disk(host: Host) -> Iterator[None]:
    """Replace Docker's data directory with a small, full file system for the duration of the block."""
    host.sudo(
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
        host.sudo("systemctl stop docker docker.socket; umount /var/lib/docker; systemctl start docker")


@contextmanager
def cut_off(host: Host, address: str) -> Iterator[None]:
    """Block the machine's connections to an address for the duration of the block."""
    rule = f"OUTPUT --destination {address} --protocol tcp --jump REJECT --reject-with tcp-reset"
    host.sudo(f"iptables --wait --insert {rule}")
    try:
        yield
    finally:
        host.sudo(f"iptables --wait --delete {rule}")


def images_after_housekeeping(host: Host, used: int) -> set[str]:
    """What is left when the disk is `used` percent full. The real one is the disk of the tests' own machine."""
    host.sudo(f"install --mode 755 /dev/stdin /usr/local/sbin/df <<< $'#!/bin/sh\necho {used}%'")
    try:
        host.sudo("systemctl start slipway-prune.service")
    finally:
        host.sudo("rm /usr/local/sbin/df")
    return set(host.sudo("docker images --format '{{.Repository}}'").split())


def assert_serving(host: Host) -> None:
    """The cache of Docker Hub answers, and refuses whatever would change what it has."""
    trust = "--cacert /etc/slipway/docker-hub-cache/certificate.pem"
    ask = f"curl --silent --output /dev/null --write-out '%{{http_code}}' {trust}"
    address = "https://172.17.0.1:5000/v2"
    until(lambda: host.sudo(f"{ask} {address}/ || true") == "200", "the cache answers")
    for attempt in ("-X POST {}/library/node/blobs/uploads/", "-X DELETE {}/library/docker/manifests/29-cli"):
        assert host.sudo(f"{ask} {attempt.format(address)}") == "405"


def test_the_requested_version_is_installed_and_held(life: Stack, host: Host) -> None:
    output = host.sudo("gitlab-runner --version; apt-mark showhold; systemctl list-timers --no-pager")
    assert "Version:      19.3.0\n" in output
    assert {"gitlab-runner", "gitlab-runner-helper-images", "docker.io"} <= set(output.split())
    assert {"slipway-prune.timer", "slipway-disk.timer"} <= set(output.split())
    assert runner_of(life.outputs()).status == "online"


def test_a_machine_fetches_the_images_of_the_pipeline_by_itself(host: Host) -> None:
    log = "journalctl --unit slipway-job-images.service --output cat"
    images = {f"docker.io/library/docker:{DOCKER}-{variant}" for variant in ("dind", "cli")}
    until(lambda: images <= set(host.sudo(log).split()), "both images are there")


def test_gitlab_holds_a_request_for_a_job_while_there_is_none(life: Stack, host: Host) -> None:
    outputs = life.outputs()
    pipelines = project_of(outputs).pipelines
    until(lambda: all(one.status in ENDED for one in pipelines.list(get_all=True)), "no job is left from the beginning")
    script = (Path(__file__).parent / "files/ask-for-job.sh").read_text()
    assert host.sudo(f"bash -s -- {shlex.quote(outputs.url)} <<'END'\n{script}END\n") == "held\n"


def test_a_version_that_the_repository_lacks_is_refused_before_anything_is_touched(life: Stack, host: Host) -> None:
    service = "systemctl show --property MainPID --value gitlab-runner"
    before = host.sudo(service)
    life.set(runners=[{**RUNNER, "version": "19.2.9-1"}])
    output = failed_up(life)
    assert "runners[0].version: 19.2.9-1 is not in the repository" in output
    assert host.sudo(service) == before


@pytest.mark.parametrize("version", [OLD, NEW])
def test_another_version_waits_for_the_running_job_and_keeps_the_runner(version: str, life: Stack, host: Host) -> None:
    project, before = project_of(life.outputs()), runner_of(life.outputs())
    token = host.sudo("grep token /etc/gitlab-runner/config.toml")
    job = start_job(project, WAITING)
    container = container_of(host, job)
    life.set(runners=[{**RUNNER, "version": version}])
    assert life.changes() == {f"{MACHINE}-preparation": "update", REGISTRATION: "update", ONLINE: "update"}

    with running(life, "up", "--yes", "--skip-preview") as lines:
        waiting = next((line for line in lines if "running jobs have up to 15 minutes to finish" in line), None)
        assert waiting is not None
        assert project.jobs.get(job.id).status == "running"
        host.sudo(f"docker exec {container} touch /go")
    assert wait_for_job(project, job).status == "success"
    assert f"Version:      {version.removesuffix('-1')}\n" in host.sudo("gitlab-runner --version")
    assert "gitlab-runner" in host.sudo("apt-mark showhold").split()
    after = runner_of(life.outputs())
    assert (after.id, after.status) == (before.id, "online")
    assert host.sudo("grep token /etc/gitlab-runner/config.toml") == token


def test_a_job_reaches_neither_the_metadata_service_nor_its_own_machine(life: Stack, host: Host) -> None:
    reboot(host)
    assert "-i docker0 -m conntrack --ctstate NEW -j REJECT" in host.sudo("ip6tables -S INPUT")
    own = host.sudo("ip -4 -o address | awk '$2 != \"lo\" { print $4 }' | cut -d/ -f1").split()
    assert len(own) == 4, own
    assert host.sudo("curl -sS --max-time 10 http://169.254.169.254/metadata/v1/id").strip() == str(host.droplet)
    cache = "172.17.0.1/5000"
    closed = [f"{address}/22" for address in own] + ["169.254.169.254/80"]
    host.sudo("\n".join(f"timeout 5 bash -c '</dev/tcp/{endpoint}'" for endpoint in closed))
    # The server's open port shows that the probe detects open ports.
    attempts = "; ".join(
        f"timeout 5 bash -c '</dev/tcp/{endpoint}' && echo open {endpoint} || echo closed {endpoint}"
        for endpoint in [*closed, cache, f"{life.outputs().host}/443"]
    )
    job = start_job(
        project_of(life.outputs()),
        {
            "services": [{"name": "docker:29-dind", "command": ["--registry-mirror=https://mirror.gcr.io"]}],
            "variables": {"DOCKER_TLS_CERTDIR": "/certs"},
            "script": [attempts, f'docker run --rm docker:29-cli bash -c "{attempts}"'],
        },
    )
    done = wait_for_job(project_of(life.outputs()), job)
    output = log_of(done)
    assert done.status == "success", output
    for endpoint in closed:
        assert output.splitlines().count(f"closed {endpoint}") == 2, output
    assert output.splitlines().count(f"open {life.outputs().host}/443") == 2, output
    assert output.splitlines().count(f"open {cache}") == 2, output


def test_what_stays_of_a_protected_job_on_the_machine_is_what_the_documentation_says(life: Stack, host: Host) -> None:
    project, secret = project_of(life.outputs()), f"marker-{secrets.token_hex(12)}"
    rule = project.protectedbranches.create({"name": "try-*"})
    guarded = {"protected": True, "masked": True, "value": secret}
    variables = [
        project.variables.create({"key": "GUARDED", **guarded}),
        project.variables.create({"key": "GUARDED_FILE", "variable_type": "file", **guarded}),
    ]
    try:
        keeping = [
            'cp "$GUARDED_FILE" copy.txt',
            'echo "$GUARDED" | tee ~/.netrc',
            'test "$CI_COMMIT_REF_PROTECTED" = true',
        ]
        done = wait_for_job(project, start_job(project, {"script": keeping}))
    finally:
        for one in (*variables, rule):
            one.delete()
    log = log_of(done)
    assert (done.status, "[MASKED]" in log, secret in log) == ("success", True, False), log.replace(secret, "")
    until(lambda: not host.sudo(f"docker ps --all --quiet {OF_JOBS}"), "the containers of the job are removed")
    # The shell's own `printf` has no command line of its own.
    search = "grep --recursive --files-with-matches --fixed-strings --no-messages --file=<(printf %s"
    found = host.sudo(f"{search} {secret}) / --exclude-dir={{proc,sys}} || true", timeout=300)
    assert set(found.split()) <= REMEMBERED


def test_housekeeping_removes_old_unused_images_and_leaves_a_running_job_alone(life: Stack, host: Host) -> None:
    project = project_of(life.outputs())
    job = start_job(project, WAITING)
    container = container_of(host, job)
    host.sudo(load_old_image("old-unused") + load_old_image("old-used") + "docker create --name user old-used")
    host.sudo("tar --create --files-from /dev/null | docker import - new-unused; docker volume create")
    volume = host.sudo("docker volume ls -q --filter dangling=true | grep -E '^[0-9a-f]{64}$'").split()
    with_room, nearly_full = images_after_housekeeping(host, 79), images_after_housekeeping(host, 80)
    host.sudo(f"docker exec {container} touch /go")
    assert "old-unused" not in with_room
    assert {"old-used", "new-unused", "docker"} <= with_room
    assert "new-unused" not in nearly_full
    assert {"old-used", "docker"} <= nearly_full
    assert "registry" in with_room & nearly_full
    assert_serving(host)
    assert set(volume).isdisjoint(host.sudo("docker volume ls -q").split())
    assert wait_for_job(project, job).status == "success"
    host.sudo("docker rm user; docker rmi --force old-used")


def test_containers_of_a_killed_runner_are_removed_before_it_takes_jobs_again(life: Stack, host: Host) -> None:
    project = project_of(life.outputs())
    job = start_job(project, WAITING)
    container = container_of(host, job)
    host.sudo("systemctl kill --signal KILL gitlab-runner; systemctl restart gitlab-runner")
    assert container not in host.sudo("docker ps --all --quiet")
    job.cancel()
    assert wait_for_job(project, start_job(project, {"script": ["true"]})).status == "success"


def test_a_job_whose_image_does_not_exist_fails_and_names_the_image(life: Stack) -> None:
    project = project_of(life.outputs())
    job = wait_for_job(project, start_job(project, {"image": "docker:no-such-tag", "script": ["true"]}))
    assert (job.status, job.failure_reason) == ("failed", "image_pull_failure")
    assert 'failed to pull image "docker:no-such-tag"' in log_of(job)


def test_both_the_job_and_up_report_a_full_disk(life: Stack, host: Host) -> None:
    project = project_of(life.outputs())
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 3}])
    with full_disk(host):
        job = wait_for_job(project, start_job(project, {"script": ["true"]}))
        output = failed_up(life)
        left = host.sudo("docker volume ls -q")
    assert job.status == "failed"
    assert "no space left on device" in log_of(job)
    assert f"error: the disk of slipway-{life.name}-docker-builder-1 is full: /var/lib/docker has" in output
    # Whatever could be pruned was pruned before the error.
    assert "cache-of-a-job" not in left


def test_a_mirror_that_is_no_registry_is_refused_before_the_engine_hears_of_it(life: Stack, host: Host) -> None:
    look = "cat /etc/docker/daemon.json; docker info --format '{{.RegistryConfig.Mirrors}}'"
    before = host.sudo(look)
    life.set(runners=[{**RUNNER, "version": NEW, "registryMirror": "https://auth.docker.io"}])
    output = failed_up(life)
    assert "error: https://auth.docker.io/v2/ does not answer like a registry (status 404)" in output
    assert host.sudo(look) == before
    assert "https://172.17.0.1:5000" in before


def test_jobs_and_their_engines_pull_from_docker_hub_while_the_cache_is_down(
    life: Stack, host: Host, control: Control
) -> None:
    project, unit = project_of(life.outputs()), "slipway-docker-hub-cache.service"
    question = Question(StackState.of_stack(life.name), life.outputs(), 20)
    assert caches_serve(question).health is Health.HEALTHY
    host.sudo(f"systemctl stop {unit}; docker rmi --force debian:13-slim")
    asked, down = len(control.hub_requests()), caches_serve(question)
    assert down.health is Health.NOTICE
    assert f"slipway-{life.name}-docker-builder-1: does not serve (curl: (7)" in down.text
    engine = {"name": "docker:29-dind", "command": [f"--registry-mirror={DOCKER_HUB_CACHE}"]}
    pulling = {
        "image": "docker:29-cli",
        "services": [engine],
        "variables": {"DOCKER_TLS_CERTDIR": "/certs"},
        "script": ["docker pull debian:13-slim"],
    }
    jobs = [wait_for_job(project, start_job(project, job)) for job in (IN_DEBIAN, pulling)]
    host.sudo(f"systemctl start {unit}")
    assert [job.status for job in jobs] == ["success", "success"], log_of(jobs[-1])
    taken = [one for one in control.taken_from_hub(asked) if one["source"] == host.address]
    agents = {one["agent"] for one in taken if (one["repository"], one["kind"]) == ("library/debian", "manifests")}
    # The machine's own engine, and the one of the job.
    assert len(agents) == 2, agents
    assert_serving(host)


def test_without_a_cache_nothing_of_it_is_left_and_each_pull_is_one_from_docker_hub(
    life: Stack, host: Host, control: Control
) -> None:
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 4, "dockerHubCache": False}])
    # The update prepares the machine before it fails.
    with cut_off(host, life.outputs().address):
        failed_up(life)
    left = "find /etc/slipway /etc/docker /etc/systemd /usr/local/sbin /var/cache/slipway -name '*hub*'"
    assert host.sudo(f"{left}; docker ps --all --quiet --filter name=hub-cache") == ""
    assert "5000" not in host.sudo("iptables -S INPUT; docker info --format '{{.RegistryConfig.Mirrors}}'")
    project, asked = project_of(life.outputs()), len(control.hub_requests())
    for _ in range(2):
        host.sudo("docker rmi --force debian:13-slim")
        assert wait_for_job(project, start_job(project, IN_DEBIAN)).status == "success"
    taken = [one for one in control.taken_from_hub(asked) if one["source"] == host.address]
    assert [(one["repository"], one["kind"]) for one in taken].count(("library/debian", "manifests")) == 2


def test_both_the_runner_log_and_up_report_that_gitlab_is_unreachable(life: Stack, host: Host) -> None:
    outputs, began = life.outputs(), host.sudo("date +%s").strip()
    project, failure = project_of(outputs), f"couldn't execute POST against {outputs.url}/api/v4/jobs/request"
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 4}])
    with cut_off(host, outputs.address):
        output = failed_up(life)
        # The requests that GitLab holds are answered when a job comes, and only the next ones find the way closed.
        job = start_job(project, {"script": ["true"]})
        until(lambda: failure in host.sudo(f"journalctl -u gitlab-runner --since @{began}"), "the runner's log")
    assert wait_for_job(project, job).status == "success"
    assert f"error: this machine cannot reach {outputs.url} (curl: (7)" in output


def test_up_reports_a_runner_deleted_in_gitlab_and_recreates_it_after_a_refresh(life: Stack) -> None:
    outputs = life.outputs()
    before = runner_of(outputs)
    before.delete()
    life.set(runners=[{**RUNNER, "version": NEW, "concurrency": 5}])
    output = failed_up(life)
    assert f"error: GitLab at {outputs.url} rejects the runner's token" in output
    assert "pulumi refresh, then pulumi up" in output
    life.run("refresh", "--yes", "--skip-preview")
    life.up()
    after = runner_of(outputs)
    assert after.id != before.id
    assert after.status == "online"
    assert wait_for_job(project_of(outputs), start_job(project_of(outputs), {"script": ["true"]})).status == "success"


def test_registering_again_without_changes_touches_nothing(life: Stack, host: Host) -> None:
    look = "stat -c '%y %i' /etc/gitlab-runner/config.toml; systemctl show -p MainPID gitlab-runner"
    before = host.sudo(look)
    life.up("--replace", life.urn(REGISTRATION))
    assert host.sudo(look) == before


def test_a_replaced_runner_has_a_new_token_and_nothing_that_jobs_of_the_old_one_have_left(
    life: Stack, host: Host
) -> None:
    outputs = life.outputs()
    host.sudo("docker volume create left-by-a-job")
    before, token = runner_of(outputs), host.sudo("grep token /etc/gitlab-runner/config.toml")
    life.up("--replace", life.urn("delivery-docker-builder-registration"))
    after = runner_of(outputs)
    assert after.id != before.id
    assert after.status == "online"
    assert host.sudo("grep token /etc/gitlab-runner/config.toml") != token
    with pytest.raises(gitlab.GitlabGetError, match="404"):
        outputs.gitlab().runners.get(before.id)
    assert host.sudo("docker volume ls --quiet") == ""


def test_removing_a_runner_keeps_its_project(life: Stack, control: Control) -> None:
    outputs = life.outputs()
    life.set(runners=[], projects=[{"path": "hello", "sample": False, "runners": []}])
    life.up()
    assert outputs.gitlab().runners.list(type="project_type", get_all=True) == []
    assert project_of(outputs).runners.list(get_all=True) == []
    assert f"slipway-{life.name}-docker-builder" not in str(control.resources()["droplets"])
    assert f"slipway-{life.name}" in str(control.resources()["droplets"])


def test_removing_the_last_project_keeps_gitlab(life: Stack) -> None:
    outputs = life.outputs()
    path = project_of(outputs).path_with_namespace
    life.set(projects=[])
    life.up()
    with pytest.raises(gitlab.GitlabGetError, match="404"):
        outputs.gitlab().projects.get(path)
    assert run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{outputs.url}/users/sign_in") == "200"
