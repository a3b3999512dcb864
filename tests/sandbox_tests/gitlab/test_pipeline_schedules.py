"""Schedules of pipelines on the GitLab stand-in: when they are due, what they start, and who may change them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import gitlab
import pytest
from gitlab.exceptions import GitlabCreateError, GitlabError, GitlabHttpError

from tests.sandbox.gitlab.web.ci import scheduler
from tests.sandbox.gitlab.web.core.cron import Cron, CronError, zone
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_merge_requests import open_merge_request
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses
from tests.sandbox_tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("emptied")
NIGHTLY = """
drift:
  script: drift
  rules: [{if: $CI_PIPELINE_SOURCE == "schedule" && $CHECK == "drift"}]
build:
  script: make
  except: [schedules]
"""
SOON = timedelta(days=400)


@pytest.fixture
def project(client: gitlab.Gitlab) -> Any:
    made = make_project(client, ci_pipeline_variables_minimum_override_role="maintainer")
    commit(made, {".gitlab-ci.yml": NIGHTLY}, message="Start [skip ci]")
    return made


def schedule(project: Any, **more: Any) -> Any:
    wanted = {"description": "Nightly", "ref": "main", "cron": "0 1 * * *", **more}
    made = project.pipelineschedules.create(wanted)
    made.variables.create({"key": "CHECK", "value": "drift"})
    return project.pipelineschedules.get(made.id)


@pytest.mark.parametrize(
    ("text", "where", "after", "expected"),
    [
        ("0 1 * * *", "UTC", "2026-11-27T01:00", "2026-11-28T01:00"),
        ("*/15 9-17 * * mon-fri", "UTC", "2026-11-27T17:45", "2026-11-30T09:00"),
        ("30 2 1,15 * 0", "UTC", "2026-11-27T00:00", "2026-11-29T02:30"),
        ("0 0 L * *", "UTC", "2026-02-01T00:00", "2026-02-28T00:00"),
        ("@weekly", "UTC", "2026-11-27T00:00", "2026-11-29T00:00"),
        ("0 1 * * *", "Europe/Berlin", "2026-07-01T00:00", "2026-07-01T23:00"),
        ("0 1 * * *", "Berlin", "2026-12-01T01:00", "2026-12-02T00:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-30T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),
        ("0 0 29 2 *", "UTC", "2025-01-01T00:00", "2028-02-29T00:00"),
    ],
)
def test_a_cron_expression_means_moments_in_its_time_zone(text: str, where: str, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = Cron.parse(text).next_after(moment, zone(where))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "0 1 * *", "60 * * * *", "* * * * * *", "0 1 * * someday", "*/0 * * * *"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(CronError):
        Cron.parse(text)
    assert Cron.parse("0 0 30 2 *").next_after(datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_a_schedule_runs_when_the_worker_comes_to_it_and_not_before(
    client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    made = schedule(project, cron="0 1 * * *", cron_timezone="Europe/Berlin")
    assert (made.ref, made.owner["username"], made.active) == ("refs/heads/main", "root", True)
    due = datetime.fromisoformat(made.next_run_at)
    assert (due.minute, due > datetime.now(UTC)) == (3, True)
    runner = make_runner(client, project)
    assert scheduler.run_due(instance.config, due) == []
    assert scheduler.run_due(instance.config, due + timedelta(seconds=1)) == [made.id]
    assert scheduler.run_due(instance.config, due + timedelta(seconds=2)) == []
    pipeline = newest(project)
    assert (pipeline.source, pipeline.ref, pipeline.user["username"]) == ("schedule", "main", "root")
    assert statuses(pipeline) == {"drift": "pending"}
    job = runner.take()
    told = {key: job.variables[key] for key in ("CI_PIPELINE_SOURCE", "CI_PIPELINE_SCHEDULE_DESCRIPTION", "CHECK")}
    assert told == {
        "CI_PIPELINE_SOURCE": "schedule",
        "CI_PIPELINE_SCHEDULE_DESCRIPTION": "Nightly",
        "CHECK": "drift",
    }
    again = project.pipelineschedules.get(made.id)
    assert datetime.fromisoformat(again.next_run_at) - due in (timedelta(days=1), timedelta(hours=25))
    assert again.last_pipeline["id"] == pipeline.id
    assert [found.id for found in again.pipelines.list(get_all=True)] == [pipeline.id]


def test_an_inactive_schedule_runs_only_when_somebody_plays_it(instance: Instance, project: Any) -> None:
    made = schedule(project, active=False)
    assert scheduler.run_due(instance.config, datetime.now(UTC) + SOON) == []
    assert project.pipelines.list(get_all=True, source="schedule") == []
    project.pipelineschedules.get(made.id).play()
    assert eventually(lambda: project.pipelines.list(get_all=True, source="schedule"))[0].source == "schedule"
    made.active = True
    made.save()
    assert [found.id for found in project.pipelineschedules.list(get_all=True, scope="active")] == [made.id]
    assert scheduler.run_due(instance.config, datetime.now(UTC) + SOON) == [made.id]


def test_a_schedule_whose_owner_may_no_longer_run_it_starts_nothing_until_another_takes_it(
    client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    number, other = instance.new_user()
    member = project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.MAINTAINER})
    made = schedule(other.projects.get(project.id))
    member.delete()
    scheduler.run_due(instance.config, datetime.now(UTC) + SOON)
    assert project.pipelines.list(get_all=True, source="schedule") == []
    owned = client.http_post(f"/projects/{project.id}/pipeline_schedules/{made.id}/take_ownership")
    assert isinstance(owned, dict)
    assert owned["owner"]["username"] == "root"
    scheduler.run_due(instance.config, datetime.now(UTC) + 2 * SOON)
    [pipeline] = project.pipelines.list(get_all=True, source="schedule")
    assert project.pipelines.get(pipeline.id).user["username"] == "root"


def test_others_may_read_a_schedule_and_not_change_it(instance: Instance, project: Any) -> None:
    made = schedule(project)
    number, other = instance.new_user()
    project.members.create({"user_id": number, "access_level": gitlab.const.AccessLevel.DEVELOPER})
    path = f"/projects/{project.id}/pipeline_schedules/{made.id}"
    found = other.http_get(path)
    assert isinstance(found, dict)
    assert (found["description"], "variables" in found) == ("Nightly", False)
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "", {"active": False}),
        ("DELETE", "", {}),
        ("POST", "/play", {}),
        ("POST", "/take_ownership", {}),
        ("POST", "/variables", {"key": "A", "value": "b"}),
    ]
    for method, rest, data in attempts:
        with pytest.raises(GitlabHttpError) as refused:
            other.http_request(method, f"{path}{rest}", post_data=data)
        assert (method, rest, refused.value.response_code) == (method, rest, 403)
    with pytest.raises(GitlabCreateError) as protected:
        schedule(other.projects.get(project.id))
    assert "not authorized to create the pipeline schedule" in str(protected.value.error_message)


def test_what_can_be_no_schedule_is_refused(project: Any) -> None:
    def refusal(**more: Any) -> str:
        with pytest.raises(GitlabCreateError) as refused:
            project.pipelineschedules.create({"description": "x", "ref": "main", "cron": "0 1 * * *", **more})
        assert refused.value.response_code == 400
        return str(refused.value.error_message)

    assert refusal(cron="nightly") == "{'cron': [' is invalid syntax']}"
    assert refusal(cron_timezone="Mars/Base") == "{'cron_timezone': [' is invalid syntax']}"
    assert refusal(description="") == "{'description': [\"can't be blank\"]}"
    for _ in range(10):
        project.pipelineschedules.create({"description": "x", "ref": "main", "cron": "0 1 * * *"})
    assert "(10) exceeded" in refusal()
    project.pipelineschedules.list(get_all=True)[0].delete()
    assert len(project.pipelineschedules.list(get_all=True)) == 9


def test_variables_of_a_schedule_are_for_those_who_may_set_them(client: gitlab.Gitlab) -> None:
    project = make_project(client)
    made = project.pipelineschedules.create({"description": "x", "ref": "main", "cron": "0 1 * * *"})
    with pytest.raises(GitlabError) as refused:
        made.variables.create({"key": "A", "value": "b"})
    assert refused.value.response_code == 403
    project.ci_pipeline_variables_minimum_override_role = "developer"
    project.save()
    variable = made.variables.create({"key": "A", "value": "b"})
    variable.value = "c"
    variable.save()
    [found] = project.pipelineschedules.get(made.id).attributes["variables"]
    assert (found["key"], found["value"], found["variable_type"]) == ("A", "c", "env_var")
    variable.delete()
    assert project.pipelineschedules.get(made.id).attributes["variables"] == []


@pytest.fixture
def clock() -> Iterator[datetime]:
    """Moments that pass as fast as somebody looks at the clock."""

    def passing() -> Iterator[datetime]:
        moment = datetime.now(UTC)
        while True:
            moment += timedelta(minutes=7)
            yield moment

    return passing()


def test_the_clock_is_watched(instance: Instance, project: Any, clock: Iterator[datetime]) -> None:
    schedule(project, cron="*/30 * * * *")
    often = replace(instance.config, pipeline_schedule_worker_cron="* * * * *")
    stopped = scheduler.watch(often, lambda: next(clock), 0.01)
    try:
        assert eventually(lambda: project.pipelines.list(get_all=True, source="schedule"))
    finally:
        stopped.set()


def test_a_merge_request_that_an_ended_process_has_left_gets_its_pipeline(instance: Instance, project: Any) -> None:
    request = open_merge_request(project, {".gitlab-ci.yml": "check: {script: make, only: [merge_requests]}"})
    instance.execute("DELETE FROM ci_pipelines")
    instance.execute("UPDATE merge_requests SET prepared_at = NULL")
    assert project.mergerequests.get(request.iid).detailed_merge_status == "preparing"
    stopped = scheduler.watch(instance.config, longest_look_s=0.01)
    try:
        assert eventually(lambda: request.pipelines.list(get_all=True))[0].source == "merge_request_event"
    finally:
        stopped.set()
