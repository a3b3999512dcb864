"""Pipelines of merge requests: which there are, what their jobs are told, and what they are not told."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabHttpError

from tests.sandbox.runner.program.payload import Payload
from tests.sandbox.runner.program.sources import get_sources
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_merge_requests import BOTH, open_merge_request, pipelines_of
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses

pytestmark = pytest.mark.usefixtures("emptied")
OF_MERGE_REQUEST = ("merge_request_event", "refs/merge-requests/1/head")


def started(client: gitlab.Gitlab, text: str = BOTH, **more: Any) -> tuple[Any, Any]:
    """A project with a pipeline file that nothing runs yet, and its runner."""
    project = make_project(client, **more)
    commit(project, {".gitlab-ci.yml": text}, message="Start [skip ci]")
    return project, make_runner(client, project)


def test_a_push_gets_a_pipeline_and_the_merge_request_one_of_its_own(client: gitlab.Gitlab) -> None:
    project, _ = started(client)
    request = open_merge_request(project, {"a.txt": "a\n"})
    assert pipelines_of(request) == [OF_MERGE_REQUEST, ("push", "feature")]
    assert list(statuses(newest(project))) == ["check"]
    head = project.mergerequests.get(1).head_pipeline
    assert (head["source"], head["sha"]) == ("merge_request_event", request.sha)
    pushed = commit(project, {"b.txt": "b\n"}, branch="feature")
    assert pipelines_of(request)[:2] == [OF_MERGE_REQUEST, OF_MERGE_REQUEST]
    assert [found.sha for found in request.pipelines.list(get_all=True)].count(pushed.id) == 2


def test_a_workflow_leaves_the_branch_to_its_merge_request(client: gitlab.Gitlab) -> None:
    text = """
workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS
      when: never
    - if: $CI_COMMIT_BRANCH
job: {script: make}
of_requests: {script: make, only: [merge_requests]}
of_rules: {script: make, rules: [{if: $CI_MERGE_REQUEST_IID}]}
"""
    project, _ = started(client, text)
    request = open_merge_request(project, {"a.txt": "a\n"})
    assert list(statuses(newest(project))) == ["of_rules", "of_requests"]
    commit(project, {"b.txt": "b\n"}, branch="feature")
    assert pipelines_of(request) == [OF_MERGE_REQUEST, OF_MERGE_REQUEST, ("push", "feature")]
    assert list(statuses(project.pipelines.get(request.pipelines.list(get_all=True)[2].id))) == ["job"]


def test_a_job_is_told_of_its_merge_request(client: gitlab.Gitlab) -> None:
    project, runner = started(client)
    words: dict[str, Any] = {"title": "Draft: change", "description": "Why", "labels": "infra,ready", "squash": True}
    request = open_merge_request(project, {"a.txt": "a\n"}, **words)
    job = next(job for job in iter(runner.request, None) if job is not None and job.name == "check")
    told, url = job.variables, f"{client.url}/root/hello"
    expected = {
        "CI_PIPELINE_SOURCE": "merge_request_event",
        "CI_MERGE_REQUEST_ID": str(request.id),
        "CI_MERGE_REQUEST_IID": "1",
        "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/1/head",
        "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
        "CI_MERGE_REQUEST_TITLE": "Draft: change",
        "CI_MERGE_REQUEST_DRAFT": "true",
        "CI_MERGE_REQUEST_DESCRIPTION": "Why",
        "CI_MERGE_REQUEST_DESCRIPTION_IS_TRUNCATED": "false",
        "CI_MERGE_REQUEST_LABELS": "infra,ready",
        "CI_MERGE_REQUEST_SQUASH_ON_MERGE": "true",
        "CI_MERGE_REQUEST_PROJECT_ID": str(project.id),
        "CI_MERGE_REQUEST_PROJECT_PATH": "root/hello",
        "CI_MERGE_REQUEST_PROJECT_URL": url,
        "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": str(project.id),
        "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "root/hello",
        "CI_MERGE_REQUEST_SOURCE_PROJECT_URL": url,
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_PROTECTED": "false",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED": "true",
        "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": "",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": request.diff_refs["base_sha"],
        "CI_OPEN_MERGE_REQUESTS": "root/hello!1",
        "CI_COMMIT_SHA": request.sha,
        "CI_COMMIT_REF_NAME": "feature",
        "CI_COMMIT_REF_SLUG": "feature",
        "CI_COMMIT_REF_PROTECTED": "false",
        "CI_COMMIT_BEFORE_SHA": "0" * 40,
    }
    assert {key: told.get(key) for key in expected} == expected
    assert told["CI_MERGE_REQUEST_DIFF_ID"].isdigit()
    assert "CI_COMMIT_BRANCH" not in told
    assert "CI_COMMIT_TAG" not in told
    git = job.payload["git_info"]
    number = told["CI_PIPELINE_ID"]
    assert (git["ref"], git["ref_type"]) == ("refs/merge-requests/1/head", "branch")
    assert git["refspecs"] == [f"+refs/pipelines/{number}:refs/pipelines/{number}"]


@pytest.mark.parametrize("depth", ["1", "0"])
def test_a_runner_checks_out_the_commit_of_the_pipeline_after_the_branch_has_moved_on(
    client: gitlab.Gitlab, tmp_path: Path, depth: str
) -> None:
    project, runner = started(client, f"variables: {{GIT_DEPTH: {depth}}}\n{BOTH}")
    request = open_merge_request(project, {"a.txt": "a\n"})
    job = next(job for job in iter(runner.request, None) if job is not None and job.name == "check")
    commit(project, {"b.txt": "b\n"}, branch="feature")
    payload, folder, said = Payload(job.payload), tmp_path / "hello", list[str]()
    get_sources(payload, payload.variables({"token": runner.token}, 0, "/builds", ""), folder, "", said.append)
    assert sorted(path.name for path in folder.iterdir()) == [".git", ".gitlab-ci.yml", "README.md", "a.txt"]
    assert f"Checking out {request.sha[:8]} as detached HEAD (ref is refs/merge-requests/1/head)..." in said
    known = subprocess.run(["git", "-C", folder, "branch", "-r"], capture_output=True, text=True, check=True)
    assert known.stdout.split() == ([] if depth == "1" else ["origin/feature", "origin/main"])


def test_secrets_of_protected_branches_are_kept_from_a_merge_request_unless_both_of_its_are(
    client: gitlab.Gitlab,
) -> None:
    project, runner = started(client, BOTH.replace("make check", "make check $TOKEN"))
    project.variables.create({"key": "TOKEN", "value": "for-production", "protected": True})
    protecting = make_runner(client, project, access_level="ref_protected", run_untagged=True)

    def check(branch: str) -> Any:
        open_merge_request(project, {f"{branch}.txt": "a\n"}, branch=branch)
        [found] = [job for job in iter(runner.request, None) if job is not None and job.name == "check"]
        return found

    assert "TOKEN" not in check("feature").variables
    assert protecting.request() is None
    project.protectedbranches.create({"name": "release"})
    job = check("release")
    assert (job.variables["TOKEN"], job.variables["CI_COMMIT_REF_PROTECTED"]) == ("for-production", "true")
    project.protect_merge_request_pipelines = False
    project.save()
    project.protectedbranches.create({"name": "stable"})
    assert "TOKEN" not in check("stable").variables


def test_changes_of_a_merge_request_are_those_since_it_left_its_target(client: gitlab.Gitlab) -> None:
    text = """
docs:
  script: make docs
  rules: [{if: $CI_PIPELINE_SOURCE == "merge_request_event", changes: [docs/**/*]}]
code:
  script: make
  rules: [{if: $CI_PIPELINE_SOURCE == "merge_request_event", changes: [src/**/*]}]
"""
    project, _ = started(client, text)
    request = open_merge_request(project, {"docs/a.md": "a\n"})
    assert list(statuses(newest(project))) == ["docs"]
    commit(project, {"src/a.py": "a\n"}, branch="main", message="Beside [skip ci]")
    commit(project, {"README.md": "words\n"}, branch="feature")
    assert list(statuses(newest(project))) == ["docs"]
    assert len(request.pipelines.list(get_all=True)) == 2


def test_a_pipeline_can_be_asked_for_and_says_why_there_is_none(client: gitlab.Gitlab, instance: Instance) -> None:
    project, _ = started(client)
    request = open_merge_request(project, {"a.txt": "a\n"})
    made = request.pipelines.create({})
    assert (made.source, made.sha) == ("merge_request_event", request.sha)
    commit(project, {".gitlab-ci.yml": "build: {script: make, only: [branches]}"}, branch="feature")
    with pytest.raises(GitlabCreateError) as refused:
        request.pipelines.create({})
    assert refused.value.response_code == 400
    assert "prevented any jobs from being added" in str(refused.value.error_message)
    project.branches.create({"branch": "same", "ref": "main"})
    empty = project.mergerequests.create({"source_branch": "same", "target_branch": "main", "title": "Nothing"})
    with pytest.raises(GitlabCreateError) as without:
        empty.pipelines.create({})
    assert without.value.response_code == 405
    _, stranger = instance.new_user()
    with pytest.raises(GitlabHttpError) as hidden:
        stranger.http_get(f"/projects/{project.id}/merge_requests/1/pipelines")
    assert hidden.value.response_code == 404


def test_a_newer_commit_makes_what_was_under_way_redundant(client: gitlab.Gitlab) -> None:
    text = """
workflow: {auto_cancel: {on_new_commit: interruptible}}
free: {script: make, interruptible: true, rules: [{if: $CI_MERGE_REQUEST_IID}]}
bound: {script: make, rules: [{if: $CI_MERGE_REQUEST_IID}]}
"""
    project, runner = started(client, text)
    open_merge_request(project, {"a.txt": "a\n"})
    first = newest(project)
    assert {runner.take().name, runner.take().name} == {"free", "bound"}
    commit(project, {"b.txt": "b\n"}, branch="feature")
    assert statuses(first) == {"free": "canceling", "bound": "running"}
    commit(project, {".gitlab-ci.yml": text.replace("interruptible}", "none}")}, branch="feature")
    third = newest(project)
    commit(project, {"c.txt": "c\n"}, branch="feature")
    assert statuses(third) == {"free": "pending", "bound": "pending"}


def test_one_failure_can_end_the_whole_pipeline(client: gitlab.Gitlab) -> None:
    text = """
workflow: {auto_cancel: {on_job_failure: all}}
one: {script: make}
two: {script: make}
three: {script: make}
"""
    project, runner = started(client, text)
    project.pipelines.create({"ref": "main"})
    one = runner.take()
    runner.take()
    one.fail()
    assert statuses(newest(project)) == {"one": "failed", "two": "canceling", "three": "canceled"}


def test_nobody_gets_a_pipeline_on_a_branch_that_they_may_not_change(client: gitlab.Gitlab, instance: Instance) -> None:
    project, _ = started(client)
    number, other = instance.new_user()
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    with pytest.raises(GitlabCreateError) as refused:
        other.projects.get(project.id).pipelines.create({"ref": "main"})
    assert "You do not have sufficient permission to run a pipeline on 'main'." in str(refused.value.error_message)
