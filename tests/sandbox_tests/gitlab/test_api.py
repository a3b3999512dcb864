"""REST API of the GitLab stand-in, driven by python-gitlab over loopback."""

from __future__ import annotations

from datetime import date, timedelta

import gitlab
import httpx
import pytest
from gitlab.exceptions import (
    GitlabAuthenticationError,
    GitlabCreateError,
    GitlabError,
    GitlabGetError,
)

from tests.sandbox.gitlab.web.core import db, tokens
from tests.sandbox.gitlab.web.core.db import today
from tests.sandbox.gitlab.web.core.errors import ApiError
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance

pytestmark = pytest.mark.new_instance


def get(instance: Instance, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{instance.url}/api/v4/{path}", headers=headers)


def test_a_client_learns_who_it_is_and_which_version_answers(client: gitlab.Gitlab) -> None:
    client.auth()
    assert client.user is not None
    assert client.user.username == "root"
    assert client.user.is_admin
    assert client.version() == ("19.3.0", "standin")
    metadata = client.http_get("/metadata")
    assert isinstance(metadata, dict)
    assert metadata["enterprise"] is False


def test_without_a_valid_token_every_request_is_refused(instance: Instance) -> None:
    for headers in ({}, {"private-token": "glpat-wrong"}, {"authorization": "Bearer glpat-wrong"}):
        answer = get(instance, "user", **headers)
        assert answer.status_code == 401
        assert answer.json() == {"message": "401 Unauthorized"}


def test_a_token_works_in_either_header(instance: Instance) -> None:
    assert get(instance, "user", **{"private-token": instance.token}).status_code == 200
    assert get(instance, "user", authorization=f"Bearer {instance.token}").status_code == 200


def test_expired_and_revoked_tokens_are_refused_with_messages_of_their_own(instance: Instance) -> None:
    expired, revoked = instance.new_token(["api"]), instance.new_token(["api"])
    instance.execute("UPDATE personal_access_tokens SET expires_at = ? WHERE id = 2", today().isoformat())
    instance.execute("UPDATE personal_access_tokens SET revoked = 1 WHERE id = 3")
    for token, words in ((expired, "Token is expired."), (revoked, "Token was revoked.")):
        answer = get(instance, "user", **{"private-token": token})
        assert answer.status_code == 401
        assert answer.json()["error"] == "invalid_token"
        assert answer.json()["error_description"].startswith(words)


def test_a_token_can_do_no_more_than_its_scopes(instance: Instance) -> None:
    reader = instance.new_token(["read_user"])
    assert get(instance, "user", **{"private-token": reader}).status_code == 200
    answer = get(instance, "application/settings", **{"private-token": reader})
    assert answer.status_code == 403
    assert answer.json()["error"] == "insufficient_scope"
    assert answer.json()["scope"] == "api read_api"


def test_read_api_reads_and_does_not_write(instance: Instance) -> None:
    client = instance.client(instance.new_token(["read_api"]))
    assert client.projects.list(get_all=True) == []
    with pytest.raises(GitlabCreateError) as refusal:
        client.projects.create({"name": "demo"})
    assert refusal.value.response_code == 403


def test_an_unknown_route_is_not_found(instance: Instance) -> None:
    answer = get(instance, "no/such/thing", **{"private-token": instance.token})
    assert answer.status_code == 404
    assert answer.json() == {"error": "404 Not Found"}


def test_a_token_is_created_shown_once_rotated_and_revoked(instance: Instance, client: gitlab.Gitlab) -> None:
    root, end = client.users.get(1), (today() + timedelta(days=90)).isoformat()
    made = root.personal_access_tokens.create({"name": "up", "scopes": ["api"], "expires_at": end})
    assert made.token.startswith("glpat-")
    assert len(made.token) == 26
    assert made.expires_at == end
    assert not hasattr(client.personal_access_tokens.get(made.id), "token")

    own = instance.client(made.token)
    assert own.personal_access_tokens.get("self").name == "up"
    token = client.personal_access_tokens.get(made.id)
    token.rotate()
    with pytest.raises(GitlabAuthenticationError):
        own.auth()
    assert len(client.personal_access_tokens.list(state="active", get_all=True)) == 2
    client.personal_access_tokens.delete(token.id)
    assert [found.name for found in client.personal_access_tokens.list(state="active", get_all=True)] == ["first"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "x", "scopes": ["nonsense"]}, "Scopes can only contain available scopes"),
        (
            {"name": "x", "scopes": ["api"], "expires_at": (today() + timedelta(days=368)).isoformat()},
            "Expiration date",
        ),
    ],
)
def test_an_invalid_token_is_refused(client: gitlab.Gitlab, body: dict[str, object], words: str) -> None:
    with pytest.raises(GitlabCreateError, match=words) as refusal:
        client.users.get(1).personal_access_tokens.create(body)
    assert refusal.value.response_code == 400


@pytest.mark.parametrize("day", ["2026-11-26", "2027-02-28", "2027-12-31", "2028-02-28", "2028-02-29", "2028-03-01"])
def test_a_token_lasts_365_days_at_most_from_any_day(monkeypatch: pytest.MonkeyPatch, day: str) -> None:
    today = date.fromisoformat(day)
    monkeypatch.setattr(db, "today", lambda: today)
    tokens.check_expiry(today + timedelta(days=365))
    with pytest.raises(ApiError, match="Expiration date must be before"):
        tokens.check_expiry(today + timedelta(days=366))


def test_sign_up_can_be_disabled_and_unknown_settings_are_ignored(client: gitlab.Gitlab) -> None:
    settings = client.settings.get()
    assert settings.signup_enabled is True
    client.settings.update(new_data={"signup_enabled": False, "no_such_setting": 1})
    assert client.settings.get().signup_enabled is False
    assert "no_such_setting" not in client.settings.get().attributes


def test_only_administrators_see_and_change_settings(instance: Instance) -> None:
    _, somebody = instance.new_user("somebody")
    with pytest.raises(GitlabGetError) as refusal:
        somebody.settings.get()
    assert refusal.value.response_code == 403


@pytest.mark.parametrize(
    ("password", "words"),
    [("short", "is too short"), ("mygitlab-77x", "commonly used"), ("ann-ann-Annika", "commonly")],
)
def test_a_weak_password_is_refused(client: gitlab.Gitlab, password: str, words: str) -> None:
    with pytest.raises(GitlabCreateError, match=words) as refusal:
        client.users.create({"username": "annika", "name": "Ann", "email": "a@example.com", "password": password})
    assert refusal.value.response_code == 400
    assert client.users.list(username="annika", get_all=True) == []


def test_a_project_lives_in_a_namespace_and_is_found_by_its_path(client: gitlab.Gitlab) -> None:
    project = client.projects.create({"name": "Demo App", "container_registry_access_level": "private"})
    assert project.path_with_namespace == "root/demo-app"
    assert project.visibility == "private"
    assert project.container_registry_image_prefix == "gitlab.example.com:5555/root/demo-app"
    assert client.projects.get("root/demo-app").id == project.id
    project.description = "changed"
    project.save()
    assert client.projects.get(project.id).description == "changed"
    assert client.projects.get(project.id).container_registry_access_level == "private"


def test_a_name_that_is_taken_is_refused(client: gitlab.Gitlab) -> None:
    client.projects.create({"name": "demo"})
    with pytest.raises(GitlabCreateError, match="has already been taken") as refusal:
        client.projects.create({"name": "demo"})
    assert refusal.value.response_code == 400


@pytest.mark.parametrize("path", ["demo-", "_demo", "a..b", "a__b", "demo.git", "demo.atom", "gr\u00fcn"])
def test_a_path_that_could_not_be_part_of_an_image_is_refused(client: gitlab.Gitlab, path: str) -> None:
    with pytest.raises(GitlabCreateError, match=r"It must not start with '-', '_', or '.', nor end with") as refusal:
        client.projects.create({"name": "demo", "path": path})
    assert refusal.value.response_code == 400


@pytest.mark.parametrize(("kind", "path"), [("projects", "Blob"), ("projects", "find_file"), ("groups", "api")])
def test_a_path_that_gitlab_uses_itself_is_refused(client: gitlab.Gitlab, kind: str, path: str) -> None:
    with pytest.raises(GitlabCreateError, match=f"{path} is a reserved name"):
        getattr(client, kind).create({"name": "demo", "path": path})


def test_paths_may_have_capitals_and_are_compared_without(client: gitlab.Gitlab) -> None:
    assert client.projects.create({"name": "My App", "path": "My_App.v2"}).path_with_namespace == "root/My_App.v2"
    with pytest.raises(GitlabCreateError, match="has already been taken"):
        client.projects.create({"name": "Other", "path": "my_app.V2"})
    group = client.groups.create({"name": "demo", "path": "outer"})
    assert client.groups.create({"name": "demo", "path": "api", "parent_id": group.id}).full_path == "outer/api"


def test_a_name_of_a_project_has_letters_dashes_spaces_and_emoji(client: gitlab.Gitlab) -> None:
    assert client.projects.create({"name": "Büro + Lab 🚀", "path": "lab"}).name == "Büro + Lab 🚀"
    with pytest.raises(GitlabCreateError, match="can contain only letters, digits, emoji"):
        client.projects.create({"name": "a/b", "path": "other"})


@pytest.mark.parametrize("branch", ["a" * 40, "HEAD", "refs/heads/x", "-x", "a..b", "x.lock"])
def test_a_branch_that_git_or_gitlab_refuses_cannot_be_committed_to(client: gitlab.Gitlab, branch: str) -> None:
    project = client.projects.create({"name": "demo"})
    action = {"action": "create", "file_path": "a", "content": "x"}
    with pytest.raises(GitlabCreateError, match=r"hexadecimal branch name|Branch name is invalid") as refusal:
        project.commits.create({"branch": branch, "commit_message": "m", "actions": [action]})
    assert refusal.value.response_code == 400


def test_a_deleted_project_frees_its_path_and_is_removed_for_good_on_request(client: gitlab.Gitlab) -> None:
    project = client.projects.create({"name": "demo"})
    before = today()
    project.delete()
    with pytest.raises(GitlabGetError):
        client.projects.get("root/demo")
    marked = client.projects.get(project.id)
    assert marked.marked_for_deletion_on in (before.isoformat(), today().isoformat())
    with pytest.raises(GitlabError, match="full_path"):
        client.http_delete(f"/projects/{project.id}", query_data={"permanently_remove": True})
    client.http_delete(
        f"/projects/{project.id}", query_data={"permanently_remove": True, "full_path": marked.path_with_namespace}
    )
    with pytest.raises(GitlabGetError):
        client.projects.get(project.id)
    assert client.projects.create({"name": "demo"}).path == "demo"


def test_a_private_project_does_not_exist_for_a_stranger(instance: Instance, client: gitlab.Gitlab) -> None:
    client.projects.create({"name": "demo"})
    _, stranger = instance.new_user("stranger")
    with pytest.raises(GitlabGetError, match="404 Project Not Found") as refusal:
        stranger.projects.get("root/demo")
    assert refusal.value.response_code == 404
    assert stranger.projects.list(get_all=True) == []


def test_groups_hold_projects_and_other_groups(instance: Instance, client: gitlab.Gitlab) -> None:
    outer = client.groups.create({"name": "Outer", "path": "outer"})
    inner = client.groups.create({"name": "Inner", "path": "inner", "parent_id": outer.id})
    project = client.projects.create({"name": "demo", "namespace_id": inner.id})
    assert project.path_with_namespace == "outer/inner/demo"
    assert client.groups.get("outer/inner").id == inner.id
    _, stranger = instance.new_user("stranger")
    with pytest.raises(GitlabCreateError):
        stranger.projects.create({"name": "other", "namespace_id": inner.id})


def test_lists_are_paged(client: gitlab.Gitlab) -> None:
    for number in range(5):
        client.projects.create({"name": f"demo-{number}"})
    page = client.projects.list(per_page=2, iterator=True)
    assert (page.total, page.total_pages, page.per_page) == (5, 3, 2)
    assert len(client.projects.list(per_page=2, get_all=True)) == 5


def test_an_administrator_acts_for_another_with_sudo(instance: Instance) -> None:
    instance.new_user("somebody")
    found = get(instance, "user", **{"private-token": instance.token, "sudo": "somebody"})
    assert found.json()["username"] == "somebody"
    without = instance.new_token(["api"])
    assert get(instance, "user", **{"private-token": without, "sudo": "somebody"}).status_code == 403


def test_form_encoding_is_accepted_like_json(instance: Instance) -> None:
    headers = {"private-token": instance.token}
    for number, body in enumerate(({"data": {"name": "a"}}, {"files": {"name": (None, "b")}}, {"json": {"name": "c"}})):
        answer = httpx.post(f"{instance.url}/api/v4/projects", headers=headers, **body)  # type: ignore[arg-type]
        assert answer.status_code == 201, answer.text
        assert answer.json()["name"] == "abc"[number]


def test_a_missing_parameter_is_named(client: gitlab.Gitlab) -> None:
    with pytest.raises(GitlabError, match="path is missing") as refusal:
        client.http_post("/groups", post_data={"name": "x"})
    assert refusal.value.response_code == 400


def test_health_is_reported_only_to_loopback(instance: Instance) -> None:
    assert httpx.get(f"{instance.url}/-/health").text == "GitLab OK"
    assert httpx.get(f"{instance.url}/-/liveness").json() == {"status": "ok"}
    ready = httpx.get(f"{instance.url}/-/readiness?all=1")
    assert ready.json() == {"status": "ok", "master_check": [{"status": "ok"}], "db_check": [{"status": "ok"}]}
    for path in ("health", "liveness", "readiness"):
        assert httpx.get(f"{instance.url}/-/{path}", headers={"x-real-ip": "192.0.2.10"}).status_code == 404


def test_the_page_says_what_it_is(instance: Instance) -> None:
    answer = httpx.get(instance.url, follow_redirects=True)
    assert answer.url.path == "/users/sign_in"
    assert "This is not GitLab." in answer.text
    assert "docker login gitlab.example.com:5555" in answer.text


def test_no_secret_is_stored_in_plain_text(instance: Instance) -> None:
    assert (instance.config.data / "gitlab.sqlite3").stat().st_size > 0
    kept = b"".join(path.read_bytes() for path in instance.directory.glob("gitlab.sqlite3*"))
    assert b"root" in kept
    assert instance.token.encode() not in kept
    assert PASSWORD.encode() not in kept
    assert instance.config.db_key_base not in repr(instance.config)
