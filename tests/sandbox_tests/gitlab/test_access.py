"""Variables, deploy tokens, project tokens, job tokens and members of the GitLab stand-in: who may do what."""

from __future__ import annotations

import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gitlab
import httpx
import jwt
import pytest
from gitlab.exceptions import GitlabAuthenticationError, GitlabCreateError, GitlabGetError, GitlabUpdateError
from gitlab.v4.objects import Project

from tests.sandbox.gitlab.web.core import db, events, projects, variables
from tests.sandbox.gitlab.web.core.config import Config
from tests.sandbox.gitlab.web.core.db import today
from tests.sandbox.gitlab.web.core.events import Push
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_projects import running_job

SOON = (today() + timedelta(days=30)).isoformat()


def new_project(client: gitlab.Gitlab, **more: object) -> Project:
    return client.projects.create({"name": f"demo-{secrets.token_hex(4)}", "initialize_with_readme": True, **more})


def images(instance: Instance, project: Project, login: str, password: str, actions: str = "pull,push,delete") -> Any:
    """What of the project's images is granted; the status when the login is refused."""
    scope = f"repository:{project.path_with_namespace}/app:{actions}"
    query = {"service": "container_registry", "scope": scope}
    answer = httpx.get(f"{instance.url}/jwt/auth", params=query, auth=(login, password))
    if answer.status_code != 200:
        return answer.status_code
    payload = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return [action for entry in payload["access"] for action in entry["actions"]]


def reads_code(project: Project, login: str, password: str) -> bool:
    url = project.http_url_to_repo.replace("://", f"://{login}:{password}@")
    run = subprocess.run(["git", "ls-remote", url], capture_output=True, check=False, env={"GIT_TERMINAL_PROMPT": "0"})
    return run.returncode == 0


def test_a_variable_is_created_changed_and_removed(project: Project) -> None:
    made = project.variables.create({"key": "NAME", "value": "first-value", "masked": True, "protected": True})
    assert (
        made.attributes.items()
        >= {
            "variable_type": "env_var",
            "key": "NAME",
            "value": "first-value",
            "protected": True,
            "masked": True,
            "hidden": False,
            "raw": False,
            "environment_scope": "*",
            "description": None,
        }.items()
    )
    made.value, made.protected = "second-value", False
    made.save()
    found = project.variables.get("NAME")
    assert (found.value, found.protected, found.masked) == ("second-value", False, True)
    project.variables.delete("NAME")
    with pytest.raises(GitlabGetError, match="404 Variable Not Found"):
        project.variables.get("NAME")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"key": "A-B", "value": "x"}, "can contain only letters, digits and '_'."),
        ({"key": "A", "value": "short", "masked": True}, "is invalid"),
        ({"key": "A", "value": "has a space", "masked": True}, "is invalid"),
        ({"key": "A", "value": "with-a-$dollar", "masked": True}, "is invalid"),
        ({"key": "A", "value": "two-long\nlines-of-it", "masked": True, "raw": True}, "is invalid"),
        ({"key": "A", "value": "x", "variable_type": "other"}, "does not have a valid value"),
        ({"key": "TAKEN", "value": "x"}, r"\(TAKEN\) has already been taken"),
    ],
)
def test_an_invalid_variable_is_refused(project: Project, body: dict[str, object], words: str) -> None:
    project.variables.create({"key": "TAKEN", "value": "x"})
    with pytest.raises(GitlabCreateError, match=words) as refusal:
        project.variables.create(body)
    assert refusal.value.response_code == 400


def test_a_hidden_variable_is_never_shown_again(project: Project) -> None:
    # Where nothing is expanded, any character can be masked.
    project.variables.create({"key": "RAW", "value": "with-a-$dollar", "masked": True, "raw": True})
    with pytest.raises(gitlab.GitlabUpdateError, match="is invalid"):
        project.variables.update("RAW", {"raw": False})
    project.variables.create({"key": "NAME", "value": "hidden-value", "masked_and_hidden": True})
    found = project.variables.get("NAME")
    assert (found.value, found.hidden, found.masked) == (None, True, True)
    with pytest.raises(GitlabUpdateError):
        project.variables.update("NAME", {"masked": False})


def test_jobs_get_variables_of_instance_groups_and_project_but_protected_ones_only_on_protected_refs(
    instance: Instance, client: gitlab.Gitlab
) -> None:
    name = f"group-{secrets.token_hex(4)}"
    group = client.groups.create({"name": name, "path": name})
    project = new_project(client, namespace_id=group.id)
    client.variables.create({"key": "FROM", "value": "instance"})
    group.variables.create({"key": "FROM", "value": "group"})
    project.variables.create({"key": "FROM", "value": "project", "raw": True})
    project.variables.create({"key": "GUARDED", "value": "guarded-value", "protected": True, "masked": True})
    with db.connect(instance.config.database) as connection:
        row = projects.find(connection, str(project.id))
        assert row is not None
        free = variables.for_jobs(connection, instance.config, row, ref_protected=False)
        guarded = variables.for_jobs(connection, instance.config, row, ref_protected=True)
    assert [variable.value for variable in free] == ["instance", "group", "project"]
    assert [variable.raw for variable in free] == [False, False, True]
    assert guarded[-1] == variables.Variable("GUARDED", "guarded-value", masked=True)
    client.variables.delete("FROM")


def test_only_maintainers_see_variables_and_only_administrators_those_of_the_instance(
    instance: Instance, project: Project
) -> None:
    identity, theirs = instance.new_user()
    project.members.create({"user_id": identity, "access_level": 30})
    for ask in (theirs.projects.get(project.id).variables.list, theirs.variables.list):
        with pytest.raises(gitlab.GitlabListError) as refusal:
            ask(get_all=True)
        assert refusal.value.response_code == 403


def test_a_deploy_token_is_shown_once_and_valid_only_for_its_project(
    instance: Instance, client: gitlab.Gitlab, project: Project
) -> None:
    made = project.deploytokens.create({"name": "pull", "scopes": ["read_registry"], "expires_at": SOON})
    assert made.token.startswith("gldt-")
    assert made.username == f"gitlab+deploy-token-{made.id}"
    assert (made.expires_at, made.revoked, made.expired) == (f"{SOON}T00:00:00.000Z", False, False)
    assert not hasattr(project.deploytokens.get(made.id), "token")
    assert images(instance, project, made.username, made.token) == ["pull"]
    assert images(instance, new_project(client), made.username, made.token) == []
    assert images(instance, project, "other", made.token) == 401
    assert reads_code(project, made.username.replace("+", "%2B"), made.token) is False
    answer = httpx.get(f"{instance.url}/api/v4/projects/{project.id}", headers={"private-token": made.token})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("2099-12-31T23:00:00-08:00", "2100-01-01T07:00:00.000Z"),
        ("2100-01-01T00:30:00+14:00", "2099-12-31T10:30:00.000Z"),
        ("2096-02-29T12:00:00Z", "2096-02-29T12:00:00.000Z"),
        ("2096-02-29", "2096-02-29T00:00:00.000Z"),
    ],
)
def test_the_end_of_a_deploy_token_is_kept_in_utc(project: Project, written: str, kept: str) -> None:
    made = project.deploytokens.create({"name": "pull", "scopes": ["read_registry"], "expires_at": written})
    assert made.expires_at == kept


def test_a_deploy_token_is_good_until_the_moment_that_it_ends(instance: Instance, project: Project) -> None:
    made = project.deploytokens.create({"name": "pull", "scopes": ["read_registry"]})
    for seconds, answer in ((60, ["pull"]), (-1, 401)):
        end = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        instance.execute("UPDATE deploy_tokens SET expires_at = ? WHERE id = ?", end, made.id)
        assert images(instance, project, made.username, made.token) == answer


def test_a_revoked_or_expired_deploy_token_opens_nothing(instance: Instance, project: Project) -> None:
    for change in ("revoke", "expire"):
        made = project.deploytokens.create({"name": "pull", "scopes": ["read_registry", "write_registry"]})
        assert images(instance, project, made.username, made.token) == ["pull", "push"]
        if change == "revoke":
            project.deploytokens.delete(made.id)
        else:
            instance.execute("UPDATE deploy_tokens SET expires_at = ? WHERE id = ?", today().isoformat(), made.id)
        assert images(instance, project, made.username, made.token) == 401


def test_a_deploy_token_for_code_does_not_log_in_to_the_registry(instance: Instance, project: Project) -> None:
    made = project.deploytokens.create({"name": "code", "scopes": ["read_repository"], "username": "code"})
    assert images(instance, project, "code", made.token) == 403
    assert reads_code(project, "code", made.token) is True


def test_a_group_deploy_token_is_valid_for_all_projects_inside(instance: Instance, client: gitlab.Gitlab) -> None:
    name = f"group-{secrets.token_hex(4)}"
    group = client.groups.create({"name": name, "path": name})
    inner = client.groups.create({"name": "inner", "path": "inner", "parent_id": group.id})
    made = group.deploytokens.create({"name": "pull", "scopes": ["read_registry"]})
    assert images(instance, new_project(client, namespace_id=inner.id), made.username, made.token) == ["pull"]
    assert images(instance, new_project(client), made.username, made.token) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "x", "scopes": ["api"]}, "scopes does not have a valid value"),
        ({"name": "x", "scopes": []}, "scopes does not have a valid value"),
        ({"name": "x", "scopes": ["read_registry"], "username": "a b"}, "can contain only letters"),
        ({"name": "x", "scopes": ["read_registry"], "expires_at": "soon"}, "expires_at is invalid"),
    ],
)
def test_an_invalid_deploy_token_is_refused(project: Project, body: dict[str, object], words: str) -> None:
    with pytest.raises(GitlabCreateError, match=words) as refusal:
        project.deploytokens.create(body)
    assert refusal.value.response_code == 400


def test_a_project_token_acts_in_its_project_at_its_level_and_nowhere_else(
    instance: Instance, client: gitlab.Gitlab, project: Project
) -> None:
    made = project.access_tokens.create({"name": "robot", "scopes": ["api"], "access_level": 30, "expires_at": SOON})
    assert (made.access_level, made.resource_type, made.resource_id) == (30, "project", project.id)
    robot = instance.client(made.token)
    robot.auth()
    assert robot.user is not None
    assert robot.user.username.startswith(f"project_{project.id}_bot_")
    assert robot.user.bot is True
    assert robot.projects.get(project.id).path == project.path
    with pytest.raises(GitlabGetError):
        robot.projects.get(new_project(client).id)
    with pytest.raises(GitlabCreateError) as refusal:
        robot.projects.get(project.id).variables.create({"key": "A", "value": "b"})
    assert refusal.value.response_code == 403
    assert images(instance, project, "any", made.token) == ["pull", "push", "delete"]
    assert reads_code(project, "any", made.token) is True


def test_a_project_token_is_rotated_and_revoked(instance: Instance, project: Project) -> None:
    made = project.access_tokens.create({"name": "robot", "scopes": ["read_api"], "expires_at": SOON})
    fresh = project.access_tokens.get(made.id).rotate(expires_at=SOON)
    assert fresh["token"] != made.token
    with pytest.raises(GitlabAuthenticationError):
        instance.client(made.token).auth()
    instance.client(fresh["token"]).projects.get(project.id)
    project.access_tokens.delete(fresh["id"])
    with pytest.raises(GitlabAuthenticationError):
        instance.client(fresh["token"]).auth()
    assert [token.id for token in project.access_tokens.list(state="active", get_all=True)] == []
    assert len(project.access_tokens.list(get_all=True)) == 2


def test_nobody_creates_a_project_token_with_more_access_than_their_own(instance: Instance, project: Project) -> None:
    identity, theirs = instance.new_user()
    project.members.create({"user_id": identity, "access_level": 40})
    with pytest.raises(GitlabCreateError, match="can't be greater") as refusal:
        theirs.projects.get(project.id).access_tokens.create({"name": "x", "scopes": ["api"], "access_level": 50})
    assert refusal.value.response_code == 400


def test_a_job_pushes_images_of_its_own_project_and_reads_its_code(
    instance: Instance, client: gitlab.Gitlab, project: Project
) -> None:
    token = running_job(instance, project)
    assert images(instance, project, "gitlab-ci-token", token) == ["pull", "push", "delete"]
    assert images(instance, project, "root", token) == 401
    assert reads_code(project, "gitlab-ci-token", token) is True
    other = new_project(client)
    assert images(instance, other, "gitlab-ci-token", token) == []
    assert reads_code(other, "gitlab-ci-token", token) is False
    open_one = new_project(client, visibility="public")
    assert images(instance, open_one, "gitlab-ci-token", token) == ["pull"]
    assert reads_code(open_one, "gitlab-ci-token", token) is True


def test_a_job_can_do_no_more_than_the_user_it_runs_for(instance: Instance, project: Project) -> None:
    identity, _ = instance.new_user()
    project.members.create({"user_id": identity, "access_level": 20})
    assert images(instance, project, "gitlab-ci-token", running_job(instance, project, identity)) == ["pull"]


def test_the_token_of_a_finished_job_opens_nothing(instance: Instance, project: Project) -> None:
    token = running_job(instance, project)
    instance.execute("UPDATE ci_jobs SET status = 'success' WHERE project_id = ?", project.id)
    assert images(instance, project, "gitlab-ci-token", token) == 401
    assert reads_code(project, "gitlab-ci-token", token) is False


def test_a_job_pushes_code_only_if_its_project_allows_it(instance: Instance, project: Project, tmp_path: Path) -> None:
    token = running_job(instance, project)
    url = project.http_url_to_repo.replace("://", f"://gitlab-ci-token:{token}@")
    subprocess.run(["git", "clone", "-q", url, tmp_path / "here"], check=True)

    def push() -> subprocess.CompletedProcess[str]:
        command = ["git", "push", "-q", "origin", "HEAD:made-by-job"]
        return subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True, check=False)

    assert "You are not allowed to upload code." in push().stderr
    project.ci_push_repository_for_job_token_allowed = True
    project.save()
    seen: list[Push] = []

    def note(_: db.Connection, __: Config, made: Push) -> None:
        seen.append(made)

    events.on_push(note)
    assert push().returncode == 0
    events.forget(note)
    assert project.branches.get("made-by-job").name == "made-by-job"
    assert [one.by_job for one in seen] == [True], "a job starts no pipeline by pushing"
    assert project.pipelines.list(get_all=True, ref="made-by-job") == []


def test_a_job_token_does_not_open_the_api(instance: Instance, project: Project) -> None:
    token = running_job(instance, project)
    for headers in ({"job-token": token}, {"private-token": token}):
        assert httpx.get(f"{instance.url}/api/v4/user", headers=headers).status_code == 401


def test_members_are_added_changed_and_removed(instance: Instance, project: Project) -> None:
    identity, theirs = instance.new_user()
    project.members.create({"user_id": identity, "access_level": 30})
    with pytest.raises(GitlabCreateError, match="Member already exists") as refusal:
        project.members.create({"user_id": identity, "access_level": 30})
    assert refusal.value.response_code == 409
    project.members.update(identity, {"access_level": 20})
    assert project.members.get(identity).access_level == 20
    assert {member.id for member in project.members_all.list(get_all=True)} == {1, identity}
    assert theirs.projects.get(project.id).permissions["project_access"] is not None
    project.members.delete(identity)
    with pytest.raises(GitlabGetError):
        theirs.projects.get(project.id)


def test_a_project_cannot_give_a_member_of_its_group_less_than_the_group_does(
    instance: Instance, client: gitlab.Gitlab
) -> None:
    group = client.groups.create({"name": "Team", "path": "team-with-levels"})
    project = client.projects.create({"name": "app", "namespace_id": group.id})
    user, _ = instance.new_user()
    group.members.create({"user_id": user, "access_level": 30})
    words = "should be greater than or equal to Developer inherited membership from group Team"
    with pytest.raises(GitlabCreateError, match=words) as caught:
        project.members.create({"user_id": user, "access_level": 20})
    assert caught.value.response_code == 400
    project.members.create({"user_id": user, "access_level": 40})
    with pytest.raises(GitlabCreateError, match="Member already exists"):
        project.members.create({"user_id": user, "access_level": 40})
    group.delete()


def test_secrets_are_not_stored_in_plain_text(instance: Instance, project: Project) -> None:
    project.variables.create({"key": "NAME", "value": "plain-sight-7781"})
    made = project.deploytokens.create({"name": "gitlab-deploy-token", "scopes": ["read_registry"]})
    kept = b"".join(path.read_bytes() for path in instance.directory.glob("gitlab.sqlite3*"))
    assert project.path.encode() in kept
    assert b"plain-sight-7781" not in kept
    assert made.token.encode() not in kept


def test_a_job_lists_the_images_of_its_own_project(instance: Instance, client: gitlab.Gitlab, project: Project) -> None:
    token = running_job(instance, project)
    assert images(instance, project, "gitlab-ci-token", token, "push") == ["push"]

    def ask(of: Project) -> httpx.Response:
        url = f"{instance.url}/api/v4/projects/{of.id}/registry/repositories"
        return httpx.get(url, headers={"job-token": token})

    assert [found["name"] for found in ask(project).json()] == ["app"]
    assert ask(new_project(client)).status_code == 404
    instance.execute("UPDATE ci_jobs SET status = 'failed' WHERE project_id = ?", project.id)
    assert ask(project).status_code == 401
