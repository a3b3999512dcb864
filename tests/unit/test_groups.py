"""Groups: what the program declares, what it refuses, and what may leave the stack."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pulumi import RunError

from components.gitlab_leftovers import GitLabApi, NotFoundError
from components.settings import Settings, SettingsError, load
from tests.unit.engine import REQUIRED, ROOT, RecordingEngine, as_config, run_program

RUNNER = {"name": "docker-builder"}
TEAM: dict[str, Any] = {"path": "team"}
APPS: dict[str, Any] = {"path": "Team/apps"}
IN_APPS: dict[str, Any] = {"path": "hello", "group": "team/Apps"}
JANE = {"id": 12, "username": "jane"}
DEPLOYED: dict[str, Any] = {
    "gitlab_version": "19.3.0-ce.0",
    "region": "nyc3",
    "domain": "example.test",
    "has_domain": True,
    "has_bucket": False,
    "spaces_region": "nyc3",
    "kept": False,
    "projects": {"hello": "42"},
    "groups": {"hello": "team/apps"},
    "group_ids": {"team": "7", "team/apps": "8"},
}


def run(*groups: dict[str, Any], projects: tuple[dict[str, Any], ...] = (), **more: Any) -> RecordingEngine:
    engine = RecordingEngine(answers={"getUsers": {"users": [JANE]}})
    runners = [RUNNER] if projects else []
    return run_program(engine=engine, groups=list(groups), projects=list(projects), runners=runners, **more)


def after(*groups: dict[str, Any], deployed: dict[str, Any] = DEPLOYED, **more: Any) -> RecordingEngine:
    """Run the program after an update that exported `deployed`."""
    return run(*groups, previous_outputs={"deployed": deployed}, **more)


def errors(groups: list[dict[str, Any]], projects: list[dict[str, Any]]) -> list[str]:
    """The errors in a stack file with these groups and projects."""
    given = {"runners": [RUNNER] if projects else [], "groups": groups, "projects": projects}
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", as_config({**REQUIRED, **given}), [], {"DIGITALOCEAN_TOKEN": "x"})
    return caught.value.errors


def test_groups_are_private_and_in_each_other_in_whatever_order_they_are_written() -> None:
    engine = run(APPS, TEAM)
    shown = ("name", "path", "parentId", "visibilityLevel")
    groups = {one.name: [one.inputs.get(key) for key in shown] for one in engine.of_type(":Group")}
    assert groups["groups-team-group"] == ["team", "team", None, "private"]
    assert groups["groups-team/apps-group"] == ["apps", "apps", 70, "private"]
    assert engine.exports["deployed"]["group_ids"] == {"team": "70", "team/apps": "70"}
    assert [name for name, _ in engine.calls if name.endswith(":getGroups")] == []


def test_a_project_is_created_in_a_group_of_the_stack_and_depends_on_it() -> None:
    engine = run(TEAM, {**APPS, "visibility": "private"}, projects=(IN_APPS,))
    project = engine.named("delivery-hello-project")
    assert project.inputs["namespaceId"] == 70
    assert any(urn.endswith("::groups-team/apps-group") for urn in project.request.dependencies)
    assert [name for name, _ in engine.calls if name.endswith(":getGroups")] == []


def test_a_group_may_be_in_one_that_exists() -> None:
    engine = run({"path": "old/apps"}, existing_groups={"old": 5})
    assert engine.named("groups-old/apps-group").inputs["parentId"] == 5
    with pytest.raises(RunError, match=r"GitLab has no group old; the group apps cannot be created in it\. Add it to"):
        run({"path": "old/apps"})


def test_without_groups_nothing_is_declared_and_the_output_is_what_it_was() -> None:
    engine = run(projects=({"path": "hello"},))
    assert [one for one in engine.registrations if "Group" in one.type] == []
    assert {"group_ids", "imported_groups"}.isdisjoint(engine.exports["deployed"])


def test_a_member_of_a_group_keeps_memberships_inside_when_the_stack_ends_this_one() -> None:
    engine = run({**TEAM, "members": [{"user": "Jane", "access": "owner"}]})
    member = engine.named("groups-team-members-jane")
    assert {key: member.inputs[key] for key in ("groupId", "userId", "accessLevel")} == {
        "groupId": 70,
        "userId": 12,
        "accessLevel": "owner",
    }
    assert member.inputs["skipSubresourcesOnDestroy"] is True
    assert member.request.deleteBeforeReplace
    assert "server-droplet" in member.request.deletedWith
    assert list(member.request.hooks.before_create) == ["groups-team-members-jane-before-create"]


def test_a_member_of_a_group_is_deleted_with_the_group_if_that_is_deleted() -> None:
    engine = run({**TEAM, "members": [{"user": "jane"}]}, removal="everything")
    assert engine.named("groups-team-members-jane").request.deletedWith.endswith("::groups-team-group")


def test_an_unknown_user_is_named_with_the_place() -> None:
    with pytest.raises(RunError, match=r"groups\[team\]\.members\[0\]\.user: GitLab has no user john"):
        run({**TEAM, "members": [{"user": "john"}]})


@pytest.mark.parametrize(("removal", "stays"), [("keep-data", True), ("everything", False)])
def test_a_group_is_kept_with_the_data_and_found_again_by_its_id(removal: str, *, stays: bool) -> None:
    group = run(TEAM, removal=removal).named("groups-team-group").request
    assert (group.retainOnDelete, group.importId) == (stays, "")
    assert "server-droplet" in group.deletedWith
    assert list(group.hooks.before_create) == ["groups-team-group-before-create"]
    again = after(TEAM, deployed={**DEPLOYED, "kept": stays, "projects": {}, "group_ids": {"team": "7"}})
    assert again.named("groups-team-group").request.importId == ("7" if stays else "")


def test_an_imported_group_keeps_what_the_settings_do_not_set_and_stays_in_gitlab() -> None:
    engine = run({**TEAM, "importId": "7", "description": "Ours"}, removal="everything")
    group = engine.named("groups-team-group")
    assert (group.request.importId, group.request.retainOnDelete) == ("7", True)
    assert {"name", "path", "parentId", "visibilityLevel"} <= set(group.request.ignoreChanges)
    assert "description" not in group.request.ignoreChanges
    assert "visibilityLevel" not in group.inputs
    assert engine.exports["deployed"]["imported_groups"] == {"team": "7"}


def test_a_recovered_group_is_imported_unless_the_state_has_it() -> None:
    engine = run(TEAM, recover={"groups": {"Team": "7"}})
    assert engine.named("groups-team-group").request.importId == "7"


@pytest.mark.parametrize(
    ("groups", "projects", "expected"),
    [
        ([TEAM, {"path": "TEAM"}], [], "groups[1].path: TEAM is also the path of groups[0]; one would replace"),
        ([{"path": "Root/apps"}], [], "groups[0].path: root is the administrator; GitLab would refuse"),
        ([{"path": "team_"}], [], "groups[0].path: team_ cannot be part of the names of images; GitLab would"),
        (
            [{**TEAM, "importId": "7"}, {"path": "other", "importId": "7"}],
            [],
            "groups[1].importId: 7 is already imported as groups[0]; both would change",
        ),
        (
            [TEAM, {**APPS, "visibility": "internal"}],
            [],
            "groups[1].visibility: internal is not allowed in team, which is private; GitLab would refuse it. Set it",
        ),
        (
            [{**TEAM, "visibility": "internal"}],
            [{"path": "hello", "group": "Team", "visibility": "public"}],
            "projects[0].visibility: public is not allowed in team, which is internal; GitLab would",
        ),
        (
            [TEAM, APPS],
            [{"path": "apps", "group": "team"}],
            "projects[0].path: team/apps is also a group; GitLab would refuse the second one",
        ),
        (
            [{**TEAM, "members": [{"user": "Jane", "access": "maintainer"}]}, APPS],
            [{**IN_APPS, "members": [{"user": "jane"}]}],
            "projects[0].members[0].access: jane is maintainer of team; GitLab gives nobody less inside of a group",
        ),
        (
            [{**TEAM, "members": [{"user": "jane"}]}, {**APPS, "members": [{"user": "jane", "access": "guest"}]}],
            [],
            "groups[1].members[0].access: jane is developer of team; GitLab gives nobody less inside",
        ),
    ],
)
def test_what_gitlab_would_refuse_about_groups_is_an_error_of_the_stack_file(
    groups: list[dict[str, Any]], projects: list[dict[str, Any]], expected: str
) -> None:
    [error] = errors(groups, projects)
    assert error.startswith(expected)


def test_what_is_not_known_of_an_imported_group_is_not_guessed() -> None:
    groups = [{**TEAM, "importId": "7"}, {**APPS, "visibility": "internal"}, {"path": "_old", "importId": "9"}]
    settings = Settings.model_validate({**REQUIRED, "groups": groups})
    assert settings.groups[2].path == "_old"
    config = as_config({**REQUIRED, "groups": groups})
    assert load("slipway", "test", config, [], {"DIGITALOCEAN_TOKEN": "x"}).groups[1].visibility == "internal"


class Inside:
    """What GitLab says is in the groups, and what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **lists: list[dict[str, Any]] | Exception) -> None:
        self.asked: list[str] = []
        self.lists = lists
        monkeypatch.setattr(GitLabApi, "every", lambda _, path: self.every(path))

    def every(self, path: str) -> list[dict[str, Any]]:
        self.asked.append(path)
        found = self.lists.get("projects" if "/projects" in path else "groups", [])
        if isinstance(found, Exception):
            raise found
        return found


PROJECT = {"id": 42, "path_with_namespace": "team/apps/hello", "marked_for_deletion_on": None}
OTHER = {"id": 43, "path_with_namespace": "team/apps/notes", "marked_for_deletion_on": None}


def test_a_group_leaves_the_stack_with_its_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    marked = {**OTHER, "marked_for_deletion_on": "2026-11-20"}
    gitlab = Inside(monkeypatch, projects=[PROJECT, marked], groups=[{"id": 8, "full_path": "team/apps"}])
    engine = after()
    assert len(gitlab.asked) == 4
    assert all("include_subgroups=true&with_shared=false" in path for path in gitlab.asked if "/projects" in path)
    assert engine.outputs["groups"] == {"groups": [], "removed": ["team", "team/apps"]}
    assert "group_ids" not in engine.exports["deployed"]


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"projects": [PROJECT, OTHER]}, "project team/apps/notes, which the stack does not own"),
        ({"groups": [{"id": 9, "full_path": "team/qa"}]}, "group team/qa, which the stack does not own"),
    ],
)
def test_a_group_with_something_of_somebody_else_in_it_is_not_deleted(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], named: str
) -> None:
    Inside(monkeypatch, **found)
    with pytest.raises(RunError) as caught:
        after()
    assert "groups: team leaves the stack, and GitLab would delete it with everything in it: " in str(caught.value)
    assert named in str(caught.value)
    assert 'with importId: "7"' in str(caught.value)


def test_an_imported_project_that_leaves_stays_and_so_keeps_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    Inside(monkeypatch, projects=[PROJECT])
    with pytest.raises(RunError, match=r"team/apps/hello, which the stack does not own"):
        after(deployed={**DEPLOYED, "adopted": {"hello": "42"}})


def test_a_project_moves_before_its_former_group_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    Inside(monkeypatch, projects=[PROJECT])
    engine = RecordingEngine(answers={"getProject": {"id": "42", "pathWithNamespace": "team/apps/hello"}})
    run_program(
        engine=engine,
        previous_outputs={"deployed": DEPLOYED},
        groups=[TEAM, {"path": "team/web"}],
        projects=[{"path": "hello", "group": "team/web"}],
        runners=[RUNNER],
    )
    assert engine.outputs["groups"]["removed"] == ["team/apps"]
    assert engine.named("delivery-hello-project").inputs["namespaceId"] == 70


def test_a_group_that_gitlab_has_no_more_is_no_obstacle_and_one_that_is_unknown_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Inside(monkeypatch, projects=NotFoundError("404"))
    assert after().outputs["groups"]["removed"] == ["team", "team/apps"]
    Inside(monkeypatch, projects=RuntimeError("GitLab did not respond"))
    with pytest.raises(RunError, match="does not say what is in the group team, which leaves the stack: GitLab did"):
        after()


def test_of_kept_data_nothing_is_deleted_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    gitlab = Inside(monkeypatch, projects=[OTHER])
    engine = after(deployed={**DEPLOYED, "kept": True, "projects": {}})
    assert gitlab.asked == []
    assert engine.of_type(":Groups") == []


def test_what_the_stack_file_still_has_in_a_group_keeps_it_there() -> None:
    with pytest.raises(SettingsError) as caught:
        after({"path": "team/apps"}, projects=(IN_APPS,))
    assert [error.split(":")[0] for error in caught.value.errors] == ["groups[0].path", "projects[0].group"]
    assert "team/apps is in the group team, which leaves the stack; GitLab would delete it" in caught.value.errors[0]


def test_an_imported_group_stays_imported_and_an_own_one_can_be_let_go() -> None:
    imported = {**DEPLOYED, "projects": {}, "group_ids": {"team": "7"}, "imported_groups": {"team": "7"}}
    with pytest.raises(SettingsError, match=r"groups\[0\]\.importId: team was imported as 7; without that ID its"):
        after(TEAM, deployed=imported)
    own = {**DEPLOYED, "projects": {}, "group_ids": {"team": "7"}}
    engine = after({**TEAM, "importId": "7"}, deployed=own)
    assert engine.named("groups-team-group").request.retainOnDelete
    assert after(deployed={**own, "imported_groups": {"team": "7"}}).of_type(":Groups") == []


def test_the_lines_of_the_recipe_are_valid_settings() -> None:
    page = (ROOT / "docs/recipes/sign-in.md").read_text()
    [block] = re.findall(r"```yaml\n(groups:.*?)```", page, re.DOTALL)
    settings = Settings.model_validate({**REQUIRED, **yaml.safe_load(block)})
    assert [(one.path, [member.user for member in one.members]) for one in settings.groups] == [
        ("team", ["jane"]),
        ("team/apps", ["john"]),
    ]
    assert settings.projects[0].group == "team/apps"
