"""Builds without privileged mode: two machines run Buildah and share the jobs of one runner. Then a deployment.

The tests run in order and build on each other: each leaves the project in the state that the next one needs.
"""

from __future__ import annotations

import base64
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from gitlab.v4.objects import Project, ProjectJob, ProjectPipeline

from tests.e2e.control import Control
from tests.e2e.hosts import Host
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tests.e2e.target import Target, target
from tools import verify
from tools.clients import try_run
from tools.environment import ROOT
from tools.pipelines import (
    ENDED,
    commit,
    image_tested,
    jobs_of,
    last_pipeline,
    latest,
    pipeline_of,
    project_of,
    started,
    until,
)

MACHINES, AT_A_TIME, JOBS = 2, 2, 8
JOB, COMPOSED = "deploy:production", "deploy:composed"
COMPOSE, SERVICE = "compose.yaml", "hello-composed-web-1"
SERVICES = """services:
  web:
    image: ${IMAGE}
    ports: ["8080:3000"]
    restart: unless-stopped
    # That of the image, but not every half a minute.
    healthcheck: {interval: 1s, retries: 3}
"""
#: Runs until a branch named `go` exists.
HELD = 'until git ls-remote --exit-code "$CI_REPOSITORY_URL" refs/heads/go; do sleep 1; done'


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The machine that the project is deployed to. It boots while the stack is created."""
    with target("target", tmp_path_factory.mktemp("target")) as made:
        yield made


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory, machine: Target) -> Iterator[Stack]:
    """A stack whose project is built on two machines without privileged mode; destroyed at the end.

    The project is deployed to a machine outside of the stack, and as services to a droplet of the stack.
    """
    environment = {
        "name": "production",
        "url": f"http://{machine.host.address}",
        "host": machine.host.address,
        "user": machine.host.user,
        "hostKey": machine.host.host_key,
        "publish": ["80:3000"],
        "zeroDowntime": True,
        "healthCheck": {"path": "/healthz", "timeoutSeconds": 5},
    }
    composed = {
        "name": "composed",
        "droplet": {"image": "debian-13-x64", "openPorts": [8080]},
        "compose": COMPOSE,
        "manual": True,
        "healthCheck": {"path": "/healthz", "port": 3000, "timeoutSeconds": 5},
    }
    made = Stack.create(
        "builders",
        tmp_path_factory.mktemp("builders"),
        SANDBOX,
        domain="builders.test",
        registry={"storage": "filesystem"},
        projects=[{"path": "hello", "deploy": [environment, composed]}],
        runners=[{**RUNNER, "builder": "buildah", "count": 2}],
    )
    yield made
    made.remove()


@pytest.fixture
def droplet(builders: Stack) -> Target:
    """The droplet of the stack that the services are deployed to."""
    return Target(Host.of(builders, "delivery-target-hello-composed"))


def machines_of(stack: Stack) -> list[Host]:
    """The machines of the only runner."""
    return [Host.of(stack, f"delivery-docker-builder-{number}") for number in range(1, MACHINES + 1)]


def jobs_on(machine: Host) -> list[dict[str, Any]]:
    """The job containers on a machine, as `docker inspect` describes them."""
    listed = machine.sudo("docker ps --quiet --filter name=-build").split()
    return list(json.loads(machine.sudo(f"docker inspect {' '.join(listed)}"))) if listed else []


def commit_file(project: Project, branch: str, path: str, content: str, message: str) -> str:
    """Commit a file to a branch, creating the branch if necessary; returns the commit ID."""
    action = {"action": "update", "file_path": path, "content": content}
    start = {} if branch == "main" else {"start_branch": "main"}
    commit_data = {"branch": branch, "commit_message": message, "actions": [action], **start}
    return str(project.commits.create(commit_data).id)


def most_at_once(spans: list[tuple[str, str]]) -> int:
    """The largest number of spans, each from start to end, that overlap."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def test_a_project_is_built_tested_and_released_without_privileged_mode(builders: Stack) -> None:
    builders.up()
    outputs = builders.outputs()
    results = {name: verify.PROJECT_CHECKS[name](outputs) for name in ("Pipeline", "Released")}
    assert "release" in results["Pipeline"]
    assert results["Released"].endswith("→ Hello, test!")
    project = project_of(outputs)
    assert image_tested(project, last_pipeline(project)) == f"{outputs.projects[0]['image']}@{latest(outputs)}"
    found = {repository.path for repository in project.repositories.list(get_all=True)}
    assert found == {"root/hello", "root/hello/cache-protected"}


def test_a_release_is_deployed_by_its_digest_once_the_machine_knows_the_key(builders: Stack, machine: Target) -> None:
    outputs = builders.outputs()
    project, described = project_of(outputs), outputs.values["projects"][0]["environments"]["production"]
    pipeline = last_pipeline(project)
    assert (pipeline.status, jobs_of(pipeline)[JOB]) == ("success", "manual")
    machine.ready()
    refused = played(project, pipeline)
    assert described["authorized_key"].rpartition(" ")[0] in refused.trace().decode()
    machine.host.sudo(f"echo '{described['authorized_key']}' >>~deploy/.ssh/authorized_keys")
    deployed = played(project, pipeline)
    assert deployed.status == "success", deployed.trace().decode()
    assert machine.container() == image_tested(project, pipeline)
    assert machine.page("/hello/test") == "Hello, test!"
    # No login stays on the machine.
    assert machine.host.sudo("ls -A ~deploy/.docker 2>/dev/null || true") == ""


def played(project: Project, pipeline: ProjectPipeline, name: str = JOB) -> ProjectJob:
    """Start the deploy job as one click in GitLab does, whether it waits or has ended, and wait for its end."""
    [listed] = [job for job in pipeline.jobs.list(get_all=True) if job.name == name]
    job = project.jobs.get(listed.id)
    if job.status == "manual":
        job.play()
        number = job.id
    else:
        number = job.retry()["id"]
    until(lambda: project.jobs.get(number).status in ENDED, f"the end of {name}")
    return project.jobs.get(number)


def test_buildah_takes_base_images_from_the_cache_of_its_machine(builders: Stack, control: Control) -> None:
    addresses = {machine.address for machine in machines_of(builders)}
    taken = [one for one in control.taken_from_hub() if one["source"] in addresses]
    assert "library/node" in {one["repository"] for one in taken}
    # Docker has fetched the cache itself; everything else was fetched by it, and once for each machine.
    cached = [one for one in taken if one["repository"] != "library/registry"]
    assert {one["agent"].partition("/")[0] for one in cached} == {"Go-http-client"}
    assert max(Counter((one["source"], one["repository"], one["reference"]) for one in cached).values()) == 1


def test_no_machine_has_a_privileged_runner_configuration(builders: Stack) -> None:
    for machine in machines_of(builders):
        text = machine.sudo("cat /etc/gitlab-runner/config.toml")
        [runner] = tomllib.loads(text)["runners"]
        assert runner["docker"]["privileged"] is False
        assert "privileged = true" not in text
        assert machine.sudo("docker volume ls --quiet --filter dangling=true | grep -vc -- -cache- || true") == "0\n"


def test_two_machines_share_eight_jobs_and_each_runs_two_at_a_time(builders: Stack) -> None:
    project, machines = project_of(builders.outputs()), machines_of(builders)
    text = yaml.safe_load(base64.b64decode(project.files.get(".gitlab-ci.yml", ref="main").content))
    jobs = {"default": {"image": text["default"]["image"]}, "share": {"parallel": JOBS, "script": [HELD]}}
    pipeline = started(project, commit_file(project, "share", ".gitlab-ci.yml", yaml.safe_dump(jobs), "Share"))

    def count(status: str) -> int:
        return Counter(job.status for job in pipeline.jobs.list(get_all=True))[status]

    until(lambda: count("running") == MACHINES * AT_A_TIME, "every slot of both machines runs a job")
    until(lambda: all(len(jobs_on(one)) == AT_A_TIME for one in machines), "each machine runs two jobs")
    containers = [container for machine in machines for container in jobs_on(machine)]
    for host in [container["HostConfig"] for container in containers]:
        assert (host["Privileged"], host["CapAdd"] or [], host["Devices"] or []) == (False, [], [])
        assert "seccomp=unconfined" not in host["SecurityOpt"]
    assert count("pending") == JOBS - MACHINES * AT_A_TIME

    commit_file(project, "go", "README.md", "", "Go [skip ci]")
    until(lambda: count("success") == JOBS, "all jobs succeed", 120)
    taken: dict[str, list[tuple[str, str]]] = {}
    for job in pipeline.jobs.list(get_all=True):
        taken.setdefault(job.runner_manager["system_id"], []).append((job.started_at, job.finished_at))
    assert len(taken) == MACHINES
    assert {most_at_once(spans) for spans in taken.values()} == {AT_A_TIME}


def test_a_failing_test_without_privileged_mode_blocks_the_release(builders: Stack) -> None:
    outputs = builders.outputs()
    project, released = project_of(outputs), latest(outputs)
    # None of these replaces the job's own login and isolation.
    nothing = base64.b64encode(b"nobody:nothing").decode()
    given = {
        "DOCKER_AUTH_CONFIG": json.dumps({"auths": {outputs.registry: {"auth": nothing}}}),
        "REGISTRY_AUTH_FILE": "/nonexistent/auth.json",
        "CONTAINERS_REGISTRIES_CONF": "/nonexistent/registries.conf",
        "STORAGE_DRIVER": "btrfs",
        "BUILDAH_ISOLATION": "oci",
        "CI_REGISTRY_USER": "nobody",
    }
    for key, value in given.items():
        project.variables.create({"key": key, "value": value})
    source = base64.b64decode(project.files.get("greeting.js", ref="main").content).decode()
    broken = pipeline_of(project, commit(project, "main", "greeting.js", source.replace("Hello, ", "Good-bye, ")))
    assert jobs_of(broken) == {
        "build": "success",
        "test": "failed",
        "release": "skipped",
        JOB: "skipped",
        COMPOSED: "skipped",
    }
    for key in given:
        project.variables.delete(key)
    assert latest(outputs) == released
    commit_file(project, "main", "greeting.js", source, "Fix it [skip ci]")
    added = [{"action": "create", "file_path": COMPOSE, "content": SERVICES}]
    project.commits.create({"branch": "main", "commit_message": "Add services [skip ci]", "actions": added})


def failed_jobs(project: Project) -> set[int]:
    """IDs of the jobs that have failed so far."""
    return {int(job.id) for job in project.jobs.list(get_all=True) if job.status == "failed"}


def test_switching_the_builder_updates_pipeline_and_configuration_and_fails_no_job(builders: Stack) -> None:
    failed_before = failed_jobs(project_of(builders.outputs()))
    [runner] = yaml.safe_load(builders.file.read_text())["config"]["slipway:runners"]
    builders.set(runners=[{**runner, "builder": "docker"}])
    changes = builders.changes()
    assert set(changes.values()) == {"update"}
    steps = [f"{number}-{step}" for number in range(1, MACHINES + 1) for step in ("preparation", "registration")]
    updated = {f"delivery-docker-builder-{step}" for step in [*steps, "online"]}
    assert changes.keys() == updated | {"delivery-hello-pipeline"}

    builders.up()
    [configured] = tomllib.loads(machines_of(builders)[0].sudo("cat /etc/gitlab-runner/config.toml"))["runners"]
    assert configured["docker"]["privileged"] is True
    pipeline = last_pipeline(project_of(builders.outputs()))
    waiting = {JOB: "manual", COMPOSED: "manual"}
    assert jobs_of(pipeline) == {"build": "success", "test": "success", "release": "success", **waiting}
    assert failed_jobs(project_of(builders.outputs())) == failed_before
    builders.up("--expect-no-changes")


def test_a_broken_release_is_stopped_by_its_health_check_and_one_command_goes_back(
    builders: Stack, machine: Target
) -> None:
    project = project_of(builders.outputs())
    first = machine.container()
    second = last_pipeline(project)
    with machine.asked() as wrong:
        assert played(project, second).status == "success"
        assert machine.container() == image_tested(project, second) != first

        dockerfile = base64.b64decode(project.files.get("Dockerfile", ref="main").content).decode()
        silent = commit(project, "main", "Dockerfile", f'{dockerfile}\nCMD ["sleep", "infinity"]\n')
        broken = played(project, pipeline_of(project, silent))
        assert broken.status == "failed"
        assert "its health check failed for 5 seconds" in broken.trace().decode()
        assert machine.container() == image_tested(project, second)

        assert rolled_back(builders, "production") == f"production runs {first} again"
        assert machine.container() == first
    assert machine.page("/hello/test") == "Hello, test!"
    # Neither the deployment, nor the broken one, nor the way back has left a request without its answer.
    assert wrong == []


def test_services_run_the_release_on_a_droplet_of_the_stack_and_are_put_back_if_one_is_broken(
    builders: Stack, droplet: Target
) -> None:
    project = project_of(builders.outputs())
    broken, good = project.pipelines.list(per_page=2, get_all=False)
    deployed = played(project, project.pipelines.get(good.id), COMPOSED)
    assert deployed.status == "success", deployed.trace().decode()
    released = image_tested(project, project.pipelines.get(good.id))
    assert droplet.container(SERVICE) == released
    assert droplet.page("/hello/test", 8080) == "Hello, test!"
    failed = played(project, project.pipelines.get(broken.id), COMPOSED)
    assert failed.status == "failed"
    assert f"what ran before was put back: {released} is as before" in failed.trace().decode()
    assert droplet.container(SERVICE) == released
    assert droplet.page("/hello/test", 8080) == "Hello, test!"


def test_one_command_brings_back_the_services_of_an_earlier_release(builders: Stack, droplet: Target) -> None:
    project = project_of(builders.outputs())
    _, good = project.pipelines.list(per_page=2, get_all=False)
    first = droplet.container(SERVICE)
    dockerfile = base64.b64decode(project.files.get("Dockerfile", ref=good.sha).content).decode()
    fixed = pipeline_of(project, commit(project, "main", "Dockerfile", f"{dockerfile}\nENV FIXED=yes\n"))
    assert played(project, fixed, COMPOSED).status == "success"
    assert droplet.container(SERVICE) == image_tested(project, fixed) != first
    assert rolled_back(builders, "composed") == f"composed runs {first} again"
    assert droplet.container(SERVICE) == first
    assert droplet.page("/hello/test", 8080) == "Hello, test!"
    logs = try_run(sys.executable, "-m", "tools", "logs", "target", "--stack", builders.name, cwd=ROOT)
    assert f"{SERVICE}: " in logs.stdout, logs.stdout + logs.stderr


def test_the_proxy_takes_over_from_the_services_on_the_droplet(builders: Stack, droplet: Target) -> None:
    [described] = yaml.safe_load(builders.file.read_text())["config"]["slipway:projects"]
    production, composed = described["deploy"]
    del composed["compose"]
    proxied = {**composed, "publish": ["8080:3000"], "zeroDowntime": True}
    builders.set(projects=[{**described, "deploy": [production, proxied]}])
    builders.up()
    project = project_of(builders.outputs())
    pipeline = last_pipeline(project)
    deployed = played(project, pipeline, COMPOSED)
    assert deployed.status == "success", deployed.trace().decode()
    assert droplet.container("hello-composed") == image_tested(project, pipeline)
    assert droplet.page("/hello/test", 8080) == "Hello, test!"


def rolled_back(stack: Stack, environment: str) -> str:
    """Go back by the command, which succeeds; returns its last line."""
    words = ("rollback", "--stack", stack.name, "--project", "hello", "--environment", environment)
    back = try_run(sys.executable, "-m", "tools", *words, cwd=ROOT, timeout=300)
    assert back.returncode == 0, back.stdout + back.stderr
    return back.stdout.splitlines()[-1]


def test_a_droplet_of_the_stack_lets_nobody_in_but_runners_and_administrators(machine: Target, droplet: Target) -> None:
    def reaches(port: int) -> bool:
        connect = f"timeout 5 bash -c '</dev/tcp/{droplet.host.address}/{port}' 2>/dev/null && echo yes || true"
        return machine.host.sudo(connect) == "yes\n"

    # This machine is in adminCidrs, and the jobs on the runners' machines have logged in.
    assert [reaches(port) for port in (22, 8080)] == [False, True]
    assert "not allowed to run sudo" in droplet.host.sudo("sudo -l -U deploy")
    assert droplet.host.sudo("passwd --status deploy | cut -d ' ' -f 2") == "L\n"
    assert droplet.host.sudo("sshd -T | grep -i ^allowusers | sort") == (
        "allowusers deploy\nallowusers git\nallowusers slipway\n"
    )
