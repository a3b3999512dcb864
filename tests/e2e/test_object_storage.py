"""GitLab's files on their way from the data volume to Spaces of the stack and back, through a backup in between.

Takes several updates and two moves, so this is a part of `make nightly`. The tests build on each other, in order.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import boto3
import httpx
import pytest

from components.object_buckets import TYPES
from tests.e2e.hosts import Host
from tests.e2e.stack import SANDBOX, Stack
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner
from tools.clients import Outputs, try_run
from tools.environment import ROOT
from tools.stack import PulumiError

PIPELINE = "build: {script: build, artifacts: {paths: [out]}}\n"
LOG, ARCHIVE, ATTACHMENT = b"a line of the log\n", b"an archive", b"an attachment"
BACKUP = {"enabled": True, "times": ["02:30"], "keepLast": 2, "keepDays": 0}
SPACES = {"storage": "spaces"}
VOLUME = {"storage": "filesystem"}
FOLDERS = "/var/opt/gitlab/gitlab-rails/shared/artifacts /var/opt/gitlab/gitlab-rails/uploads"


@dataclass(frozen=True)
class Files:
    """A project with an attachment, and a job that has left a log and an archive."""

    project: int
    job: int
    upload: int

    @classmethod
    def create(cls, outputs: Outputs, name: str) -> Files:
        """Leave all of them in GitLab, as a runner and a user do."""
        client = outputs.gitlab()
        project = make_project(client, name)
        runner = make_runner(client, project)
        commit(project, {".gitlab-ci.yml": PIPELINE})
        job = runner.take()
        assert job.log(LOG.decode()).status_code == 202
        assert job.upload(ARCHIVE).status_code == 201
        job.succeed()
        project.upload("notes.txt", filedata=ATTACHMENT)
        [upload] = list(client.http_list(f"/projects/{project.id}/uploads", get_all=True))
        [found] = project.jobs.list(get_all=True)
        return cls(project.id, found.id, int(upload["id"]))

    def are_there(self, outputs: Outputs) -> bool:
        """Whether users can download each of them as it was."""
        base, headers = f"{outputs.url}/api/v4/projects/{self.project}", {"PRIVATE-TOKEN": outputs.api_token}
        places = (f"jobs/{self.job}/trace", f"jobs/{self.job}/artifacts", f"uploads/{self.upload}")
        got = [httpx.get(f"{base}/{place}", headers=headers).raise_for_status().content for place in places]
        return got == [LOG, ARCHIVE, ATTACHMENT]


def tool(*words: str) -> CompletedProcess[str]:
    """Run one of the commands behind the make targets."""
    return try_run(sys.executable, "-m", "tools", *words, timeout=900, cwd=ROOT)


def verified(stack: Stack) -> None:
    done = tool("verify", "--stack", stack.name)
    assert done.returncode == 0, done.stdout + done.stderr


def on_the_volume(stack: Stack) -> int:
    return int(Host.of(stack, "server").sudo(f"find {FOLDERS} -type f | wc -l"))


def objects_of(stack: Stack) -> Any:
    """A client with the key that GitLab has on the server."""
    server = Host.of(stack, "server")
    secret = json.loads(server.sudo("cat /etc/gitlab/slipway-secrets.json"))["objectStorage.secretKey"]
    [access] = re.findall(r"'aws_access_key_id' => '(\w+)'", server.sudo("cat /etc/gitlab/gitlab.rb"))
    return boto3.resource(
        "s3",
        endpoint_url="https://nyc3.digitaloceanspaces.com",
        region_name="nyc3",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose files are on the volume."""
    made = Stack.create(
        "objects",
        tmp_path_factory.mktemp("objects"),
        SANDBOX,
        domain="objects.test",
        registry={"storage": "filesystem"},
        projects=[],
        runners=[],
        backup=BACKUP,
    )
    made.up()
    yield made
    assert made.remove()


@pytest.fixture(scope="module")
def files(stack: Stack) -> Files:
    """What is there before anything moves."""
    return Files.create(stack.outputs(), "before")


@pytest.fixture(scope="module")
def later() -> list[Files]:
    """What was added while object storage was in use."""
    return []


def test_files_move_over_and_leave_the_volume(stack: Stack, files: Files, later: list[Files]) -> None:
    verified_before = tool("backup", "--stack", stack.name)
    assert verified_before.returncode == 0, verified_before.stderr
    verified(stack)
    assert on_the_volume(stack) == 3
    stack.set(objectStorage=SPACES)
    stack.up()
    outputs = stack.outputs()
    assert set(outputs.values["object_storage"]["buckets"]) == set(TYPES)
    assert on_the_volume(stack) == 0
    assert files.are_there(outputs)
    later.append(Files.create(outputs, "later"))
    assert on_the_volume(stack) == 0
    verified(stack)
    assert stack.changes() == {}


def test_the_key_of_gitlab_is_on_the_server_for_root_alone(stack: Stack, files: Files) -> None:
    del files
    found = Host.of(stack, "server").sudo("stat -c '%a %U' /etc/gitlab/slipway-secrets.json; cat /etc/gitlab/gitlab.rb")
    assert found.startswith("600 root\n")
    assert "'aws_secret_access_key' => secrets['objectStorage.secretKey']" in found


def test_a_backup_has_the_files_and_a_restore_brings_them_back(stack: Stack, files: Files, later: list[Files]) -> None:
    done = tool("backup", "--stack", stack.name)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = stack.outputs()
    outputs.gitlab().projects.get(later[0].project).jobs.get(later[0].job).erase()
    with pytest.raises(httpx.HTTPStatusError):
        later[0].are_there(outputs)
    done = tool("restore", "--from", "latest", "--stack", stack.name, "--config-file", str(stack.file), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert files.are_there(outputs)
    assert later[0].are_there(outputs)


def test_what_gitlab_cannot_move_back_stops_the_way_back_before_anything_changes(stack: Stack, files: Files) -> None:
    outputs = stack.outputs()
    bucket = str(outputs.values["object_storage"]["buckets"]["packages"])
    package = objects_of(stack).Object(bucket, "package.tar.gz")
    package.put(Body=b"a package")
    try:
        stack.set(objectStorage=VOLUME)
        with pytest.raises(PulumiError, match="cannot move its files of these types back to the data volume: packages"):
            stack.up()
        assert files.are_there(outputs)
    finally:
        package.delete()


def test_files_move_back_and_the_spaces_go_with_the_update_after(
    stack: Stack, files: Files, later: list[Files]
) -> None:
    stack.set(objectStorage=VOLUME)
    stack.up()
    outputs = stack.outputs()
    assert on_the_volume(stack) == 6
    assert files.are_there(outputs)
    assert later[0].are_there(outputs)
    assert "object_storage" not in outputs.values
    assert any("object-buckets-artifacts" in urn for urn in stack.resources())
    assert "object_store" not in Host.of(stack, "server").sudo("cat /etc/gitlab/gitlab.rb")
    stack.up()
    assert not any("object-buckets" in urn for urn in stack.resources())
    assert files.are_there(outputs)
    verified(stack)
