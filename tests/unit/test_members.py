"""Who works in a project: the memberships that the program declares, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pulumi import RunError

from components.settings import Settings, SettingsError, load
from tests.unit.engine import REQUIRED, ROOT, RecordingEngine, as_config, run_program

RUNNER = {"name": "docker-builder"}
JANE = {"id": 12, "username": "Jane"}
JOHN = {"id": 13, "username": "john"}


def run(*members: dict[str, Any], found: list[dict[str, Any]] | None = None, **more: Any) -> RecordingEngine:
    engine = RecordingEngine()
    engine.answers["getUsers"] = {"users": [JOHN, JANE] if found is None else found}
    projects = [{"path": "hello", "members": list(members)}]
    return run_program(engine=engine, projects=projects, runners=[RUNNER], **more)


def test_a_user_becomes_a_developer_unless_the_settings_say_otherwise_whatever_the_case_of_the_name() -> None:
    engine = run({"user": "jane"}, {"user": "John", "access": "maintainer"})
    members = {one.name: one.inputs for one in engine.of_type(":ProjectMembership")}
    assert {name: (one["userId"], one["accessLevel"]) for name, one in members.items()} == {
        "delivery-hello-members-jane": (12, "developer"),
        "delivery-hello-members-john": (13, "maintainer"),
    }


def test_a_project_without_members_asks_for_no_user() -> None:
    engine = run()
    assert engine.of_type(":ProjectMembership") == []
    assert [name for name, _ in engine.calls if name.endswith(":getUsers")] == []


@pytest.mark.parametrize("found", [[], [{"id": 14, "username": "jane-doe"}]])
def test_a_user_that_does_not_exist_is_named_with_its_place_and_what_to_do(found: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match=r"projects\[hello\]\.members\[0\]\.user: GitLab has no user jane; .* sign in"):
        run({"user": "jane"}, found=found)


def test_a_destroy_asks_nothing_of_gitlab_and_a_membership_of_an_earlier_life_is_no_obstacle() -> None:
    [member] = run({"user": "jane"}).of_type(":ProjectMembership")
    assert "server-droplet" in member.request.deletedWith
    assert list(member.request.hooks.before_create) == ["delivery-hello-members-jane-before-create"]
    assert member.request.deleteBeforeReplace


def test_a_user_with_two_entries_is_refused_by_name() -> None:
    members = [{"user": "jane"}, {"user": "Jane", "access": "owner"}]
    config = as_config({**REQUIRED, "runners": [RUNNER], "projects": [{"path": "hello", "members": members}]})
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", config, [], {"DIGITALOCEAN_TOKEN": "x"})
    assert caught.value.errors == [
        "projects[0].members: has jane more than once; a user has one access only. Keep one of them"
    ]


def test_the_lines_of_the_recipe_are_valid_settings() -> None:
    page = (ROOT / "docs/recipes/sign-in.md").read_text()
    [block] = re.findall(r"```yaml\n(projects:.*?)```", page, re.DOTALL)
    settings = Settings.model_validate({**REQUIRED, **yaml.safe_load(block)})
    assert [(one.user, one.access) for one in settings.projects[0].members] == [
        ("jane", "developer"),
        ("john", "maintainer"),
    ]
