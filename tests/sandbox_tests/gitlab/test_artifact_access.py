"""Who may download what a job left, how long it stays, and a job that comes too late for it."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabError

from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses

pytestmark = pytest.mark.usefixtures("emptied")
PLAN = """
stages: [plan, apply]
plan: {stage: plan, script: plan, artifacts: {paths: [plan.json], access: ACCESS, expire_in: 1 hour}}
apply: {stage: apply, script: apply}
"""


def archive() -> bytes:
    """An archive with a file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as bundle:
        bundle.writestr("plan.json", "{}")
    return content.getvalue()


def status_of(client: gitlab.Gitlab, path: str) -> int:
    """The status of a request that may be refused."""
    try:
        client.http_get(path, raw=True)
    except GitlabError as refused:
        return refused.response_code or 0
    return 200


@pytest.mark.parametrize(
    ("access", "allowed"),
    [
        ("all", {"reporter", "developer", "maintainer", "owner"}),
        ("developer", {"developer", "maintainer", "owner"}),
        ("maintainer", {"maintainer", "owner"}),
        ("none", set()),
    ],
)
def test_artifacts_are_for_those_whom_the_job_names_and_for_later_jobs(
    client: gitlab.Gitlab, instance: Instance, access: str, allowed: set[str]
) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": PLAN.replace("ACCESS", access)})
    plan = runner.take()
    content = archive()
    assert plan.upload(content, expire_in="1 hour").status_code == 201
    plan.succeed()
    callers = {"owner": client}
    for name, level in (("reporter", 20), ("developer", 30), ("maintainer", 40)):
        number, callers[name] = instance.new_user()
        project.members.create({"user_id": number, "access_level": level})
    for path in (
        f"/projects/{project.id}/jobs/{plan.payload['id']}/artifacts",
        f"/projects/{project.id}/jobs/{plan.payload['id']}/artifacts/plan.json",
        f"/projects/{project.id}/jobs/artifacts/main/download?job=plan",
    ):
        found = {name: status_of(caller, path) for name, caller in callers.items()}
        assert found == {name: 200 if name in allowed else 403 for name in callers}
    apply = runner.take()
    [dependency] = apply.payload["dependencies"]
    assert apply.download(dependency).content == content


def test_a_running_job_may_fetch_what_an_earlier_pipeline_left(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": PLAN.replace("ACCESS", "all")})
    plan = runner.take()
    plan.upload(archive())
    plan.succeed()
    job = runner.take()
    url = f"{client.url}/api/v4/projects/{project.id}/jobs"
    headers = {"JOB-TOKEN": job.token}
    assert httpx.get(f"{url}/{plan.payload['id']}/artifacts/plan.json", headers=headers).text == "{}"
    assert httpx.get(f"{url}/artifacts/main/raw/plan.json?job=plan", headers=headers).text == "{}"
    assert httpx.get(f"{url}/{plan.payload['id']}/trace", headers=headers).status_code in (401, 404)
    other = make_project(client, "other")
    foreign = f"{client.url}/api/v4/projects/{other.id}/jobs/artifacts/main/download?job=plan"
    assert httpx.get(foreign, headers=headers).status_code == 404


def test_a_job_fails_when_the_artifacts_that_it_needs_are_gone(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = PLAN.replace("ACCESS", "all").replace("script: apply", "script: apply, when: manual")
    commit(project, {".gitlab-ci.yml": text})
    plan = runner.take()
    plan.upload(archive(), expire_in="1 hour")
    plan.succeed()
    first = newest(project)
    instance.execute("UPDATE ci_artifacts SET expire_at = '2020-01-01T00:00:00.000Z'")
    path = f"/projects/{project.id}/jobs/{plan.payload['id']}/artifacts"
    assert status_of(client, path) == 200
    commit(project, {"a.txt": "a"})
    assert runner.drain() == ["plan"]
    assert status_of(client, path) == 404
    [late] = [job for job in first.jobs.list(get_all=True) if job.name == "apply"]
    project.jobs.get(late.id).play()
    assert runner.request() is None
    assert statuses(first)["apply"] == "failed"
    assert project.jobs.get(late.id).failure_reason == "missing_dependency_failure"


def test_reports_are_sent_in_the_form_of_their_kind(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = "job: {script: x, artifacts: {reports: {terraform: plan.json, dotenv: a.env, junit: [a.xml]}}}"
    commit(project, {".gitlab-ci.yml": text})
    told: dict[str, Any] = {
        entry["artifact_type"]: (entry["name"], entry["artifact_format"])
        for entry in runner.take().payload["artifacts"]
    }
    assert told == {"terraform": ("tfplan.json", "raw"), "dotenv": (".env", "gzip"), "junit": ("junit.xml", "gzip")}
