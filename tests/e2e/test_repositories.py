"""Repositories of other kinds than the sample with Docker in Docker, as the recipe has them: green on their first push.

`test_delivery.py` has the monorepo. Compilers take their time, so this is a part of `make nightly`. Not every sandbox
has their images: `tests.e2e` makes them before it starts sandboxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from gitlab.v4.objects import Project

from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tests.sandbox_tests.support.official_images import WHEELS
from tests.sandbox_tests.support.repositories import files_of, settings_of
from tools.clients import Docker, Outputs, run
from tools.pipelines import image_tested, jobs_of, pipeline_of

#: What each says when it is tested.
KINDS = {"greeter": "1 passed", "clock": "ok  \texample.test/clock", "site": "test is successful"}
#: No package index can be reached.
REQUIREMENTS = {"requirements.txt": f"--no-index\n--find-links /{WHEELS}\npytest\n"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project for each, without code; destroyed at the end."""
    made = Stack.create(
        "kinds",
        tmp_path_factory.mktemp("kinds"),
        SANDBOX,
        domain="kinds.test",
        registry={"storage": "filesystem"},
        projects=[settings_of(kind) for kind in KINDS],
        runners=[{**RUNNER, "builder": "docker"}],
    )
    made.up()
    yield made
    made.remove()


def push(project: Project, files: dict[str, str]) -> str:
    """Commit a whole repository on top of what the stack has committed; returns the ID of the commit."""
    known = {str(entry["path"]) for entry in project.repository_tree(get_all=True)}
    actions = [
        {"action": "update" if path in known else "create", "file_path": path, "content": content}
        for path, content in files.items()
    ]
    return str(project.commits.create({"branch": "main", "commit_message": "Begin", "actions": actions}).id)


@pytest.mark.parametrize("kind", KINDS)
def test_a_repository_is_green_on_its_first_push(stack: Stack, kind: str) -> None:
    outputs = stack.outputs()
    project = outputs.gitlab().projects.get(f"root/{kind}")
    extra = REQUIREMENTS if kind == "greeter" else {}
    pipeline = pipeline_of(project, push(project, files_of(kind) | extra), 900)
    logs = {job.name: bytes(project.jobs.get(job.id).trace()).decode() for job in pipeline.jobs.list(get_all=True)}
    assert jobs_of(pipeline) == dict.fromkeys(("build", "test", "release"), "success"), logs
    assert KINDS[kind] in logs["test"]
    released = manifest(outputs, kind)
    assert image_tested(project, pipeline).endswith(f"@{released['digest']}")
    platforms = {one["platform"]["architecture"] for one in released["manifests"]} - {"unknown"}
    assert platforms == ({"amd64", "arm64"} if kind == "clock" else {"amd64"})


def manifest(outputs: Outputs, kind: str) -> dict[str, Any]:
    """The index that was released as `latest`, with its own digest."""
    with Docker.session() as docker:
        docker.login(outputs.registry, outputs.user, outputs.password)
        image = f"{outputs.registry}/root/{kind}:latest"
        text = run(
            "docker",
            "--config",
            docker.folder,
            "buildx",
            "imagetools",
            "inspect",
            "--format",
            "{{json .Manifest}}",
            image,
        )
    return dict(json.loads(text))
