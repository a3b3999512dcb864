"""Environments and deployments on the GitLab stand-in, what jobs are told of them, and jobs that run one at a time."""

from __future__ import annotations

import gzip
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabDeleteError, GitlabError, GitlabHttpError, GitlabJobPlayError

from tests.sandbox.gitlab.web.core.environments import guess_tier, slug
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses

pytestmark = pytest.mark.usefixtures("emptied")
DEPLOY = """
deploy:
  script: deploy
  environment: {name: production, url: https://$HOST, on_stop: remove, auto_stop_in: 1 week}
  artifacts: {reports: {dotenv: deploy.env}}
remove:
  script: remove
  when: manual
  environment: {name: production, action: stop}
"""


def states(project: Any) -> list[tuple[str, str]]:
    """Environment and status of the deployments, oldest first."""
    return [(one.environment["name"], one.status) for one in project.deployments.list(get_all=True)]


def test_a_job_deploys_to_its_environment_and_another_one_stops_it(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": DEPLOY})
    [made] = project.environments.list(get_all=True)
    assert (made.name, made.slug, made.tier, made.state) == ("production", "production", "production", "available")
    assert states(project) == [("production", "created")]
    job = runner.take()
    assert states(project) == [("production", "running")]
    assert job.upload(gzip.compress(b"HOST=example.com\n"), "dotenv", "gzip").status_code == 201
    job.succeed()
    found = project.environments.get(made.id)
    assert (found.external_url, found.last_deployment["status"]) == ("https://example.com", "success")
    assert found.last_deployment["deployable"]["name"] == "deploy"
    assert found.auto_stop_at is not None
    found.stop()
    assert project.environments.get(made.id).state == "stopping"
    with pytest.raises(GitlabDeleteError) as refused:
        found.delete()
    assert refused.value.response_code == 403
    assert runner.drain() == ["remove"]
    assert project.environments.get(made.id).state == "stopped"
    found.delete()
    assert project.environments.list(get_all=True) == []


def test_a_job_is_told_of_its_environment_and_gets_the_variables_that_are_meant_for_it(client: gitlab.Gitlab) -> None:
    text = """
review: {script: x, environment: {name: review/$CI_COMMIT_REF_NAME, url: "https://$CI_ENVIRONMENT_SLUG.example.com"}}
staging: {script: x, environment: {name: staging, action: verify, deployment_tier: other}}
none: {script: x}
"""
    project = make_project(client)
    for scope, value in (
        ("*", "everywhere"),
        ("review/*", "review"),
        ("review/Big-One", "big"),
        ("staging", "staging"),
    ):
        project.variables.create({"key": "WHERE", "value": value, "environment_scope": scope})
    project.variables.create({"key": "ONLY", "value": "staging", "environment_scope": "stag*"})
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": text}, branch="Big-One")
    told = {job.name: job.variables for job in iter(runner.request, None) if job is not None}
    review, staging, none = (told[name] for name in ("review", "staging", "none"))
    assert (review["WHERE"], staging["WHERE"], none["WHERE"]) == ("big", "staging", "everywhere")
    assert ("ONLY" in review, staging["ONLY"], "ONLY" in none) == (False, "staging", False)
    name = "review/Big-One"
    assert (review["CI_ENVIRONMENT_NAME"], review["CI_ENVIRONMENT_SLUG"]) == (name, slug(name))
    assert review["CI_ENVIRONMENT_URL"] == f"https://{slug(name)}.example.com"
    assert (review["CI_ENVIRONMENT_TIER"], review["CI_ENVIRONMENT_ACTION"]) == ("development", "start")
    assert (staging["CI_ENVIRONMENT_TIER"], staging["CI_ENVIRONMENT_ACTION"]) == ("other", "verify")
    assert not [key for key in none if key.startswith("CI_ENVIRONMENT")]
    assert states(project) == [(name, "running")]


def test_a_name_of_an_environment_becomes_part_of_a_host_name() -> None:
    assert slug("staging") == "staging"
    assert slug("review/one").startswith("review-one-")
    assert slug("a-very-long-name-of-an-environment").startswith("a-very-long-name-")
    assert len(slug("the-very-long-name-of-an-environment")) == 24
    assert slug("1st").startswith("env-1st-")
    assert slug("Review/one") != slug("review/one")
    tiers = {name: guess_tier(name) for name in ("production", "Prod-eu", "staging", "pre", "qa", "review/x", "home")}
    assert tiers == {
        "production": "production",
        "Prod-eu": "production",
        "staging": "staging",
        "pre": "staging",
        "qa": "testing",
        "review/x": "development",
        "home": "other",
    }


def test_an_older_deployment_does_not_overwrite_a_newer_one(client: gitlab.Gitlab) -> None:
    text = "deploy: {script: x, environment: production, rules: [{when: manual}]}"
    project = make_project(client, auto_cancel_pending_pipelines="disabled")
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": text})
    older = newest(project).jobs.list(get_all=True)[0]
    commit(project, {"a.txt": "a"})
    newer = newest(project).jobs.list(get_all=True)[0]
    project.jobs.get(newer.id).play()
    assert runner.drain() == ["deploy"]
    with pytest.raises(GitlabJobPlayError) as refused:
        project.jobs.get(older.id).play()
    assert refused.value.response_code == 403
    project.jobs.get(newer.id).retry()
    assert runner.drain() == ["deploy"]


def test_jobs_of_a_resource_group_run_one_at_a_time_also_in_different_pipelines(client: gitlab.Gitlab) -> None:
    text = """
one: {script: x, resource_group: $WHERE, variables: {WHERE: production}}
two: {script: x, resource_group: production}
free: {script: x}
"""
    project = make_project(client, auto_cancel_pending_pipelines="disabled")
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": text})
    first = newest(project)
    commit(project, {"a.txt": "a"})
    second = newest(project)
    assert statuses(first) == {"one": "pending", "two": "waiting_for_resource", "free": "pending"}
    assert statuses(second) == {"one": "waiting_for_resource", "two": "waiting_for_resource", "free": "pending"}
    job, *others = [runner.take(), runner.take(), runner.take()]
    assert (job.name, [other.name for other in others], runner.request()) == ("one", ["free", "free"], None)
    for other in others:
        other.succeed()
    assert (newest(project).status, project.pipelines.get(first.id).status) == ("waiting_for_resource", "running")
    [group] = project.resource_groups.list(get_all=True)
    assert (group.key, group.process_mode) == ("production", "unordered")
    path = f"/projects/{project.id}/resource_groups/production"
    current = client.http_get(f"{path}/current_job")
    assert isinstance(current, dict)
    assert current["name"] == "one"
    assert len(group.upcoming_jobs.list(get_all=True)) == 3
    group.process_mode = "newest_first"
    group.save()
    job.fail()
    assert statuses(second)["one"] == "pending"
    runner.take().succeed()
    assert statuses(second)["two"] == "pending"
    project.pipelines.get(second.id).cancel()
    assert statuses(first)["two"] == "pending"
    assert runner.drain() == ["two"]
    with pytest.raises(GitlabHttpError) as nobody:
        client.http_get(f"{path}/current_job")
    assert nobody.value.response_code == 404


def test_a_removed_pipeline_leaves_its_resource_to_others(client: gitlab.Gitlab) -> None:
    project = make_project(client, auto_cancel_pending_pipelines="disabled")
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": "one: {script: x, resource_group: production}"})
    first = newest(project)
    runner.take()
    commit(project, {"a.txt": "a"})
    assert runner.request() is None
    first.delete()
    assert runner.drain() == ["one"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{name: /x}", "jobs:job:environment name can contain only letters"),
        ("{url: https://x}", "jobs:job:environment name can't be blank"),
        ("{name: x, action: begin}", "action should be start, stop, prepare, verify, or access"),
        ("{name: x, deployment_tier: live}", "deployment tier must be one of production, staging"),
        ("{name: x, on_stop: gone}", "job job: on_stop job gone is not defined"),
        ("{name: x, on_stop: other}", "job job: on_stop job other does not have environment defined"),
        ("{name: x, on_stop: mine}", "job job: on_stop job mine needs to have action stop defined"),
    ],
)
def test_what_is_wrong_with_an_environment_is_said_by_the_linter(client: gitlab.Gitlab, text: str, words: str) -> None:
    project = make_project(client)
    content = f"job: {{script: x, environment: {text}}}\nother: {{script: x}}\nmine: {{script: x, environment: x}}"
    found = project.ci_lint.create({"content": content})
    assert found.valid is False
    assert words in found.errors[0]


def test_what_only_premium_has_is_not_there(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    made = project.deployments.create(
        {"environment": "production", "sha": "0" * 40, "ref": "main", "tag": False, "status": "running"}
    )
    for method, path in (
        ("GET", "protected_environments"),
        ("POST", "protected_environments"),
        ("POST", f"deployments/{made.id}/approval"),
    ):
        with pytest.raises(GitlabError) as refused:
            client.http_request(method, f"/projects/{project.id}/{path}")
        assert (refused.value.response_code, refused.value.error_message) == (404, "404 Not Found")
    made.status = "success"
    made.save()
    assert states(project) == [("production", "success")]


def test_an_environment_is_for_those_who_may_see_it_and_has_one_name(client: gitlab.Gitlab, instance: Instance) -> None:
    project = make_project(client)
    made = project.environments.create({"name": "dev", "external_url": "https://dev.example.com", "tier": "other"})
    assert (made.tier, made.external_url) == ("other", "https://dev.example.com")
    with pytest.raises(GitlabCreateError) as twice:
        project.environments.create({"name": "dev"})
    assert str(twice.value.error_message) == "{'name': ['has already been taken']}"
    number, other = instance.new_user()
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.REPORTER})
    theirs = other.projects.get(project.id)
    assert [found.name for found in theirs.environments.list(get_all=True, name="dev")] == ["dev"]
    with pytest.raises(GitlabCreateError) as refused:
        theirs.environments.create({"name": "mine"})
    assert refused.value.response_code == 403
