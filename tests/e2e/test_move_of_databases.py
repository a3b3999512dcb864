"""GitLab's databases on their way to managed servers and back: nothing is lost, whatever ends the run in between.

Takes several updates and restores, so this is a part of `make nightly`. The tests build on each other, in order.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import CompletedProcess
from typing import Any

import gitlab
import httpx
import pydo
import pytest

from tests.e2e.hosts import Host
from tests.e2e.images import pulled
from tests.e2e.stack import SANDBOX, Stack
from tools.clients import CheckError, Docker, Outputs, try_run
from tools.environment import ROOT
from tools.pipelines import until
from tools.stack import PulumiError

BACKUP = {"enabled": True, "times": ["02:30"], "keepLast": 4, "keepDays": 0}
MANAGED = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}
BUNDLED = {"postgresql": {"kind": "bundled"}, "valkey": {"kind": "bundled"}}
MOVING = "/etc/gitlab/slipway-moving"
FILLER = "/mnt/gitlab/filler"
#: Enough for GitLab to run, and too little for its tables to come back.
LEFT_BYTES = 1_000_000_000
#: A concurrent creation that fails leaves such an index, which no dump has.
INVALID_INDEX = """
sql() { gitlab-psql -d gitlabhq_production -c "$1"; }
sql 'CREATE TABLE doubled AS SELECT 1 AS number FROM generate_series(1, 2)'
! sql 'CREATE UNIQUE INDEX CONCURRENTLY doubled_number ON doubled (number)' 2>/dev/null
"""


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


def back_up(stack: Stack) -> str:
    """Make a backup and return its ID."""
    tool("backup", "--stack", stack.name)
    newest: dict[str, Any] = json.loads(stack.outputs().ssh("sudo slipway-backup list"))["backups"][0]
    return str(newest["id"])


def restore(stack: Stack, backup: str) -> None:
    tool("restore", "--from", backup, "--stack", stack.name, "--config-file", str(stack.file), "--yes")


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
def before(stack: Stack) -> tuple[Content, str]:
    """What is there before anything moves, and a backup of it."""
    content = Content.create(stack.outputs(), "before")
    return content, back_up(stack)


@pytest.fixture(scope="module")
def later() -> list[Content]:
    """What was added while the databases were managed."""
    return []


def test_everything_is_there_after_the_move(stack: Stack, before: tuple[Content, str], later: list[Content]) -> None:
    tool("verify", "--stack", stack.name)
    Host.of(stack, "server").sudo(INVALID_INDEX)
    stack.set(databases=MANAGED)
    stack.up()
    outputs = stack.outputs()
    assert (tables_in(stack), bundled_server_runs(stack)) == ("managed", False)
    assert len(clusters()) == len(MANAGED)
    assert before[0].is_there(outputs)
    later.append(Content.create(outputs, "later"))
    tool("verify", "--stack", stack.name)
    assert stack.changes() == {}


def test_a_backup_from_before_the_move_and_one_from_after_it_are_restored_into_the_cluster(
    stack: Stack, before: tuple[Content, str], later: list[Content]
) -> None:
    outputs, after = stack.outputs(), back_up(stack)
    restore(stack, before[1])
    assert before[0].is_there(outputs)
    with pytest.raises(gitlab.GitlabGetError):
        later[0].is_there(outputs)
    restore(stack, after)
    assert before[0].is_there(outputs)
    assert later[0].is_there(outputs)


def test_gitlab_stands_still_after_a_power_cut_in_the_move(stack: Stack) -> None:
    stack.set(databases=BUNDLED)
    server, outputs = Host.of(stack, "server"), stack.outputs()
    update = stack.start("up", "--yes", "--skip-preview", "--non-interactive")
    try:
        until(lambda: server.sudo(f"ls {MOVING} 2>/dev/null || true"), "the move to begin")
        api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
        action = api.droplet_actions.post(server.droplet, body={"type": "power_cycle"})["action"]["id"]
        until(lambda: api.actions.get(action)["action"]["status"] == "completed", "the power cycle")
    finally:
        stack.kill(update)
    until(lambda: _boots(server), "the server to boot")
    services = server.sudo("gitlab-ctl status || true")
    assert "down: puma" in services
    assert "down: registry" in services
    with pytest.raises(httpx.HTTPStatusError):
        httpx.get(f"{outputs.url}/users/sign_in").raise_for_status()


def test_an_update_that_is_refused_after_that_has_gitlab_run_with_the_cluster_again_and_not_with_half_a_copy(
    stack: Stack, before: tuple[Content, str], later: list[Content]
) -> None:
    server, outputs = Host.of(stack, "server"), stack.outputs()
    free = "$(df --output=avail --block-size=1 /mnt/gitlab | tail -n 1)"
    server.sudo(f"fallocate --length $(({free} - {LEFT_BYTES})) {FILLER}")
    with pytest.raises(PulumiError, match=r"the data volume has [0-9]+ MB left, and GitLab's databases have"):
        stack.up()
    server.sudo(f"rm {FILLER}")
    # A run that fails starts GitLab, and does not wait for it.
    until(lambda: httpx.get(f"{outputs.url}/users/sign_in").is_success, "GitLab to answer")
    assert tables_in(stack) == "managed"
    assert before[0].is_there(outputs)
    assert later[0].is_there(outputs)


def test_everything_comes_back_to_a_droplet_that_is_replaced_in_the_same_update(
    stack: Stack, before: tuple[Content, str], later: list[Content]
) -> None:
    stack.up("--replace", stack.urn("server-droplet"))
    outputs = stack.outputs()
    assert (tables_in(stack), bundled_server_runs(stack)) == ("bundled", True)
    assert before[0].is_there(outputs)
    assert later[0].is_there(outputs)


def _boots(server: Host) -> bool:
    try:
        return bool(server.sudo("systemctl is-system-running --wait || true"))
    except CheckError:
        return False


def test_the_clusters_go_with_the_update_after_and_backups_of_them_are_of_use_still(
    stack: Stack, before: tuple[Content, str], later: list[Content]
) -> None:
    stack.up()
    assert clusters() == []
    outputs = stack.outputs()
    newest: dict[str, Any] = json.loads(outputs.ssh("sudo slipway-backup list"))["backups"][0]
    outputs.gitlab().projects.get(f"root/{later[0].name}").delete()
    restore(stack, str(newest["id"]))
    assert before[0].is_there(outputs)
    assert later[0].is_there(outputs)
    tool("verify", "--stack", stack.name)
    assert stack.changes() == {}
