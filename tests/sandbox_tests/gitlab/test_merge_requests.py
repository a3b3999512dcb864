"""Merge requests on the GitLab stand-in: opened, checked, merged and refused, by python-gitlab and git."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabAuthenticationError, GitlabError, GitlabMRClosedError

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_merge_requests import BOTH, open_merge_request, prepared
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest

pytestmark = pytest.mark.usefixtures("emptied")


def refusal(failing: Any) -> tuple[int, str]:
    with pytest.raises(GitlabError) as refused:
        failing()
    return refused.value.response_code or 0, str(refused.value.error_message)


def test_a_new_merge_request_is_still_being_looked_at(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    commit(project, {"a.txt": "a\n"}, branch="feature")
    wanted = {"source_branch": "feature", "target_branch": "main", "title": "Change", "description": "Why"}
    made = project.mergerequests.create(wanted)
    assert (made.state, made.merge_status, made.detailed_merge_status) == ("opened", "checking", "preparing")
    request = prepared(project, made)
    assert (request.iid, request.merge_status, request.detailed_merge_status) == (1, "can_be_merged", "mergeable")
    assert (request.reference, request.references["full"]) == ("!1", "root/hello!1")
    assert (request.author["username"], request.user["can_merge"], request.description) == ("root", True, "Why")
    assert request.web_url.endswith("/root/hello/-/merge_requests/1")
    [found] = project.mergerequests.list(state="opened", source_branch="feature", get_all=True)
    assert (found.sha, request.changes_count) == (request.sha, "1")
    assert project.mergerequests.list(state="merged", get_all=True) == []


def test_a_draft_is_not_merged_either_while_it_is_being_looked_at(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    request = open_merge_request(project, {"a.txt": "a\n"}, title="Draft: change")
    instance.execute("UPDATE merge_requests SET prepared_at = NULL")
    assert project.mergerequests.get(1).detailed_merge_status == "preparing"
    assert refusal(request.merge) == (405, "405 Method Not Allowed")
    request.title = "Change"
    request.save()
    assert request.merge()["state"] == "merged"


def test_it_shows_its_commits_and_what_changes_in_each_file(client: gitlab.Gitlab, tmp_path: Path) -> None:
    project = make_project(client)
    commit(project, {"old.txt": "one\ntwo\nthree\n", "gone.txt": "x\n"})
    commit(project, {"old.txt": "one\n2\nthree\n", "new.txt": "new\n"}, branch="feature", message="First")
    request = open_merge_request(project, {"old.txt": "one\n2\n3\n"})
    assert [found.title for found in request.commits()] == ["Change", "First"]
    changes = {change["new_path"]: change for change in request.changes()["changes"]}
    assert changes["old.txt"]["diff"] == "@@ -1,3 +1,3 @@\n one\n-two\n-three\n+2\n+3\n"
    assert changes["new.txt"]["new_file"]
    assert set(changes) == {"old.txt", "new.txt"}
    listed = client.http_list(f"{_path(request)}/diffs", get_all=True)
    assert sorted(entry["new_path"] for entry in listed) == ["new.txt", "old.txt"]
    raw = client.http_get(f"{_path(request)}/raw_diffs", raw=True)
    assert not isinstance(raw, dict)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "old.txt").write_text("one\ntwo\nthree\n")
    subprocess.run(["git", "-C", tmp_path, "apply"], input=raw.content, check=True)
    assert (tmp_path / "old.txt").read_text() == "one\n2\n3\n"


def test_its_newest_commit_can_be_fetched_by_its_own_ref(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    request = open_merge_request(project, {"a.txt": "a\n"})
    url = f"{instance.url}/root/hello.git".replace("://", f"://oauth2:{instance.token}@")

    def head() -> str:
        told = subprocess.run(
            ["git", "ls-remote", url, "refs/merge-requests/1/head"], check=True, capture_output=True, text=True
        )
        return told.stdout.split()[0]

    assert head() == request.sha
    pushed = commit(project, {"a.txt": "b\n"}, branch="feature")
    assert head() == pushed.id == project.mergerequests.get(1).sha


def test_merging_makes_a_merge_commit_and_removes_the_branch(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    request = open_merge_request(project, {"a.txt": "a\n"})
    merged = request.merge(should_remove_source_branch=True)
    assert (merged["state"], merged["merge_user"]["username"]) == ("merged", "root")
    head = project.commits.get("main")
    assert head.id == merged["merge_commit_sha"]
    assert head.message.startswith("Merge branch 'feature' into 'main'\n\nChange by feature\n\n")
    assert "See merge request root/hello!1" in head.message
    assert [branch.name for branch in project.branches.list(get_all=True)] == ["main"]
    assert project.files.raw("a.txt", "main") == b"a\n"
    again = project.mergerequests.get(1)
    assert (again.state, again.detailed_merge_status) == ("merged", "not_open")
    path = f"/projects/{project.id}/repository/commits/main/merge_requests"
    assert [found["iid"] for found in client.http_list(path, get_all=True)] == [1]


def test_merging_says_what_is_in_the_way(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    commit(project, {"a.txt": "one\n"})
    request = open_merge_request(project, {"a.txt": "theirs\n"})
    stale = request.sha
    commit(project, {"a.txt": "newer\n"}, branch="feature")
    status, words = refusal(lambda: request.merge(sha=stale))
    assert (status, words.startswith("SHA does not match HEAD of source branch: ")) == (409, True)
    request.title = "Draft: change"
    request.save()
    assert project.mergerequests.get(1).detailed_merge_status == "draft_status"
    assert refusal(request.merge) == (405, "405 Method Not Allowed")
    request.title = "Change"
    request.save()
    commit(project, {"a.txt": "ours\n"})
    known = project.mergerequests.get(1)
    assert (known.has_conflicts, known.merge_status, known.detailed_merge_status) == (
        True,
        "cannot_be_merged",
        "conflict",
    )
    with pytest.raises(GitlabMRClosedError):
        request.merge()
    known.state_event = "close"
    known.save()
    assert refusal(known.merge) == (405, "405 Method Not Allowed")


def test_what_cannot_be_a_merge_request_is_refused_in_gitlabs_words(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    open_merge_request(project, {"a.txt": "a\n"})
    create = project.mergerequests.create

    def wanted(**more: Any) -> dict[str, Any]:
        return {"source_branch": "feature", "target_branch": "main", "title": "Change", **more}

    again = "['Another open merge request already exists for this source branch: !1']"
    assert refusal(lambda: create(wanted())) == (409, again)
    same = '["You can\'t use same project/branch for source and target"]'
    assert refusal(lambda: create(wanted(source_branch="main"))) == (422, same)
    assert refusal(lambda: create(wanted(title=" ", source_branch="x")))[0] == 400
    gone = prepared(project, create(wanted(target_branch="nowhere")))
    assert (gone.diff_refs, gone.has_conflicts) == (None, True)


def test_who_may_not_change_the_target_may_not_merge_into_it(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    number, other = instance.new_user()
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    theirs = other.projects.get(project.id)
    request = open_merge_request(theirs, {"a.txt": "a\n"})
    assert request.user["can_merge"] is False
    with pytest.raises(GitlabAuthenticationError) as refused:
        request.merge()
    assert str(refused.value.error_message) == "401 Unauthorized"
    project.protectedbranches.delete("main")
    project.protectedbranches.create({"name": "main", "push_access_level": 0, "merge_access_level": 30})
    assert theirs.mergerequests.get(1).merge()["state"] == "merged"
    stranger = instance.new_user()[1]
    assert refusal(lambda: stranger.http_get(_path(request))) == (404, "404 Project Not Found")
    reader, guest = instance.new_user()
    project.members.create({"user_id": reader, "access_level": gitlab.const.AccessLevel.GUEST})
    assert refusal(lambda: guest.http_get(_path(request)))[0] == 403


def test_a_pipeline_that_must_succeed_is_waited_for_and_then_merges(client: gitlab.Gitlab) -> None:
    project = make_project(client, only_allow_merge_if_pipeline_succeeds=True)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": BOTH})
    assert runner.drain() == ["build"]
    request = open_merge_request(project, {"a.txt": "a\n"})
    assert request.detailed_merge_status == "ci_still_running"
    assert refusal(request.merge)[0] == 405
    waiting = request.merge(merge_when_pipeline_succeeds=True)
    assert (waiting["state"], waiting["merge_when_pipeline_succeeds"]) == ("opened", True)
    while (job := runner.request()) is not None and project.mergerequests.get(1).state == "opened":
        job.succeed()
    assert project.mergerequests.get(1).state == "merged"
    assert (newest(project).ref, newest(project).source) == ("main", "push")


def test_a_pushed_branch_changes_its_merge_requests_and_a_removed_one_closes_them(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    request = open_merge_request(project, {"a.txt": "a\n"})
    commit(project, {"b.txt": "b\n"}, branch="feature", message="More")
    assert [note.system for note in request.notes.list(get_all=True)] == [True]
    assert request.notes.list(get_all=True)[0].body.startswith("added 1 commit\n\n<ul><li>")
    project.branches.delete("feature")
    assert project.mergerequests.get(1).state == "closed"
    request = open_merge_request(project, {"c.txt": "c\n"}, branch="other")
    actions = [{"action": "create", "file_path": "d.txt", "content": "d"}]
    project.commits.create({"branch": "main", "commit_message": "Beside", "actions": actions})
    assert project.mergerequests.get(request.iid).state == "opened"


def test_squashed_commits_become_one_and_a_linear_history_asks_for_a_rebase(client: gitlab.Gitlab) -> None:
    project = make_project(client, merge_method="ff")
    request = open_merge_request(project, {"a.txt": "a\n"})
    commit(project, {"b.txt": "b\n"}, branch="feature")
    merged = project.mergerequests.get(1).merge(squash=True)
    head = project.commits.get("main")
    assert (head.id, head.title, merged["merge_commit_sha"]) == (merged["squash_commit_sha"], request.title, None)
    late = open_merge_request(project, {"c.txt": "c\n"}, branch="late")
    commit(project, {"d.txt": "d\n"})
    assert project.mergerequests.get(late.iid).detailed_merge_status == "need_rebase"
    assert refusal(late.merge) == (405, "405 Method Not Allowed")


def clone(instance: Instance, folder: Path, token: str, user: str = "oauth2") -> Callable[..., None]:
    """A clone of the project, and git in it."""
    url = f"{instance.url}/root/hello.git".replace("://", f"://{user}:{token}@")
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", "clone", "-q", url, folder], check=True, capture_output=True)

    def git(*words: str) -> None:
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    return git


def test_a_push_can_open_the_merge_request(client: gitlab.Gitlab, instance: Instance, tmp_path: Path) -> None:
    project = make_project(client)
    git = clone(instance, tmp_path / "hello", instance.token)
    git("checkout", "-q", "-b", "feature")
    git("commit", "-q", "--allow-empty", "-m", "Grow the droplet")
    options = ["-o", "merge_request.create", "-o", "merge_request.description=Why", "-o", "merge_request.draft"]
    git("push", "-q", *options, "origin", "feature")
    [request] = project.mergerequests.list(get_all=True)
    assert (request.title, request.description, request.draft) == ("Draft: Grow the droplet", "Why", True)
    git("commit", "-q", "--allow-empty", "-m", "More")
    git("push", "-q", *options, "origin", "feature")
    assert [found.iid for found in project.mergerequests.list(get_all=True)] == [1]
    assert [one.title for one in request.commits()] == ["More", "Grow the droplet"]


def test_what_a_job_pushes_changes_the_merge_request_and_starts_no_pipeline(
    client: gitlab.Gitlab, instance: Instance, tmp_path: Path
) -> None:
    project = make_project(client, ci_push_repository_for_job_token_allowed=True)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": BOTH}, message="Start [skip ci]")
    request = open_merge_request(project, {"a.txt": "a\n"})
    job = runner.take()
    git = clone(instance, tmp_path / "hello", job.token, "gitlab-ci-token")
    git("checkout", "-q", "feature")
    git("commit", "-q", "--allow-empty", "-m", "By a job")
    git("push", "-q", "origin", "feature")
    assert [one.title for one in request.commits()] == ["By a job", "Change"]
    assert len(project.pipelines.list(get_all=True)) == 3


def _path(request: Any) -> str:
    return f"/projects/{request.project_id}/merge_requests/{request.iid}"
