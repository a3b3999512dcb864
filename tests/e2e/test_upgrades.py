"""GitLab from release to release: refused, killed, stopped by migrations, continued, and restored as it was before.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.e2e.stack import SANDBOX, Stack
from tools.clients import Docker, Outputs, try_run
from tools.environment import ROOT
from tools.pipelines import until

OLD, STOP, NEW = "19.3.0-ce.0", "19.5.0-ce.0", "19.6.0-ce.0"
MIGRATION = "BackfillUsersUsernameDigest"
SETTINGS: dict[str, Any] = yaml.safe_load(SANDBOX.read_text())["config"]["slipway:gitlab"]
INDEX = "index_users_on_username_digest"


@dataclass(frozen=True)
class Content:
    """What was put into GitLab before the first upgrade."""

    image: str
    digest: str

    def require(self, outputs: Outputs, password: str) -> None:
        """Check that everything is in the GitLab of `outputs`, whose `root` has that password."""
        project = outputs.gitlab().projects.get("root/kept")
        assert project.files.get("README.md", "main").decode()
        assert project.variables.get("DEPLOY_KEY").value == "sealed-value"
        image = f"{outputs.registry}/root/kept@{self.digest}"
        with Docker.session() as docker:
            docker.login(outputs.registry, outputs.user, password)
            assert docker.pull(image) == self.digest
            docker.forget(image)


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Stack]]:
    """A stack of an older version, and one of the required stop on its way."""
    folder = tmp_path_factory.mktemp("upgrades")
    small: dict[str, Any] = {
        "projects": [],
        "runners": [],
        "registry": {"storage": "filesystem"},
        "backup": {"enabled": True, "times": ["02:30"]},
    }
    older = Stack.create("older", folder, SANDBOX, domain="older.test", gitlab=release(OLD), **small)
    rescue = Stack.create("rescue", folder, SANDBOX, domain="rescue.test", gitlab=release(STOP), **small)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda stack: stack.up(), (older, rescue)))
    yield older, rescue
    with ThreadPoolExecutor() as pool:
        gone = list(pool.map(lambda stack: stack.remove(), (older, rescue)))
    assert gone == [True, True]


@pytest.fixture(scope="module")
def stack(stacks: tuple[Stack, Stack]) -> Stack:
    """The stack that is upgraded."""
    return stacks[0]


@pytest.fixture(scope="module")
def content(stack: Stack) -> Content:
    """Put a project with a repository, a variable and an image into it."""
    outputs = stack.outputs()
    project = outputs.gitlab().projects.create({"name": "kept", "initialize_with_readme": True})
    project.variables.create({"key": "DEPLOY_KEY", "value": "sealed-value", "masked": True})
    image = f"{outputs.registry}/root/kept:1"
    with Docker.session() as docker:
        docker.login(outputs.registry, outputs.user, outputs.password)
        docker.make_image(image)
        digest = docker.push(image)
        docker.forget(image)
    return Content(image, digest)


def release(version: str) -> dict[str, Any]:
    """The setting `gitlab` with a version."""
    return {**SETTINGS, "version": version}


def version_of(outputs: Outputs) -> str:
    """What GitLab's API says that it is."""
    return str(outputs.gitlab().version()[0])


def query(outputs: Outputs, statement: str) -> str:
    """Run a statement on GitLab's database."""
    return outputs.ssh(f'sudo gitlab-psql -d gitlabhq_production -tAc "{statement}"').strip()


def documented(beginning: str) -> str:
    """The command on the page about environments that begins like this."""
    lines = (ROOT / "docs/environments.md").read_text().splitlines()
    [found] = {line for line in lines if line.startswith(beginning)}
    return found


def failed(stack: Stack, *words: str) -> str:
    """Run a Pulumi command that must fail, and return its output."""
    done = stack.attempt(*words)
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


@contextmanager
def starting(stack: Stack) -> Iterator[Iterator[str]]:
    """Run `pulumi up`, which must fail by the end of the block, and yield its output line by line."""
    with stack.start("up", "--yes", "--skip-preview") as process:
        limit = threading.Timer(300, process.kill)
        limit.start()
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
            rest = process.stdout.read()
            assert process.wait() not in (0, -9), rest
        finally:
            limit.cancel()
            process.kill()


def await_line(lines: Iterator[str], words: str) -> None:
    """Read on until a line has these words."""
    assert any(words in line for line in lines), words


def test_a_version_behind_a_required_stop_is_refused_at_preview_and_by_the_package(
    stack: Stack, content: Content
) -> None:
    stack.set(gitlab=release(NEW))
    refusal = failed(stack, "preview")
    assert f"{NEW} cannot follow {OLD}; upgrades must stop at 19.5" in refusal
    outputs = stack.outputs()
    command = f"apt-get -qq install --yes --allow-change-held-packages gitlab-ce={NEW}"
    said = outputs.ssh(f"sudo {command} 2>&1 || true")
    assert "It is required to upgrade to the latest 19.5.x version first before proceeding." in said
    assert version_of(outputs) == "19.3.0"
    content.require(outputs, outputs.password)


def test_an_upgrade_that_is_killed_in_the_middle_of_dpkg_is_continued(stack: Stack, content: Content) -> None:
    outputs = stack.outputs()
    # Refuses every change of a user, and so the migration that the new version queues.
    body = "BEGIN RAISE EXCEPTION ''not today''; END"
    query(outputs, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    query(outputs, "CREATE TRIGGER refusing BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()")
    stack.set(gitlab=release(STOP))
    with starting(stack) as lines:
        await_line(lines, f"backing up {OLD} before the upgrade")
        await_line(lines, f"installing {STOP}")
        until(lambda: outputs.ssh("pgrep -f '[g]itlab-ctl upgrade' || true").strip(), "the package is being configured")
        outputs.ssh("sudo pkill -9 dpkg; sudo pkill -9 -f '[g]itlab-ctl upgrade'")
    assert "iF" in outputs.ssh("dpkg-query --show --showformat='${db:Status-Abbrev}' gitlab-ce")
    stack.up()
    assert version_of(outputs) == "19.5.0"
    assert stack.changes() == {}
    content.require(outputs, outputs.password)


def test_a_background_migration_that_has_failed_stops_the_next_upgrade_before_anything(stack: Stack) -> None:
    outputs = stack.outputs()
    failures = "SELECT count(*) FROM batched_background_migrations WHERE status = 4"
    until(lambda: query(outputs, failures) == "1", "the migration has failed")
    assert f"failed     | {MIGRATION},users,id,[]" in outputs.ssh(documented("sudo gitlab-rake"))
    stack.set(gitlab=release(NEW))
    output = failed(stack, "up", "--yes", "--skip-preview")
    assert f"are paused or have failed: {MIGRATION}; nothing was installed" in output
    assert version_of(outputs) == "19.5.0"


def test_an_upgrade_waits_for_migrations_and_says_where_it_stops_if_its_own_fail(stack: Stack) -> None:
    outputs = stack.outputs()
    query(outputs, "DROP FUNCTION refuse CASCADE")
    query(outputs, "UPDATE batched_background_migrations SET interval = 3600")
    query(outputs, f"CREATE INDEX {INDEX} ON users (username)")
    outputs.ssh(documented("sudo gitlab-rails runner"))
    with starting(stack) as lines:
        await_line(lines, f"waiting for 1 background migrations of the last upgrade, such as {MIGRATION}")
        query(outputs, "UPDATE batched_background_migrations SET interval = 0")
        await_line(lines, f"backing up {STOP} before the upgrade")
        await_line(lines, f'relation "{INDEX}" already exists')
        await_line(
            lines, f"GitLab {NEW} is installed, but its configuration or the migration of its database has failed"
        )
    assert "down: puma" in outputs.ssh("sudo gitlab-ctl status || true")


def test_the_backup_from_before_it_is_restored_in_a_new_environment(
    stacks: tuple[Stack, Stack], content: Content
) -> None:
    source, rescue = stacks
    listing = json.loads(source.outputs().ssh("sudo slipway-backup list"))
    assert STOP in [backup["gitlab_version"] for backup in listing["backups"]]
    done = try_run(
        *(sys.executable, "-m", "tools", "restore", "--from", "older:latest", "--yes"),
        *("--stack", rescue.name, "--config-file", str(rescue.file)),
        timeout=900,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = rescue.outputs()
    assert version_of(outputs) == "19.5.0"
    content.require(outputs, source.outputs().password)


def test_after_an_upgrade_that_failed_the_earlier_version_is_refused(stack: Stack) -> None:
    stack.set(gitlab=release(STOP))
    output = failed(stack, "up", "--yes", "--skip-preview")
    assert f"the server already has GitLab {NEW}, and {STOP} cannot read its database; nothing was changed" in output
    stack.set(gitlab=release(NEW))


def test_an_upgrade_is_continued_once_its_cause_is_fixed(stack: Stack, content: Content) -> None:
    outputs = stack.outputs()
    query(outputs, f"DROP INDEX {INDEX}")
    stack.up()
    assert version_of(outputs) == "19.6.0"
    assert outputs.values["gitlab_version"] != NEW
    assert stack.outputs().values["gitlab_version"] == NEW
    assert "down:" not in outputs.ssh("sudo gitlab-ctl status")
    content.require(outputs, outputs.password)


def test_a_downgrade_is_refused_at_preview_and_points_to_the_backup(stack: Stack) -> None:
    stack.set(gitlab=release(STOP))
    refusal = failed(stack, "preview")
    assert f"{STOP} is older than the running {NEW}" in refusal
    assert "make restore STACK=new FROM=stack:ID" in refusal
    stack.set(gitlab=release(NEW))
    assert stack.changes() == {}
