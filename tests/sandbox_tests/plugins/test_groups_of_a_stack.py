"""Groups of a stack, by the whole program in the real engine: they come, change, move and leave.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gitlab
import pytest

from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.whole_program import World, world

pytestmark = pytest.mark.real_time("versitygw is written in Go: its clock cannot be moved, and it refuses other times")

TEAM: dict[str, Any] = {"path": "team", "visibility": "internal"}
APPS: dict[str, Any] = {"path": "team/apps"}
HELLO: dict[str, Any] = {"path": "hello", "sample": False, "pipeline": False, "runners": []}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def stack(services: World) -> Engine:
    """A stack with two groups, one in the other, and a project in that one."""
    made = services.stack(groups=[APPS, TEAM], projects=[{**HELLO, "group": "Team/apps"}], runners=[])
    made.run("config", "rm", "--path", "small:projects[0].variables")
    made.up()
    return made


@pytest.fixture(scope="module")
def client(services: World) -> gitlab.Gitlab:
    return services.instance.client()


def test_one_update_creates_groups_and_what_is_in_them_and_a_second_one_changes_nothing(
    stack: Engine, client: gitlab.Gitlab
) -> None:
    team, apps = client.groups.get("team"), client.groups.get("team/apps")
    assert (team.name, team.visibility, apps.name, apps.visibility) == ("team", "internal", "apps", "private")
    assert client.projects.get("team/apps/hello").namespace["id"] == apps.id
    assert stack.outputs()["deployed"]["group_ids"] == {"team": str(team.id), "team/apps": str(apps.id)}
    assert stack.changes().keys() == {"same"}


def test_members_come_and_what_people_change_about_a_group_is_put_back(
    stack: Engine, services: World, client: gitlab.Gitlab
) -> None:
    user, theirs = services.instance.new_user("jane")
    project = client.projects.get("team/apps/hello")
    project.members.create({"user_id": user, "access_level": 40})
    # Has been a member before: becomes the stack's, with the access of the settings.
    client.groups.get("team").members.create({"user_id": user, "access_level": 10})
    client.groups.update("team", {"description": "By hand", "visibility": "public"})
    stack.run("refresh", "--yes", "--skip-preview")
    stack.configure({"groups": [{**TEAM, "members": [{"user": "Jane", "access": "reporter"}]}, APPS]})
    stack.up()
    team = client.groups.get("team")
    assert (team.description, team.visibility, team.members.get(user).access_level) == ("", "internal", 20)
    assert theirs.projects.get("team/apps/hello").id == project.id
    assert stack.changes().keys() == {"same"}


def test_projects_move_to_a_group_with_another_path_and_a_former_member_keeps_other_memberships(
    stack: Engine, client: gitlab.Gitlab
) -> None:
    before, project = client.groups.get("team/apps").id, client.projects.get("team/apps/hello").id
    stack.configure({"groups": [TEAM, {"path": "team/web"}], "projects": [{**HELLO, "group": "team/web"}]})
    stack.up()
    assert client.projects.get("team/web/hello").id == project
    assert client.groups.get(before).marked_for_deletion_on
    assert [one.username for one in client.groups.get("team").members.list(get_all=True)] == ["root"]
    assert [one.username for one in client.projects.get(project).members.list(get_all=True)] == ["jane"]


def test_a_group_with_something_of_somebody_else_in_it_stays_until_that_is_gone(
    stack: Engine, client: gitlab.Gitlab
) -> None:
    web = client.groups.get("team/web")
    notes = client.projects.create({"name": "notes", "namespace_id": web.id})
    stack.configure({"groups": [], "projects": []})
    for command in (("preview",), ("up", "--yes", "--skip-preview")):
        output = stack.run(*command, fails=True)
        assert "groups: team leaves the stack, and GitLab would delete it with everything in it: " in output
        assert "project team/web/notes, which the stack does not own" in output
        assert "Traceback" not in output
    assert client.projects.get("team/web/hello").marked_for_deletion_on is None
    assert client.groups.get("team/web").id == web.id
    notes.delete()
    stack.up()
    assert client.groups.get(web.id).marked_for_deletion_on
    assert [one.full_path for one in client.groups.list(get_all=True) if not one.marked_for_deletion_on] == []


def test_a_group_that_was_imported_or_let_go_stays_when_it_leaves(stack: Engine, client: gitlab.Gitlab) -> None:
    crew = client.groups.create({"name": "Made by hand", "path": "crew", "description": "From before"})
    stack.configure({"groups": [{"path": "guild"}, {"path": "crew"}]})
    output = stack.up(fails=True)
    assert f"the group crew (ID {crew.id}) exists in GitLab and is not in this stack's state" in output
    assert "pulumi import " in output
    imported = {"path": "crew", "importId": str(crew.id), "visibility": "internal"}
    stack.configure({"groups": [{"path": "guild"}, imported], "projects": [{**HELLO, "group": "crew"}]})
    stack.up()
    found = client.groups.get(crew.id)
    assert (found.name, found.description, found.visibility) == ("Made by hand", "From before", "internal")
    assert client.projects.get("crew/hello").namespace["id"] == crew.id
    guild = client.groups.get("guild")
    stack.configure({"groups": [{"path": "guild", "importId": str(guild.id)}, imported]})
    stack.up()
    stack.configure({"groups": [], "projects": []})
    stack.up()
    assert [client.groups.get(one.id).marked_for_deletion_on for one in (crew, guild)] == [None, None]
