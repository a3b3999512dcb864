"""Jobs that wait for somebody: what they hold up, and who may start them."""

from __future__ import annotations

from typing import Any

import gitlab
import httpx
import pytest
from gitlab.exceptions import GitlabError, GitlabJobPlayError

from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses

pytestmark = pytest.mark.usefixtures("emptied")
APPROVAL = """
stages: [plan, apply, verify]
plan: {stage: plan, script: plan}
apply:
  stage: apply
  script: apply
  manual_confirmation: Apply to production?
  rules: [{if: $CI_COMMIT_BRANCH == "main", when: manual}]
verify: {stage: verify, script: verify}
"""


def job_of(project: Any, name: str) -> Any:
    """The newest job of a name, as one that can be changed."""
    return next(project.jobs.get(job.id) for job in project.jobs.list(get_all=True) if job.name == name)


def refused(failing: Any, *arguments: Any, **more: Any) -> int:
    with pytest.raises(GitlabError) as refusal:
        failing(*arguments, **more)
    return refusal.value.response_code or 0


def test_a_manual_job_of_a_rule_holds_the_pipeline_up_until_somebody_starts_it(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": APPROVAL})
    assert runner.drain() == ["plan"]
    assert newest(project).status == "manual"
    assert statuses(newest(project)) == {"plan": "success", "apply": "manual", "verify": "created"}
    assert job_of(project, "apply").allow_failure is False
    job_of(project, "apply").play()
    job = runner.take()
    assert (job.name, job.variables["CI_JOB_MANUAL"]) == ("apply", "true")
    job.succeed()
    assert runner.drain() == ["verify"]
    assert newest(project).status == "success"
    assert refused(job_of(project, "apply").play) == 400


def test_a_manual_job_outside_of_rules_holds_nothing_up(client: gitlab.Gitlab) -> None:
    text = """
stages: [one, two]
optional: {stage: one, script: x, when: manual}
of_rule_without_when: {stage: one, script: x, when: manual, rules: [{if: $CI_COMMIT_BRANCH}]}
later: {stage: two, script: x}
needing: {stage: two, script: x, needs: [optional]}
"""
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": text})
    assert runner.drain() == ["later"]
    pipeline = newest(project)
    assert pipeline.status == "success"
    expected = {"optional": "manual", "of_rule_without_when": "manual", "later": "success", "needing": "skipped"}
    assert statuses(pipeline) == expected
    job_of(project, "optional").play()
    assert runner.drain() == ["optional", "needing"]


def test_a_pipeline_that_waits_can_be_canceled_and_its_job_started_again(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": APPROVAL})
    runner.drain()
    newest(project).cancel()
    assert statuses(newest(project)) == {"plan": "success", "apply": "canceled", "verify": "canceled"}
    job_of(project, "apply").retry()
    assert runner.drain() == ["apply"]
    newest(project).retry()
    assert runner.drain() == ["verify"]


def test_only_who_may_change_a_protected_branch_starts_and_stops_what_runs_for_it(
    client: gitlab.Gitlab, instance: Instance
) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": APPROVAL})
    number, other = instance.new_user()
    member = project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    runner.drain()
    theirs = other.projects.get(project.id)
    pipeline = newest(theirs)
    with pytest.raises(GitlabJobPlayError) as refusal:
        job_of(theirs, "apply").play()
    assert (refusal.value.response_code, refusal.value.error_message) == (403, "403 Forbidden")
    assert refused(job_of(theirs, "plan").retry) == 403
    assert refused(job_of(theirs, "apply").cancel) == 403
    assert refused(pipeline.cancel) == 403
    assert refused(pipeline.retry) == 403
    project.protectedbranches.delete("main")
    project.protectedbranches.create({"name": "main", "push_access_level": 0, "merge_access_level": 30})
    job_of(theirs, "apply").play()
    assert runner.take().variables["GITLAB_USER_LOGIN"] == other.users.get(number).username
    member.delete()
    assert refused(theirs.jobs.get, job_of(project, "apply").id) == 404


def test_variables_for_a_started_job_are_for_those_who_may_give_them(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": APPROVAL})
    runner.drain()
    given = {"job_variables_attributes": [{"key": "WHERE", "value": "production"}]}
    path = f"/projects/{project.id}/jobs/{job_of(project, 'apply').id}/play"
    assert refused(client.http_post, path, post_data=given) == 403
    project.ci_pipeline_variables_minimum_override_role = "maintainer"
    project.save()
    client.http_post(path, post_data=given)
    assert runner.take().variables["WHERE"] == "production"


def test_the_page_of_a_pipeline_has_a_button_that_asks_before_it_starts_the_job(
    client: gitlab.Gitlab, instance: Instance
) -> None:
    project = make_project(client, visibility="public")
    runner = make_runner(client, project)
    commit(project, {".gitlab-ci.yml": APPROVAL})
    runner.drain()
    address = f"/root/hello/-/pipelines/{newest(project).id}"
    assert "/play" not in httpx.get(f"{instance.url}{address}").text
    with httpx.Client(base_url=instance.url, follow_redirects=True) as visitor:
        visitor.post("/users/sign_in", data={"login": "root", "password": PASSWORD})
        page = visitor.get(address).text
        play = f"/root/hello/-/jobs/{job_of(project, 'apply').id}/play"
        assert f'action="{play}"' in page
        assert 'data-confirm="Apply to production?"' in page
        word = page.partition('name="authenticity_token" value="')[2].partition('"')[0]
        assert visitor.post(play, data={"authenticity_token": word}).status_code == 200
    assert runner.drain() == ["apply", "verify"]
