"""A backup of one stack, restored in another, from a bucket to a data volume; and what a restore refuses before."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import boto3
import gitlab
import pytest

from tests.e2e.backends import state_in
from tests.e2e.images import given_bucket
from tests.e2e.stack import SANDBOX, Stack
from tools.clients import Docker, Outputs, stored, try_run
from tools.environment import ROOT
from tools.stack import stack_file

#: In the place of pg_restore: the first restore of a database fails, and all others work.
FAILS_ONCE = """#!/bin/sh
if [ "$1" = -h ] && [ ! -e /tmp/failed-once ]; then
  touch /tmp/failed-once
  echo "pg_restore: error: no space left for the test" >&2
  exit 1
fi
exec /opt/gitlab/embedded/bin/pg_restore.whole "$@"
"""
BACKUP = {"enabled": True, "times": ["02:30"], "keepLast": 2, "keepDays": 0}


@dataclass(frozen=True)
class Content:
    """What was in the source when it was backed up."""

    image: str
    digest: str
    token: str = field(repr=False)
    host_key: str
    backup_id: str


def tool(*words: str, environment: dict[str, str] | None = None) -> CompletedProcess[str]:
    """Run one of the commands behind the make targets."""
    return try_run(sys.executable, "-m", "tools", *words, timeout=900, cwd=ROOT, environment=environment)


def into(stack: Stack) -> list[str]:
    """Options that restore into a stack."""
    return ["--stack", stack.name, "--config-file", str(stack.file), "--yes"]


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Stack]]:
    folder = tmp_path_factory.mktemp("backup")
    small: dict[str, Any] = {"projects": [], "runners": [], "backup": BACKUP}
    source = Stack.create("source", folder, SANDBOX, domain="source.test", **small)
    storage = {"storage": "filesystem"}
    target = Stack.create("target", folder, SANDBOX, domain="target.test", registry=storage, **small)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda stack: stack.up(), (source, target)))
    yield source, target
    with ThreadPoolExecutor() as pool:
        gone = list(pool.map(lambda stack: stack.remove(), (source, target)))
    assert gone == [True, True]


@pytest.fixture(scope="module")
def content(stacks: tuple[Stack, Stack]) -> Content:
    """Put a project with an image, an encrypted variable and a token into the source, and back it up."""
    outputs = stacks[0].outputs()
    client = outputs.gitlab()
    project = client.projects.create({"name": "kept", "initialize_with_readme": True, "visibility": "private"})
    project.variables.create({"key": "DEPLOY_KEY", "value": "sealed-value", "masked": True})
    client.auth()
    assert client.user
    token = client.users.get(client.user.id).personal_access_tokens.create({"name": "laptop", "scopes": ["api"]}).token
    image = f"{outputs.registry}/root/kept:1"
    with Docker.session() as docker:
        docker.login(outputs.registry, outputs.user, outputs.password)
        docker.make_image(image)
        digest = docker.push(image)
        docker.forget(image)
    done = tool("backup", "--stack", "source")
    assert done.returncode == 0, done.stdout + done.stderr
    listing = json.loads(outputs.ssh("sudo slipway-backup list"))
    [backup] = listing["backups"]
    return Content(image, digest, str(token), str(outputs.values["server_ssh_host_key"]), backup["id"])


def test_a_backup_is_listed_with_its_age_version_and_content(content: Content) -> None:
    done = tool("backups", "--stack", "source")
    assert done.returncode == 0, done.stderr
    assert content.backup_id in done.stdout
    assert "19.3.0-ce.0" in done.stdout


@pytest.fixture
def environment(stacks: tuple[Stack, Stack]) -> Iterator[dict[str, str]]:
    """The environment of commands that find the state of the source in a bucket."""
    state = stacks[0].run("stack", "export", "--show-secrets", settings_file=False)
    with given_bucket("states-of-the-source") as place:
        remote = state_in(place)
        for words, stdin in ((("stack", "init", "--no-select", "source"), ""), (("stack", "import"), state)):
            which = () if "init" in words else ("--stack", "source")
            done = try_run("pulumi", *words, *which, "--non-interactive", stdin=stdin, environment=remote, cwd=ROOT)
            assert done.returncode == 0, done.stderr
        stack_file("source").unlink(missing_ok=True)
        yield remote


def test_every_tool_finds_the_state_of_a_stack_in_a_bucket(
    stacks: tuple[Stack, Stack], content: Content, environment: dict[str, str]
) -> None:
    file = ["--config-file", str(stacks[0].file)]
    done = {
        command: tool(command, "--stack", "source", *options, environment=environment)
        for command, options in {"backups": [], "renew-token": [], "verify": [], "strays": [], "drift": file}.items()
    }
    assert {command: one.returncode for command, one in done.items()} == dict.fromkeys(done, 0), done
    assert content.backup_id in done["backups"].stdout
    assert content.backup_id in done["verify"].stdout


def test_what_is_in_the_space_reveals_neither_secrets_nor_images(stacks: tuple[Stack, Stack], content: Content) -> None:
    space = bucket(stacks[0].outputs())
    names = [entry.key for entry in space.objects.all()]
    assert f"gitlab/backups/{content.backup_id}/manifest.json.bin" in names
    assert [name for name in names if not name.endswith(".bin")] == []
    for entry in space.objects.all():
        head = entry.get()["Body"].read(8)
        # What rclone writes in front of encrypted content.
        assert head == b"RCLONE\x00\x00", entry.key


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("source:1700000000_2023_11_14_19.3.0", "there is no backup 1700000000_2023_11_14_19.3.0; nothing was changed"),
        ("wrong key", "The key is not the one that it was made with"),
        ("damaged", "nothing was changed"),
        ("unfinished", "is unfinished: the run that made it was interrupted; nothing was changed"),
    ],
)
def test_what_cannot_be_restored_is_refused_and_changes_nothing(
    wish: str, words: str, stacks: tuple[Stack, Stack], content: Content, tmp_path: Path
) -> None:
    source, target = (stack.outputs() for stack in stacks)
    options = ["--from", wish]
    space, spoilt = bucket(source), f"gitlab/backups/{content.backup_id}/"
    spoilt += "manifest.json.bin" if wish == "unfinished" else "registry.dump.bin"
    saved = space.Object(spoilt).get()["Body"].read()
    if ":" not in wish:
        values = dict(source.backup or {})
        if wish == "wrong key":
            values["encryption_key"] = secrets.token_hex(24)
        (tmp_path / "keys.json").write_text(json.dumps(values))
        options = ["--from", content.backup_id, "--keys", str(tmp_path / "keys.json")]
    before = [project.path for project in target.gitlab().projects.list(get_all=True)]
    if wish == "damaged":
        space.Object(spoilt).put(Body=saved[:-20] + bytes(20))
    elif wish == "unfinished":
        space.Object(spoilt).delete()
    try:
        done = tool("restore", *into(stacks[1]), *options)
    finally:
        space.Object(spoilt).put(Body=saved)
    assert done.returncode == 1
    assert words in done.stderr
    assert [project.path for project in target.gitlab().projects.list(get_all=True)] == before


def test_a_restore_that_fails_half_way_puts_the_previous_state_back(
    stacks: tuple[Stack, Stack], content: Content
) -> None:
    target = stacks[1].outputs()
    project = target.gitlab().projects.create({"name": "earlier", "initialize_with_readme": True})
    program = "/opt/gitlab/embedded/bin/pg_restore"
    target.ssh(f"sudo mv {program} {program}.whole && sudo tee {program} && sudo chmod 755 {program}", FAILS_ONCE)
    done = tool("restore", *into(stacks[1]), "--from", f"source:{content.backup_id}")
    target.ssh(f"sudo mv {program}.whole {program}")
    assert done.returncode == 1
    assert "no space left for the test" in done.stderr
    assert "the previous state is in effect again" in done.stderr
    client = target.gitlab()
    assert [one.path for one in client.projects.list(get_all=True)] == ["earlier"]
    assert client.projects.get(project.id).files.get("README.md", "main").decode()


def test_a_backup_is_restored_in_another_stack_with_another_storage(
    stacks: tuple[Stack, Stack], content: Content
) -> None:
    done = tool("restore", *into(stacks[1]), "--from", "source:latest")
    assert done.returncode == 0, done.stdout + done.stderr
    target = stacks[1].outputs()
    client = target.gitlab()
    assert client.projects.get("root/kept").variables.get("DEPLOY_KEY").value == "sealed-value"
    user = gitlab.Gitlab(target.url, private_token=content.token)
    user.auth()
    assert user.user
    assert user.user.username == "root"
    image = f"{target.registry}/root/kept@{content.digest}"
    with Docker.session() as docker:
        # The password of root is in the backup, too.
        docker.login(target.registry, target.user, stacks[0].outputs().password)
        assert docker.pull(image) == content.digest
        stored(target).require(docker.contents(image))
        docker.forget(image)
    assert target.values["server_ssh_host_key"] != content.host_key
    assert stacks[1].changes() == {}


def test_the_host_key_of_the_backup_can_be_taken_over(stacks: tuple[Stack, Stack], content: Content) -> None:
    done = tool("restore", *into(stacks[1]), "--from", "source:latest", "--host-key", "take")
    assert done.returncode == 0, done.stdout + done.stderr
    target = stacks[1].outputs()
    assert str(target.values["server_ssh_host_key"]).split()[1] == content.host_key.split()[1]
    assert target.ssh("hostname").strip() == "gitlab.target.test"
    assert stacks[1].changes() == {}


def bucket(outputs: Outputs) -> Any:
    """The Space with the backups, with the key of the stack."""
    space = outputs.backup or {}
    session = boto3.Session(space["access_key"], space["secret_key"], region_name=space["region"])
    return session.resource("s3", endpoint_url=space["endpoint"], verify=os.environ.get("AWS_CA_BUNDLE")).Bucket(
        space["bucket"]
    )
