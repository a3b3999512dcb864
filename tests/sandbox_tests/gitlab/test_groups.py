"""Groups: what GitLab refuses about them and their members, and what happens to what is inside."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabError, GitlabGetError

from tests.sandbox_tests.support.gitlab_instance import Instance

pytestmark = pytest.mark.usefixtures("emptied")


def refusal(call: Callable[[], Any]) -> tuple[int, str]:
    """Status and words of the error that a call ends with."""
    with pytest.raises(GitlabError) as caught:
        call()
    return int(caught.value.response_code or 0), str(caught.value.error_message)


def group_of(client: gitlab.Gitlab, path: str, **more: Any) -> Any:
    return client.groups.create({"name": path.capitalize(), "path": path, **more})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"path": "Team"}, ':path=>["has already been taken"]'),
        ({"path": "root"}, ':path=>["has already been taken"]'),
        ({"path": "api"}, ':path=>["api is a reserved name"]'),
        ({"path": "-team"}, "It must not start with '-', '_', or '.'"),
        ({"path": "other", "name": "a/b"}, ':name=>["can contain only letters, digits, emoji'),
        ({"path": "other", "description": "x" * 501}, ':description=>["is too long (maximum is 500 characters)"]'),
    ],
)
def test_a_group_that_could_not_be_is_refused_in_the_words_of_a_new_one(
    client: gitlab.Gitlab, values: dict[str, str], words: str
) -> None:
    group_of(client, "team")
    status, message = refusal(lambda: client.groups.create({"name": "Other", **values}))
    assert status == 400
    assert message.startswith("Failed to save group {:")
    assert words in message


def test_nothing_in_a_group_is_seen_by_more_people_than_the_group(client: gitlab.Gitlab) -> None:
    outer = group_of(client, "outer", visibility="internal")
    wanted = {"name": "Inner", "path": "inner", "parent_id": outer.id, "visibility": "public"}
    words = "public is not allowed since the parent group has a internal visibility."
    assert refusal(lambda: client.groups.create(wanted)) == (
        400,
        f'Failed to save group {{:visibility_level=>["{words}"]}}',
    )
    inner = client.groups.create({**wanted, "visibility": "internal"})
    status, message = refusal(lambda: client.groups.update(inner.id, {"visibility": "public"}))
    assert (status, words in message) == (400, True)
    status, message = refusal(lambda: client.groups.update(outer.id, {"visibility": "private"}))
    assert (status, "since there are sub-groups with higher visibility." in message) == (400, True)


def test_a_project_silently_gets_the_visibility_of_its_group_and_cannot_be_given_more(client: gitlab.Gitlab) -> None:
    group = group_of(client, "team", visibility="internal")
    project = client.projects.create({"name": "app", "namespace_id": group.id, "visibility": "public"})
    assert project.visibility == "internal"
    status, message = refusal(lambda: client.projects.update(project.id, {"visibility": "public"}))
    assert (status, "public is not allowed in a internal group." in message) == (400, True)
    status, message = refusal(lambda: client.groups.update(group.id, {"visibility": "private"}))
    assert (status, "since this group contains projects with higher visibility" in message) == (400, True)
    elsewhere = client.projects.create({"name": "other", "visibility": "public"})
    elsewhere.transfer(group.id)
    assert client.projects.get(elsewhere.id).visibility == "internal"


def test_a_deleted_group_is_marked_and_frees_its_path_until_it_is_restored(client: gitlab.Gitlab) -> None:
    group = group_of(client, "team")
    project = client.projects.create({"name": "app", "namespace_id": group.id})
    group.delete()
    marked = client.groups.get(group.id)
    suffix = f"-deletion_scheduled-{group.id}"
    assert (marked.path, marked.name) == (f"team{suffix}", f"Team{suffix}")
    assert marked.marked_for_deletion_on
    assert client.projects.get(project.id).path_with_namespace == f"team{suffix}/app"
    assert refusal(group.delete) == (400, "Group has been already marked for deletion")
    client.http_post(f"/groups/{group.id}/restore")
    restored = client.groups.get(group.id)
    assert (restored.full_path, restored.name, restored.marked_for_deletion_on) == ("team", "Team", None)
    assert refusal(lambda: client.http_post(f"/groups/{group.id}/restore"))[0] == 400


def test_a_deleted_group_with_images_keeps_its_path(instance: Instance, client: gitlab.Gitlab) -> None:
    group = group_of(client, "team")
    inner = group_of(client, "apps", parent_id=group.id)
    project = client.projects.create({"name": "app", "namespace_id": inner.id})
    query = "INSERT INTO container_repositories (project_id, path, created_at) VALUES (?, ?, '2026-01-01')"
    instance.execute(query, project.id, project.path_with_namespace)
    group.delete()
    assert client.groups.get(group.id).full_path == "team"
    assert "has already been taken" in refusal(lambda: group_of(client, "team"))[1]


def test_the_last_owner_of_a_group_stays_its_owner(instance: Instance, client: gitlab.Gitlab) -> None:
    group = group_of(client, "team")
    root = client.users.list(username="root", get_all=True)[0].id
    assert refusal(lambda: group.members.delete(root)) == (403, "403 Forbidden")
    assert refusal(lambda: group.members.update(root, {"access_level": 30})) == (403, "403 Forbidden")
    # Those of the groups around own it, too.
    inner = group_of(client, "apps", parent_id=group.id)
    inner.members.delete(root)
    user, _ = instance.new_user()
    group.members.create({"user_id": user, "access_level": 50})
    group.members.delete(root)
    assert [one.id for one in group.members.list(get_all=True)] == [user]


@pytest.mark.parametrize("skipped", [True, False])
def test_who_leaves_a_group_leaves_what_is_inside_unless_that_is_skipped(
    instance: Instance, client: gitlab.Gitlab, *, skipped: bool
) -> None:
    group = group_of(client, "team")
    inner = group_of(client, "apps", parent_id=group.id)
    other = client.projects.create({"name": "other"})
    project = client.projects.create({"name": "app", "namespace_id": inner.id})
    user, _ = instance.new_user()
    for place in (group, inner, project, other):
        place.members.create({"user_id": user, "access_level": 30})
    client.http_delete(f"/groups/{group.id}/members/{user}", query_data={"skip_subresources": skipped})
    for place in (inner, project):
        assert (user in [one.id for one in place.members.list(get_all=True)]) is skipped
    assert user in [one.id for one in other.members.list(get_all=True)]
    with pytest.raises(GitlabGetError, match="404"):
        group.members.get(user)


def test_an_unknown_user_and_an_unknown_level_are_refused(instance: Instance, client: gitlab.Gitlab) -> None:
    group = group_of(client, "team")
    user, _ = instance.new_user()
    assert refusal(lambda: group.members.create({"user_id": 4711, "access_level": 30})) == (404, "404 User Not Found")
    status, message = refusal(lambda: group.members.create({"user_id": user, "access_level": 35}))
    assert (status, bool(re.search("access_level does not have a valid value", message))) == (400, True)
