"""GitLab's databases on their way to managed servers: everything is there afterwards.

Takes two clusters and several updates, so this is a part of `make nightly`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import CompletedProcess

import pydo
import pytest

from tests.e2e.hosts import Host
from tests.e2e.images import pulled
from tests.e2e.stack import SANDBOX, Stack
from tools.clients import Docker, Outputs, try_run
from tools.environment import ROOT

BACKUP = {"enabled": True, "times": ["02:30"], "keepLast": 4, "keepDays": 0}
MANAGED = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}


@dataclass(frozen=True)
class Content:
    """A project with a variable and an image, and a user."""

    name: str
    digest: str

    @classmethod
    def create(cls, outputs: Outputs, name: str) -> Content:
        """Leave all of it in GitLab."""
        client = outputs.gitlab()
        project = client.projects.create({"name": name, "initialize_with_readme": True, "visibility": "private"})
        project.variables.create({"key": "DEPLOY_KEY", "value": f"sealed-{name}", "masked": True})
        user = {"username": f"of-{name}", "name": name, "email": f"{name}@example.test", "skip_confirmation": True}
        client.users.create({**user, "force_random_password": True})
        image = f"{outputs.registry}/root/{name}:1"
        with Docker.session() as docker:
            docker.login(outputs.registry, outputs.user, outputs.password)
            docker.make_image(image)
            digest = docker.push(image)
            docker.forget(image)
        return cls(name, digest)

    def is_there(self, outputs: Outputs) -> bool:
        """Whether all of it is as it was."""
        client = outputs.gitlab()
        project = client.projects.get(f"root/{self.name}")
        [repository] = project.repositories.list(get_all=True)
        return (
            project.variables.get("DEPLOY_KEY").value == f"sealed-{self.name}"
            and bool(project.files.get("README.md", ref=project.default_branch).decode())
            and [one.name for one in client.users.list(username=f"of-{self.name}", get_all=True)] == [self.name]
            and [tag.name for tag in repository.tags.list(get_all=True)] == ["1"]
            and pulled(outputs, f"{outputs.registry}/root/{self.name}:1") == self.digest
        )


def tool(*words: str) -> str:
    """Run one of the commands behind the make targets; what it prints."""
    done: CompletedProcess[str] = try_run(sys.executable, "-m", "tools", *words, timeout=900, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tables_in(stack: Stack) -> str:
    """Which server has GitLab's tables, by its configuration."""
    lines = Host.of(stack, "server").sudo("grep -c \"^postgresql.'enable'. = false\" /etc/gitlab/gitlab.rb || true")
    return "managed" if lines.strip() == "1" else "bundled"


def bundled_server_runs(stack: Stack) -> bool:
    return "run: postgresql" in Host.of(stack, "server").sudo("gitlab-ctl status || true")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with the databases of GitLab's package."""
    made = Stack.create(
        "moves",
        tmp_path_factory.mktemp("moves"),
        SANDBOX,
        domain="moves.test",
        registry={"storage": "filesystem"},
        projects=[],
        runners=[],
        backup=BACKUP,
    )
    made.up()
    yield made
    assert made.remove()
    assert clusters() == []


def clusters() -> list[str]:
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    return [one["name"] for one in api.databases.list_clusters().get("databases") or []]


@pytest.fixture(scope="module")
def before(stack: Stack) -> Content:
    """What is there before anything moves, and in a backup."""
    content = Content.create(stack.outputs(), "before")
    tool("backup", "--stack", stack.name)
    return content


def test_everything_is_there_after_the_move(stack: Stack, before: Content) -> None:
    tool("verify", "--stack", stack.name)
    stack.set(databases=MANAGED)
    stack.up()
    outputs = stack.outputs()
    assert (tables_in(stack), bundled_server_runs(stack)) == ("managed", False)
    assert len(clusters()) == len(MANAGED)
    assert before.is_there(outputs)
    assert Content.create(outputs, "later").is_there(outputs)
    tool("verify", "--stack", stack.name)
    assert stack.changes() == {}
