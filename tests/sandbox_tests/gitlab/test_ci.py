"""From a push to a green pipeline on the GitLab stand-in: python-gitlab on one side, a runner on the other."""

from __future__ import annotations

import gzip
import io
import zipfile
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabError, GitlabHttpError, GitlabJobPlayError

from tests.sandbox_tests.support.gitlab_projects import TUTORIAL, commit, make_project, make_runner, newest, statuses
from tests.sandbox_tests.support.gitlab_runner_client import Runner

pytestmark = pytest.mark.usefixtures("emptied")


def test_a_commit_starts_the_tutorials_pipeline_and_its_stages_pass_one_after_the_other(
    client: gitlab.Gitlab,
) -> None:
    project = make_project(client)
    runner = make_runner(client, project, locked=True)
    made = commit(project, {".gitlab-ci.yml": TUTORIAL})
    pipeline = newest(project)
    assert (pipeline.status, pipeline.source, pipeline.ref, pipeline.sha) == ("pending", "push", "main", made.id)
    assert statuses(pipeline) == {"build": "pending", "test": "created", "release": "created"}

    build = runner.take()
    assert build.name == "build"
    assert runner.request() is None
    assert newest(project).status == "running"
    build.succeed()
    assert runner.drain() == ["test", "release"]
    assert newest(project).status == "success"
    assert statuses(pipeline) == {"build": "success", "test": "success", "release": "success"}


def test_another_branch_builds_and_tests_and_does_not_release(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": TUTORIAL})
    assert runner.drain() == ["build", "test", "release"]
    commit(project, {"greeting.txt": "hi"}, branch="feature")
    assert newest(project).ref == "feature"
    assert runner.drain() == ["build", "test"]
    assert newest(project).status == "success"


def test_a_job_has_everything_a_runner_needs(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    project.variables.create({"key": "SHOWN", "value": "one"})
    project.variables.create({"key": "HIDDEN", "value": "secret-of-the-day", "masked": True})
    runner = make_runner(client, project, maximum_timeout=900)
    made = commit(project, {".gitlab-ci.yml": TUTORIAL}, message="Begin\n\nWith more words")
    job = runner.take()
    payload, variables = job.payload, job.variables
    assert job.token.startswith("glcbt-")
    assert payload["job_info"]["project_full_path"] == "root/hello"
    assert payload["git_info"]["sha"] == made.id
    assert payload["git_info"]["ref_type"] == "branch"
    assert payload["git_info"]["depth"] == 20
    assert (
        f"+refs/pipelines/{newest(project).id}:refs/pipelines/{newest(project).id}" in payload["git_info"]["refspecs"]
    )
    assert payload["git_info"]["repo_url"] == variables["CI_REPOSITORY_URL"]
    assert f"gitlab-ci-token:{job.token}@" in variables["CI_REPOSITORY_URL"]
    assert payload["runner_info"]["timeout"] == 900
    assert payload["image"]["name"] == "docker:latest"
    assert [service["name"] for service in payload["services"]] == ["docker:dind"]
    [step] = payload["steps"]
    assert step["script"][0].startswith("docker login -u gitlab-ci-token")
    assert step["script"][1:] == ["docker build --pull -t $TEST_IMAGE .", "docker push $TEST_IMAGE"]
    assert payload["credentials"] == [
        {
            "type": "registry",
            "url": "gitlab.example.com:5555",
            "username": "gitlab-ci-token",
            "password": job.token,
        }
    ]
    assert variables["CI_REGISTRY"] == "gitlab.example.com:5555"
    assert variables["CI_REGISTRY_IMAGE"] == "gitlab.example.com:5555/root/hello"
    assert variables["CI_REGISTRY_USER"] == "gitlab-ci-token"
    assert variables["CI_REGISTRY_PASSWORD"] == variables["CI_JOB_TOKEN"] == job.token
    assert variables["CI_DEFAULT_BRANCH"] == variables["CI_COMMIT_BRANCH"] == variables["CI_COMMIT_REF_SLUG"] == "main"
    assert variables["CI_COMMIT_SHORT_SHA"] == made.id[:8]
    assert (variables["CI_COMMIT_TITLE"], variables["CI_COMMIT_REF_PROTECTED"]) == ("Begin", "true")
    assert variables["TEST_IMAGE"] == "gitlab.example.com:5555/root/hello:main"
    assert variables["SHOWN"] == "one"
    assert "CI_COMMIT_TAG" not in variables
    masked = {entry["key"] for entry in payload["variables"] if entry["masked"]}
    assert masked == {"CI_JOB_TOKEN", "CI_REPOSITORY_URL", "CI_REGISTRY_PASSWORD", "HIDDEN"}


def test_protected_variables_are_not_given_to_other_branches(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    project.variables.create({"key": "DEPLOY_KEY", "value": "for-main-only", "protected": True})
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": "job: {script: make}"})
    assert runner.take().variables["DEPLOY_KEY"] == "for-main-only"
    commit(project, {"a": "b"}, branch="feature")
    assert "DEPLOY_KEY" not in runner.take().variables


def test_a_failed_test_releases_nothing_and_a_retry_continues_from_there(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": TUTORIAL})
    runner.take().succeed()
    runner.take().fail(exit_code=3)
    assert runner.request() is None
    pipeline = newest(project)
    assert pipeline.status == "failed"
    assert statuses(pipeline) == {"build": "success", "test": "failed", "release": "skipped"}
    [failed] = [job for job in pipeline.jobs.list(get_all=True) if job.name == "test"]
    assert failed.failure_reason == "script_failure"
    pipeline.retry()
    assert runner.drain() == ["test", "release"]
    assert newest(project).status == "success"
    assert len(pipeline.jobs.list(get_all=True, include_retried=True)) == 4


def test_a_log_is_appended_in_parts_that_must_be_contiguous(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": "job: {script: make}"})
    job = runner.take()
    first = job.log("Hello, ")
    assert (first.status_code, first.headers["range"], first.headers["job-status"]) == (202, "0-7", "running")
    assert first.headers["x-gitlab-trace-update-interval"] == "3"
    assert job.log("world", start=5).status_code == 416
    assert job.log("world", start=5).headers["range"] == "0-7"
    assert job.log("wörld\n", start=7).status_code == 202
    assert project.jobs.get(job.payload["id"]).trace().decode() == "Hello, wörld\n"
    job.succeed()
    late = job.log("more", start=14)
    assert (late.status_code, late.headers["job-status"]) == (403, "success")


def test_a_job_token_is_valid_while_its_job_runs_and_for_no_other_job(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": "one: {script: make}\ntwo: {script: make}"})
    one, two = runner.take(), runner.take()
    own = httpx.get(f"{client.url}/api/v4/job", headers={"JOB-TOKEN": one.token})
    assert own.json()["name"] == "one"
    path = f"{client.url}/api/v4/jobs/{two.payload['id']}"
    assert httpx.put(path, json={"token": one.token, "state": "success"}).status_code == 403
    one.succeed()
    assert httpx.get(f"{client.url}/api/v4/job", headers={"JOB-TOKEN": one.token}).status_code == 401


def test_artifacts_and_variables_are_passed_to_later_jobs(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = """
build:
  stage: build
  script: make
  artifacts: {paths: [out], expire_in: 1 day, reports: {dotenv: build.env}}
test: {stage: test, script: make test}
alone: {stage: test, script: make alone, dependencies: []}
"""
    commit(project, {".gitlab-ci.yml": text})
    build = runner.take()
    kinds = [(entry["artifact_type"], entry["artifact_format"]) for entry in build.payload["artifacts"]]
    assert kinds == [("archive", "zip"), ("dotenv", "gzip")]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as bundle:
        bundle.writestr("out/digest", b"sha256:\r\n--1\x00\xff")
    assert build.upload(content.getvalue(), expire_in="1 day").status_code == 201
    variables = gzip.compress(b"DIGEST=sha256:abc\n")
    assert build.upload(variables, "dotenv", "gzip").status_code == 201
    build.succeed()
    test, alone = runner.take(), runner.take()
    [dependency] = test.payload["dependencies"]
    assert (dependency["name"], dependency["artifacts_file"]["size"]) == ("build", len(content.getvalue()))
    assert test.download(dependency).content == content.getvalue()
    assert test.variables["DIGEST"] == "sha256:abc"
    assert alone.payload["dependencies"] == []
    assert "DIGEST" not in alone.variables
    job = project.jobs.get(build.payload["id"])
    assert job.artifact("out/digest") == b"sha256:\r\n--1\x00\xff"
    assert job.artifacts_expire_at is not None


def test_a_failed_job_is_retried_as_often_as_configured(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = "flaky: {script: make, retry: {max: 1, when: runner_system_failure}}"
    commit(project, {".gitlab-ci.yml": text})
    runner.take().fail(reason="runner_system_failure")
    assert newest(project).status == "pending"
    runner.take().fail(reason="runner_system_failure")
    assert runner.request() is None
    assert newest(project).status == "failed"
    commit(project, {"a": "b"})
    runner.take().fail(reason="script_failure")
    assert runner.request() is None


def test_a_job_that_may_fail_does_not_block_and_on_failure_jobs_run_only_after_a_failure(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = """
stages: [test, after]
lint: {stage: test, script: lint, allow_failure: {exit_codes: [3]}}
cleanup: {stage: after, script: rm, when: always}
mend: {stage: after, script: mend, when: on_failure}
deploy: {stage: after, script: deploy, when: manual}
"""
    commit(project, {".gitlab-ci.yml": text})
    runner.take().fail(exit_code=3)
    assert runner.drain() == ["cleanup"]
    pipeline = newest(project)
    assert pipeline.status == "success"
    assert statuses(pipeline) == {"lint": "failed", "cleanup": "success", "mend": "skipped", "deploy": "manual"}
    commit(project, {"a": "b"})
    runner.take().fail(exit_code=1)
    assert runner.drain() == ["cleanup", "mend"]
    assert newest(project).status == "failed"


def test_a_cancelled_job_ends_once_the_runner_has_cleaned_up(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": "one: {stage: build, script: make}\ntwo: {stage: test, script: make}"})
    job = runner.take()
    pipeline = newest(project)
    pipeline.cancel()
    assert statuses(pipeline) == {"one": "canceling", "two": "canceled"}
    assert job.log("stopping").headers["job-status"] == "canceling"
    job.fail()
    assert statuses(pipeline) == {"one": "canceled", "two": "canceled"}
    assert newest(project).status == "canceled"


def test_a_runner_that_cannot_clean_up_is_told_that_the_job_is_canceled(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": "one: {script: make}"})
    old = Runner(client.url, runner.token, "s_old", graceful=False)
    job = old.take()
    project.jobs.get(job.payload["id"]).cancel()
    answer = job.log("more")
    assert (answer.status_code, answer.headers["job-status"]) == (403, "canceled")


def test_a_manual_job_waits_to_be_started_and_blocks_later_stages(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = """
ask: {stage: build, script: ask, rules: [{if: $CI_COMMIT_BRANCH, when: manual}]}
after: {stage: test, script: after}
"""
    commit(project, {".gitlab-ci.yml": text})
    assert runner.request() is None
    pipeline = newest(project)
    assert pipeline.status == "manual"
    [ask] = [job for job in pipeline.jobs.list(get_all=True) if job.name == "ask"]
    job = project.jobs.get(ask.id)
    job.play()
    assert runner.drain() == ["ask", "after"]
    with pytest.raises(GitlabJobPlayError):
        job.play()


def test_needs_start_a_job_before_its_stage(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    text = """
a: {stage: build, script: a}
b: {stage: build, script: b}
c: {stage: test, script: c, needs: [a]}
d: {stage: deploy, script: d, needs: []}
"""
    commit(project, {".gitlab-ci.yml": text})
    pipeline = newest(project)
    assert statuses(pipeline) == {"a": "pending", "b": "pending", "c": "created", "d": "pending"}
    a, b = runner.take(), runner.take()
    a.succeed()
    assert statuses(pipeline)["c"] == "pending"
    b.fail()
    assert runner.drain() == ["c", "d"]
    assert newest(project).status == "failed"


def test_an_invalid_file_makes_a_failed_pipeline_with_the_error(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    commit(project, {".gitlab-ci.yml": "build: {scrip: make}"})
    pipeline = newest(project)
    assert pipeline.status == "failed"
    assert pipeline.yaml_errors == "jobs:build config contains unknown keys: scrip"
    with pytest.raises(GitlabCreateError, match="unknown keys"):
        project.pipelines.create({"ref": "main"})


def test_without_a_file_or_with_ci_skip_there_is_no_pipeline(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    assert project.pipelines.list(get_all=True) == []
    commit(project, {".gitlab-ci.yml": "job: {script: make}"}, message="Quiet [skip ci]")
    assert (newest(project).status, statuses(newest(project))) == ("skipped", {})


def test_the_linter_answers_as_gitlabs_does(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    good = project.ci_lint.create({"content": TUTORIAL, "include_jobs": True})
    assert good.valid
    assert [job["name"] for job in good.jobs] == ["build", "test", "release"]
    bad = project.ci_lint.create({"content": "stages: [a]\njob: {stage: b, script: x}"})
    assert not bad.valid
    assert bad.errors == ["job job: chosen stage b does not exist; available stages are .pre, a, .post"]
    commit(project, {".gitlab-ci.yml": TUTORIAL})
    assert project.ci_lint.get().valid


def test_a_newer_push_replaces_a_pipeline_that_has_not_started(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    commit(project, {".gitlab-ci.yml": "job: {script: make}"})
    old = newest(project)
    commit(project, {"a": "b"})
    assert project.pipelines.get(old.id).status == "canceled"
    assert newest(project).status == "pending"


def test_pipeline_variables_must_be_allowed_by_the_project(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    commit(project, {".gitlab-ci.yml": "job: {script: make, rules: [{if: $RUN}]}"})
    request: dict[str, Any] = {"ref": "main", "variables": [{"key": "RUN", "value": "yes"}]}
    with pytest.raises(GitlabCreateError, match="Insufficient permissions to set pipeline variables"):
        project.pipelines.create(request)
    project.ci_pipeline_variables_minimum_override_role = "maintainer"
    project.save()
    assert project.pipelines.create(request).source == "api"
    with pytest.raises(GitlabError, match="prevented any jobs"):
        project.pipelines.create({"ref": "main"})


def test_unsupported_routes_are_not_found(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    with pytest.raises(GitlabHttpError):
        client.http_get(f"/projects/{project.id}/pipelines/99")
