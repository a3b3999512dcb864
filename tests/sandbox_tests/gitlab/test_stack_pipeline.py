"""The pipeline of this repository itself, as the stand-in runs it: a preview, an update, its approval, and a night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gitlab
import pytest

from tests.sandbox.gitlab.web.ci import scheduler
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_merge_requests import open_merge_request
from tests.sandbox_tests.support.gitlab_projects import commit, make_project, make_runner, newest, statuses
from tests.sandbox_tests.support.gitlab_runner_client import Job, Runner

pytestmark = pytest.mark.usefixtures("emptied")
STACKS = ("dev", "production")
DEFINITION = Path(__file__).parents[3] / ".gitlab-ci.yml"


@pytest.fixture
def project(client: gitlab.Gitlab) -> Any:
    """A project with the stacks dev and production, in which nothing has run yet."""
    made = make_project(client)
    made.variables.create({"key": "STACKS", "value": ",dev,production,"})
    for scope, value, protected in (("preview/*", "for-reading", False), ("production", "for-changing", True)):
        made.variables.create(
            {"key": "TOKEN", "value": value, "environment_scope": scope, "protected": protected, "masked": True}
        )
    files = {".gitlab-ci.yml": DEFINITION.read_text(), **{f"stacks/Pulumi.{name}.yaml": "a" for name in STACKS}}
    commit(made, files, message="Start [skip ci]")
    return made


def done(runner: Runner) -> dict[str, Job]:
    """Do all that there is to do, well; the jobs by name, in their order."""
    found = {}
    while (job := runner.request()) is not None:
        found[job.name] = job
        job.succeed()
    return found


def test_a_change_is_previewed_merged_applied_to_production_when_approved_and_checked_at_night(
    client: gitlab.Gitlab, instance: Instance, project: Any
) -> None:
    runner = make_runner(client, project, tag_list=["slipway"])
    request = open_merge_request(project, {f"stacks/Pulumi.{name}.yaml": "b" for name in STACKS})
    previews = done(runner)
    assert set(previews) == {"preview dev", "preview production"}
    assert previews["preview production"].variables["TOKEN"] == "for-reading"  # noqa: S105 - a stand-in for one
    assert previews["preview production"].variables["CI_ENVIRONMENT_NAME"] == "preview/production"

    request.merge()
    updates = done(runner)
    assert list(updates) == ["plan dev", "plan production", "apply dev", "verify dev"]
    assert updates["plan production"].variables["TOKEN"] == "for-changing"  # noqa: S105 - a stand-in for one
    pipeline = newest(project)
    assert (pipeline.status, pipeline.source, pipeline.ref) == ("manual", "push", "main")
    assert statuses(pipeline)["apply production"] == "manual"

    [waiting] = [job for job in pipeline.jobs.list(get_all=True) if job.name == "apply production"]
    project.jobs.get(waiting.id).play()
    assert list(done(runner)) == ["apply production", "verify production"]
    assert newest(project).status == "success"
    deployed = [(one.environment["name"], one.status) for one in project.deployments.list(get_all=True)]
    assert sorted(deployed) == [("dev", "success"), ("production", "success")]

    project.pipelineschedules.create({"description": "Nightly", "ref": "main", "cron": "0 3 * * *"})
    scheduler.run_due(instance.config, datetime.now(UTC) + timedelta(days=2))
    assert newest(project).source == "schedule"
    assert set(done(runner)) == {"nightly dev", "nightly production"}


def test_two_updates_of_a_stack_wait_for_each_other(client: gitlab.Gitlab, project: Any) -> None:
    runner = make_runner(client, project, tag_list=["slipway"])
    commit(project, {"stacks/Pulumi.dev.yaml": "b"})
    plan = runner.take()
    commit(project, {"stacks/Pulumi.dev.yaml": "c"})
    assert statuses(newest(project))["plan dev"] == "waiting_for_resource"
    assert runner.request() is None
    plan.succeed()
    assert runner.take().name in ("plan dev", "apply dev")
    assert runner.request() is None
