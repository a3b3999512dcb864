"""The stack files that users fill in: each can be previewed as it is, with an image that the sandbox has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydo
import pytest
import yaml

from tests.e2e.control import Control
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.environment import ROOT

NAMES = ["dev", "staging", "production"]


@pytest.mark.parametrize("name", NAMES)
def test_previewing_a_stack_file_only_reads(name: str, tmp_path: Path, control: Control) -> None:
    template = ROOT / "stacks" / f"Pulumi.{name}.yaml"
    settings = yaml.safe_load(template.read_text())["config"]
    with existing_domain(settings) as looked_up:
        server = settings.get("slipway:server", {}) | {"image": "debian-13-x64"}
        stack = Stack.create(f"{name}-preview", tmp_path, template, server=server)
        before = len(control.requests())
        operations = stack.changes()
        written = control.writes_since(before)
        stack.run("stack", "rm", "--yes", settings_file=False)
    assert written == []
    assert set(operations.values()) == {"create"}
    assert ("dns-domain" in operations) is not looked_up
    spaces = settings["slipway:registry"]["storage"] == "spaces"
    assert ("registry-bucket-bucket" in operations) is spaces


def test_no_stack_file_contains_the_secrets_or_salt_of_one_user() -> None:
    for name in NAMES:
        content = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{name}.yaml").read_text())
        assert content.keys() == {"config"}, name


def test_the_first_preview_shows_a_project_in_a_group_although_there_is_no_gitlab_to_search(tmp_path: Path) -> None:
    projects = [{"path": "hello", "group": "team"}]
    stack = Stack.create("group-preview", tmp_path, SANDBOX, domain="group.test", projects=projects)
    assert stack.changes()["delivery-hello-project"] == "create"
    stack.run("stack", "rm", "--yes", settings_file=False)


def test_versions_that_the_repositories_lack_are_refused_at_preview(tmp_path: Path, control: Control) -> None:
    """Asked of the repositories themselves, from where the engine runs."""
    gitlab = {**yaml.safe_load(SANDBOX.read_text())["config"].get("slipway:gitlab", {}), "version": "19.4.9-ce.0"}
    runners = [{**RUNNER, "version": "19.4.9-1"}]
    stack = Stack.create("version-preview", tmp_path, SANDBOX, domain="version.test", gitlab=gitlab, runners=runners)
    before = len(control.requests())
    done = stack.attempt("preview")
    output = done.stdout + done.stderr
    stack.run("stack", "rm", "--yes", settings_file=False)
    assert done.returncode != 0
    assert "2 errors in the configuration; nothing was changed." in output
    for path in ("gitlab.version: 19.4.9-ce.0", "runners[0].version: 19.4.9-1"):
        assert f"  - {path} is not in the repository https://packages.gitlab.com/" in output
    assert "Traceback" not in output
    assert control.writes_since(before) == []


@contextmanager
def existing_domain(settings: dict[str, dict[str, str]]) -> Iterator[bool]:
    """Create the domain that a stack file expects to exist; yields whether it expects one."""
    looked_up = settings.get("slipway:dns", {}).get("zone") == "existing"
    if not looked_up:
        yield False
        return
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    name = str(settings["slipway:domain"])
    api.domains.create({"name": name})
    try:
        yield True
    finally:
        api.domains.delete(name)
