"""Without privileged mode: two machines that build with Buildah, and how they share what there is to do.

The tests build on each other: each leaves the project as the next one needs it.
"""

from __future__ import annotations

import base64
import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from gitlab.v4.objects import Project

from tests.e2e.hosts import Host
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools import verify
from tools.pipelines import (
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
#: A job that runs until a branch is there.
HELD = 'until git ls-remote --exit-code "$CI_REPOSITORY_URL" refs/heads/go; do sleep 1; done'


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project that two machines build for without privileges; destroyed at the end."""
    made = Stack.create(
        "builders",
        tmp_path_factory.mktemp("builders"),
        SANDBOX,
        domain="builders.test",
        registry={"storage": "filesystem"},
        runners=[{**RUNNER, "builder": "buildah", "count": 2}],
    )
    yield made
    made.remove()


def machines_of(stack: Stack) -> list[Host]:
    """The machines of the one runner."""
    return [Host.of(stack, f"delivery-docker-builder-{number}") for number in range(1, MACHINES + 1)]


def jobs_on(machine: Host) -> list[dict[str, Any]]:
    """The containers of its jobs, as its Docker engine tells of them."""
    listed = machine.root("docker ps --quiet --filter name=-build").split()
    return list(json.loads(machine.root(f"docker inspect {' '.join(listed)}"))) if listed else []


def put(project: Project, branch: str, path: str, content: str, message: str) -> str:
    """Change a file on a branch, which may be a new one; the id of the commit."""
    action = {"action": "update", "file_path": path, "content": content}
    start = {} if branch == "main" else {"start_branch": "main"}
    told = {"branch": branch, "commit_message": message, "actions": [action], **start}
    return str(project.commits.create(told).id)


def most_at_once(spans: list[tuple[str, str]]) -> int:
    """How many of these times, each from a beginning to an end, overlap at most."""
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


def test_a_project_is_built_tested_and_released_without_privileged_mode(builders: Stack) -> None:
    builders.up()
    outputs = builders.outputs()
    results = {name: verify.PROJECT_CHECKS[name](outputs) for name in ("Pipeline", "Released")}
    assert "release" in results["Pipeline"]
    assert results["Released"].endswith("→ Hello, test!")
    project = project_of(outputs)
    assert image_tested(project, last_pipeline(project)) == f"{outputs.projects[0]['image']}@{latest(outputs)}"
    found = {repository.path for repository in project.repositories.list(get_all=True)}
    assert found == {"root/hello", "root/hello/cache"}


def test_nothing_on_the_machines_is_configured_with_privileges(builders: Stack) -> None:
    for machine in machines_of(builders):
        text = machine.root("cat /etc/gitlab-runner/config.toml")
        [runner] = tomllib.loads(text)["runners"]
        assert runner["docker"]["privileged"] is False
        assert "privileged = true" not in text
        assert machine.root("docker volume ls --quiet --filter dangling=true | grep -vc -- -cache- || true") == "0\n"


def test_two_machines_share_eight_jobs_of_which_each_takes_two_at_a_time(builders: Stack) -> None:
    project, machines = project_of(builders.outputs()), machines_of(builders)
    text = yaml.safe_load(base64.b64decode(project.files.get(".gitlab-ci.yml", ref="main").content))
    jobs = {"default": {"image": text["default"]["image"]}, "share": {"parallel": JOBS, "script": [HELD]}}
    pipeline = started(project, put(project, "share", ".gitlab-ci.yml", yaml.safe_dump(jobs), "Share"))

    def count(status: str) -> int:
        return Counter(job.status for job in pipeline.jobs.list(get_all=True))[status]

    until(lambda: count("running") == MACHINES * AT_A_TIME, "as many jobs run as there is room for")
    until(lambda: all(len(jobs_on(one)) == AT_A_TIME for one in machines), "each machine runs two of them")
    containers = [container for machine in machines for container in jobs_on(machine)]
    for host in [container["HostConfig"] for container in containers]:
        assert (host["Privileged"], host["CapAdd"] or [], host["Devices"] or []) == (False, [], [])
        assert "seccomp=unconfined" not in host["SecurityOpt"]
    assert count("pending") == JOBS - MACHINES * AT_A_TIME

    put(project, "go", "README.md", "", "Go [skip ci]")
    until(lambda: count("success") == JOBS, "all of them succeed", 120)
    taken: dict[str, list[tuple[str, str]]] = {}
    for job in pipeline.jobs.list(get_all=True):
        taken.setdefault(job.runner_manager["system_id"], []).append((job.started_at, job.finished_at))
    assert len(taken) == MACHINES
    assert {most_at_once(spans) for spans in taken.values()} == {AT_A_TIME}


def test_a_test_that_fails_without_privileges_fails_its_job_and_releases_nothing(builders: Stack) -> None:
    outputs = builders.outputs()
    project, released = project_of(outputs), latest(outputs)
    source = base64.b64decode(project.files.get("greeting.js", ref="main").content).decode()
    broken = pipeline_of(project, commit(project, "main", "greeting.js", source.replace("Hello, ", "Good-bye, ")))
    assert jobs_of(broken) == {"build": "success", "test": "failed", "release": "skipped"}
    assert latest(outputs) == released
    put(project, "main", "greeting.js", source, "Mend it [skip ci]")


def test_another_builder_is_an_update_of_pipeline_and_configuration_and_no_job_fails_for_it(builders: Stack) -> None:
    [runner] = yaml.safe_load(builders.file.read_text())["config"]["slipway:runners"]
    builders.set(runners=[{**runner, "builder": "docker"}])
    changes = builders.changes()
    assert set(changes.values()) == {"update"}
    steps = [f"{number}-{step}" for number in range(1, MACHINES + 1) for step in ("preparation", "registration")]
    updated = {f"delivery-docker-builder-{step}" for step in [*steps, "online"]}
    assert changes.keys() == updated | {"delivery-hello-file-gitlab-ci-yml"}

    builders.up()
    [configured] = tomllib.loads(machines_of(builders)[0].root("cat /etc/gitlab-runner/config.toml"))["runners"]
    assert configured["docker"]["privileged"] is True
    pipeline = last_pipeline(project_of(builders.outputs()))
    assert jobs_of(pipeline) == {"build": "success", "test": "success", "release": "success"}
    builders.up("--expect-no-changes")
