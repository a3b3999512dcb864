"""Notes of merge requests: by people, by the bot of a project access token, and what a job's own token may."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabError

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_merge_requests import BOTH, open_merge_request
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner

pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture
def project(client: gitlab.Gitlab) -> Any:
    made = make_project(client)
    commit(made, {".gitlab-ci.yml": BOTH}, message="Start [skip ci]")
    return made


def test_a_note_is_written_changed_listed_and_taken_back(project: Any) -> None:
    request = open_merge_request(project, {"a.txt": "a\n"})
    first = request.notes.create({"body": "One\n\n```\n/close in a fence is text\n```"})
    second = request.notes.create({"body": "Two"})
    assert (first.noteable_type, first.noteable_iid, first.system) == ("MergeRequest", 1, False)
    assert [note.id for note in request.notes.list(get_all=True)] == [second.id, first.id]
    assert [note.id for note in request.notes.list(get_all=True, sort="asc", activity_filter="only_comments")] == [
        first.id,
        second.id,
    ]
    first.body = "Three"
    first.save()
    assert request.notes.get(first.id).body == "Three"
    second.delete()
    assert project.mergerequests.get(1).user_notes_count == 1


def test_a_note_has_a_length_and_is_not_blank(project: Any) -> None:
    request = open_merge_request(project, {"a.txt": "a\n"})
    assert len(request.notes.create({"body": "x" * 1_000_000}).body) == 1_000_000
    words = '400 Bad request - Note {:note=>["is too long (maximum is 1000000 characters)"]}'
    for body, expected in (
        ("x" * 1_000_001, words),
        (" ", words.replace("is too long (maximum is 1000000 characters)", "can't be blank")),
    ):
        with pytest.raises(GitlabCreateError) as refused:
            request.notes.create({"body": body})
        assert (refused.value.response_code, refused.value.error_message) == (400, expected)


def test_only_its_author_and_maintainers_change_a_note(client: gitlab.Gitlab, instance: Instance, project: Any) -> None:
    request = open_merge_request(project, {"a.txt": "a\n"})
    number, other = instance.new_user()
    path = f"/projects/{project.id}/merge_requests/1/notes"
    own = request.notes.create({"body": "By root"})

    def status(verb: Any, *arguments: Any, **more: Any) -> int:
        with pytest.raises(GitlabError) as refused:
            verb(*arguments, **more)
        return refused.value.response_code or 0

    assert status(other.http_get, path) == 404
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.REPORTER})
    theirs = other.http_post(path, post_data={"body": "By a reporter"})
    assert isinstance(theirs, dict)
    assert status(other.http_put, f"{path}/{own.id}", post_data={"body": "Mine"}) == 403
    assert status(other.http_delete, f"{path}/{own.id}") == 403
    client.http_put(f"{path}/{theirs['id']}", post_data={"body": "By root after all"})
    other.http_delete(f"{path}/{theirs['id']}")
    assert status(other.http_get, f"{path}/{theirs['id']}") == 404


def test_a_project_access_token_writes_as_its_bot(instance: Instance, project: Any) -> None:
    open_merge_request(project, {"a.txt": "a\n"})
    expires = (date.today() + timedelta(days=9)).isoformat()
    made = project.access_tokens.create({"name": "plans", "scopes": ["api"], "access_level": 20, "expires_at": expires})
    bot = instance.client(made.token)
    request = bot.projects.get(project.id, lazy=True).mergerequests.get(1, lazy=True)
    note = request.notes.create({"body": "The plan"})
    assert (note.author["name"], note.author["id"]) == ("plans", made.user_id)
    note.body = "The newer plan"
    note.save()
    assert [found.body for found in request.notes.list(get_all=True)] == ["The newer plan"]


def test_a_jobs_own_token_reads_merge_requests_and_notes_and_writes_none(client: gitlab.Gitlab, project: Any) -> None:
    request = open_merge_request(project, {"a.txt": "a\n"})
    request.notes.create({"body": "Read me"})
    job = make_runner(client, project).take()
    base, headers = f"{client.url}/api/v4/projects/{project.id}", {"JOB-TOKEN": job.token}

    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, f"{base}{path}", headers=headers, **more)

    assert [found["iid"] for found in ask("GET", "/merge_requests").json()] == [1]
    assert ask("GET", "/merge_requests/1").json()["title"] == "Change by feature"
    [note] = ask("GET", "/merge_requests/1/notes").json()
    assert ask("GET", f"/merge_requests/1/notes/{note['id']}").json()["body"] == "Read me"
    for method, path in (
        ("POST", "/merge_requests/1/notes"),
        ("PUT", f"/merge_requests/1/notes/{note['id']}"),
        ("PUT", "/merge_requests/1/merge"),
        ("PUT", "/merge_requests/1"),
    ):
        refused = ask(method, path, json={"body": "Written by a job", "title": "x"})
        assert (refused.status_code, refused.json()) == (401, {"message": "401 Unauthorized"})
    assert ask("GET", "/merge_requests/1/changes").status_code == 404
    job.succeed()
    assert ask("GET", "/merge_requests/1/notes").status_code == 401
