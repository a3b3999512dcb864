"""Projects with their repositories in the API of the GitLab stand-in, driven by python-gitlab over loopback."""

from __future__ import annotations

import base64
import secrets

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabDeleteError, GitlabError, GitlabGetError, GitlabUpdateError
from gitlab.v4.objects import Project

from tests.sandbox.gitlab.web.core.events import NO_COMMIT, Push
from tests.sandbox_tests.support.gitlab_instance import Instance


def member(instance: Instance, project: Project, level: int) -> Project:
    """The project, as a new user with this access sees it."""
    user_id, client = instance.new_user()
    project.members.create({"user_id": user_id, "access_level": level})
    return client.projects.get(project.id)


def write(project: Project, path: str, content: str, branch: str = "main", **more: object) -> None:
    project.files.create(
        {"file_path": path, "branch": branch, "content": content, "commit_message": f"add {path}", **more}
    )


def test_a_project_created_with_a_readme_has_one_commit_and_a_protected_branch(project: Project) -> None:
    assert (project.empty_repo, project.default_branch) == (False, "main")
    assert project.readme_url == f"{project.web_url}/-/blob/main/README.md"
    assert [commit.title for commit in project.commits.list(get_all=True)] == ["Initial commit"]
    rule = project.protectedbranches.get("main")
    assert rule.push_access_levels[0]["access_level"] == 40
    assert rule.merge_access_levels[0]["access_level_description"] == "Maintainers"
    assert rule.allow_force_push is False


def test_the_attributes_of_a_project_are_returned_as_given(client: gitlab.Gitlab) -> None:
    told = {
        "shared_runners_enabled": False,
        "group_runners_enabled": False,
        "container_registry_access_level": "private",
        "builds_access_level": "private",
        "ci_config_path": "ci/main.yml",
        "build_timeout": 1800,
        "ci_default_git_depth": 1,
        "auto_devops_enabled": False,
        "merge_method": "ff",
        "squash_option": "always",
        "public_jobs": False,
        "topics": ["a", "b"],
    }
    project = client.projects.create({"name": f"told-{secrets.token_hex(4)}", **told})
    assert {name: value for name, value in client.projects.get(project.id).attributes.items() if name in told} == told
    assert project.shared_runners_enabled is False
    fresh = client.projects.create({"name": f"fresh-{secrets.token_hex(4)}"})
    assert fresh.shared_runners_enabled is True


def test_a_cleanup_policy_is_returned_as_given(client: gitlab.Gitlab, project: Project) -> None:
    policy = {"enabled": True, "cadence": "7d", "keep_n": 5, "older_than": "14d", "name_regex_delete": ".*"}
    project.container_expiration_policy_attributes = policy
    project.save()
    found = client.projects.get(project.id).container_expiration_policy
    assert found.items() >= policy.items()
    assert found["name_regex"] == ".*"
    assert found["name_regex_keep"] is None
    client.projects.update(project.id, {"container_expiration_policy_attributes": {"enabled": False}})
    assert client.projects.get(project.id).container_expiration_policy.items() >= (policy | {"enabled": False}).items()


@pytest.mark.parametrize(("name", "value"), [("cadence", "2d"), ("keep_n", 7), ("older_than", "1y")])
def test_an_invalid_cleanup_policy_is_refused(project: Project, name: str, value: object) -> None:
    project.container_expiration_policy_attributes = {name: value}
    with pytest.raises(GitlabUpdateError, match="is not included in the list") as refusal:
        project.save()
    assert refusal.value.response_code == 400


def test_an_invalid_value_of_an_option_is_refused(client: gitlab.Gitlab) -> None:
    with pytest.raises(GitlabCreateError, match="container_registry_access_level does not have a valid value"):
        client.projects.create({"name": "x", "container_registry_access_level": "public"})


def test_the_default_branch_must_exist(project: Project) -> None:
    project.default_branch = "none"
    with pytest.raises(GitlabUpdateError, match="Could not set the default branch"):
        project.save()
    project.branches.create({"branch": "trunk", "ref": "main"})
    project.default_branch = "trunk"
    project.save()
    assert project.branches.get("trunk").default is True
    assert project.branches.get("main").default is False


def test_a_file_is_created_read_changed_and_removed_in_one_commit_each(project: Project, pushes: list[Push]) -> None:
    write(project, "src/app.js", "1\n", author_name="Ann", author_email="ann@example.com")
    file = project.files.get("src/app.js", ref="main")
    assert file.decode() == b"1\n"
    assert (file.size, file.encoding, file.ref, file.file_name) == (2, "base64", "main", "app.js")
    assert file.last_commit_id == file.commit_id
    head = project.commits.list(get_all=True)[0]
    assert (head.title, head.author_name, head.committer_name) == ("add src/app.js", "Ann", "Administrator")
    file.content = "2\n"
    file.save(branch="main", commit_message="change")
    assert project.files.raw("src/app.js", ref="main") == b"2\n"
    project.files.delete("src/app.js", "main", "remove")
    with pytest.raises(GitlabGetError, match="404 File Not Found"):
        project.files.get("src/app.js", ref="main")
    assert [push.ref for push in pushes] == ["refs/heads/main"] * 3
    assert [push.before for push in pushes[1:]] == [push.after for push in pushes[:2]]


def test_a_file_can_be_binary_and_executable(project: Project) -> None:
    content = base64.b64encode(b"\x00\xff").decode()
    write(project, ".gitlab-ci.yml", content, encoding="base64", execute_filemode=True)
    file = project.files.get(".gitlab-ci.yml", ref="main")
    assert file.decode() == b"\x00\xff"
    assert file.execute_filemode is True
    assert [entry["mode"] for entry in project.repository_tree() if entry["path"] == ".gitlab-ci.yml"] == ["100755"]


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "README.md", "A file with this name already exists"),
        ("PUT", "none", "A file with this name doesn't exist"),
        ("DELETE", "none", "A file with this name doesn't exist"),
        ("POST", "../x", "Path cannot include directory traversal"),
        ("POST", "README.md/x", "A file with this name already exists"),
    ],
)
def test_a_change_that_does_not_match_the_tree_is_refused(project: Project, method: str, path: str, words: str) -> None:
    manager = project.manager.gitlab
    with pytest.raises(GitlabError, match=words) as refusal:
        manager.http_request(
            method.lower(),
            f"/projects/{project.id}/repository/files/{gitlab.utils.EncodedId(path)}",
            post_data={"branch": "main", "content": "x", "commit_message": "x"},
        )
    assert refusal.value.response_code == 400
    assert len(project.commits.list(get_all=True)) == 1


def test_a_file_changed_by_somebody_else_is_not_overwritten(project: Project) -> None:
    write(project, "a", "1")
    known = project.files.get("a", ref="main").last_commit_id
    project.files.update("a", {"branch": "main", "content": "2", "commit_message": "x", "last_commit_id": known})
    with pytest.raises(GitlabUpdateError, match="has changed since you started editing"):
        project.files.update("a", {"branch": "main", "content": "3", "commit_message": "x", "last_commit_id": known})


def test_a_first_file_creates_the_branch_of_an_empty_project(client: gitlab.Gitlab, pushes: list[Push]) -> None:
    project = client.projects.create({"name": f"empty-{secrets.token_hex(4)}"})
    assert project.branches.list(get_all=True) == []
    write(project, "a", "1")
    assert client.projects.get(project.id).empty_repo is False
    assert [push.before for push in pushes] == [NO_COMMIT]
    assert project.protectedbranches.get("main").name == "main"


def test_a_new_branch_needs_a_start_branch(project: Project) -> None:
    with pytest.raises(GitlabCreateError, match="You can only create or edit files when you are on a branch"):
        write(project, "a", "1", "feature")
    write(project, "a", "1", "feature", start_branch="main")
    assert sorted(branch.name for branch in project.branches.list(get_all=True)) == ["feature", "main"]


def test_one_commit_can_have_several_changes(project: Project, pushes: list[Push]) -> None:
    write(project, "old", "1")
    commit = project.commits.create(
        {
            "branch": "main",
            "commit_message": "all at once\n\nand why",
            "actions": [
                {"action": "create", "file_path": "a/b", "content": "1"},
                {"action": "update", "file_path": "README.md", "content": "2"},
                {"action": "move", "file_path": "new", "previous_path": "old"},
                {"action": "chmod", "file_path": "a/b", "execute_filemode": True},
            ],
        }
    )
    assert (commit.title, commit.message) == ("all at once", "all at once\n\nand why\n")
    tree = project.repository_tree(recursive=True, get_all=True)
    assert [entry["path"] for entry in tree] == ["a", "README.md", "a/b", "new"]
    assert project.files.raw("new", ref="main") == b"1"
    assert [push.after for push in pushes][1:] == [commit.id]


def test_a_developer_cannot_commit_to_a_protected_branch(instance: Instance, project: Project) -> None:
    theirs = member(instance, project, 30)
    with pytest.raises(GitlabCreateError, match="You are not allowed to push into this branch") as refusal:
        write(theirs, "a", "1")
    assert refusal.value.response_code == 400
    with pytest.raises(GitlabCreateError, match="403 Forbidden - You are not allowed to push into this branch"):
        theirs.commits.create(
            {"branch": "main", "commit_message": "x", "actions": [{"action": "delete", "file_path": "README.md"}]}
        )
    write(theirs, "a", "1", "theirs", start_branch="main")
    assert theirs.branches.get("main").can_push is False
    assert theirs.branches.get("theirs").can_push is True
    with pytest.raises(GitlabCreateError) as forbidden:
        theirs.protectedbranches.create({"name": "theirs"})
    assert forbidden.value.response_code == 403


def test_a_reporter_reads_and_a_guest_does_not(instance: Instance, project: Project) -> None:
    reporter, guest = (member(instance, project, level) for level in (20, 10))
    assert reporter.files.raw("README.md", ref="main")
    with pytest.raises(GitlabCreateError) as refusal:
        write(reporter, "a", "1", "x", start_branch="main")
    assert refusal.value.response_code == 403
    with pytest.raises(GitlabGetError) as hidden:
        guest.files.get("README.md", ref="main")
    assert hidden.value.response_code == 403


def test_branches_and_tags_are_created_and_deleted(project: Project, pushes: list[Push]) -> None:
    project.branches.create({"branch": "feature/x", "ref": "main"})
    with pytest.raises(GitlabCreateError, match="Branch already exists"):
        project.branches.create({"branch": "feature/x", "ref": "main"})
    with pytest.raises(GitlabCreateError, match="Invalid reference name: none"):
        project.branches.create({"branch": "y", "ref": "none"})
    project.tags.create({"tag_name": "v1", "ref": "feature/x"})
    assert project.tags.get("v1").target == project.branches.get("feature/x").commit["id"]
    project.branches.delete("feature/x")
    project.tags.delete("v1")
    with pytest.raises(GitlabDeleteError, match="default branch"):
        project.branches.delete("main")
    assert [branch.name for branch in project.branches.list(get_all=True)] == ["main"]
    assert [(push.ref, push.removed) for push in pushes] == [
        ("refs/heads/feature/x", False),
        ("refs/tags/v1", False),
        ("refs/heads/feature/x", True),
        ("refs/tags/v1", True),
    ]


def test_a_branch_is_protected_once_and_with_valid_access_levels(project: Project) -> None:
    with pytest.raises(GitlabCreateError, match="already exists") as refusal:
        project.protectedbranches.create({"name": "main"})
    assert refusal.value.response_code == 409
    with pytest.raises(GitlabCreateError, match="push_access_level does not have a valid value"):
        project.protectedbranches.create({"name": "x", "push_access_level": 20})
    rule = project.protectedbranches.create({"name": "rel/*", "push_access_level": 30, "merge_access_level": 0})
    assert rule.push_access_levels[0]["access_level_description"] == "Developers + Maintainers"
    assert rule.merge_access_levels[0]["access_level_description"] == "No one"
    project.protectedbranches.delete("rel/*")
    with pytest.raises(GitlabGetError):
        project.protectedbranches.get("rel/*")


def test_the_attributes_of_a_file_are_in_headers_too(instance: Instance, project: Project) -> None:
    url = f"{instance.url}/api/v4/projects/{project.id}/repository/files/README%2Emd?ref=main"
    answer = httpx.head(url, headers={"private-token": instance.token})
    assert answer.headers["x-gitlab-file-path"] == "README.md"
    assert len(answer.headers["x-gitlab-content-sha256"]) == 64
    assert answer.headers["x-gitlab-execute-filemode"] == "false"
    assert httpx.get(url).status_code == 404


def test_a_renamed_project_keeps_its_repository(client: gitlab.Gitlab, project: Project) -> None:
    path = f"renamed-{secrets.token_hex(4)}"
    client.projects.update(project.id, {"path": path})
    found = client.projects.get(f"root/{path}")
    assert found.files.raw("README.md", ref="main")
    with pytest.raises(GitlabGetError):
        client.projects.get(project.path_with_namespace)


def test_renaming_a_group_moves_everything_inside(client: gitlab.Gitlab) -> None:
    name = f"group-{secrets.token_hex(4)}"
    outer = client.groups.create({"name": name, "path": name})
    inner = client.groups.create({"name": "inner", "path": "inner", "parent_id": outer.id})
    project = client.projects.create({"name": "demo", "namespace_id": inner.id})
    outer.path = f"{name}-x"
    outer.save()
    assert client.projects.get(f"{name}-x/inner/demo").id == project.id
    assert [group.id for group in outer.subgroups.list(get_all=True)] == [inner.id]
    assert outer.projects.list(get_all=True) == []
    assert [found.id for found in outer.projects.list(include_subgroups=True, get_all=True)] == [project.id]


def test_the_descendants_of_a_group_are_the_groups_at_any_depth_that_one_may_see(
    client: gitlab.Gitlab, instance: Instance
) -> None:
    name = f"group-{secrets.token_hex(4)}"
    outer = client.groups.create({"name": name, "path": name, "visibility": "public"})
    inner = client.groups.create({"name": "Inner", "path": "inner", "parent_id": outer.id, "visibility": "public"})
    deep = client.groups.create({"name": "Deep", "path": "deep", "parent_id": inner.id, "visibility": "private"})
    assert [group.id for group in outer.descendant_groups.list(get_all=True)] == [inner.id, deep.id]
    assert [group.id for group in inner.descendant_groups.list(get_all=True)] == [deep.id]
    assert [group.id for group in outer.descendant_groups.list(search="dee", get_all=True)] == [deep.id]
    groups = f"{instance.url}/api/v4/groups"
    assert [group["id"] for group in httpx.get(f"{groups}/{outer.id}/descendant_groups").json()] == [inner.id]
    assert httpx.get(f"{groups}/{deep.id}/descendant_groups").status_code == 404


def test_a_deleted_group_frees_its_path_and_is_removed_for_good_on_request(client: gitlab.Gitlab) -> None:
    name = f"group-{secrets.token_hex(4)}"
    group = client.groups.create({"name": name, "path": name})
    project = client.projects.create({"name": "demo", "namespace_id": group.id})
    group.delete()
    marked = client.groups.get(group.id)
    assert marked.full_path == f"{name}-deletion_scheduled-{group.id}"
    assert client.groups.create({"name": name, "path": name}).id != group.id
    client.http_delete(f"/groups/{group.id}", query_data={"permanently_remove": True, "full_path": marked.full_path})
    for gone in (lambda: client.groups.get(group.id), lambda: client.projects.get(project.id)):
        with pytest.raises(GitlabGetError):
            gone()


def test_a_project_marked_for_deletion_can_be_restored(client: gitlab.Gitlab, project: Project) -> None:
    path = project.path_with_namespace
    project.delete()
    client.http_post(f"/projects/{project.id}/restore")
    assert client.projects.get(path).marked_for_deletion_on is None
