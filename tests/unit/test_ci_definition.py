"""`.gitlab-ci.yml`: which jobs a pipeline of this repository has, with which variables, and what they run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import typer
import yaml

from tests.sandbox.gitlab.web.ci import reader
from tests.sandbox.gitlab.web.ci.conditions import Context
from tests.sandbox.gitlab.web.ci.documents import Files
from tests.sandbox.gitlab.web.ci.plans import Job
from tools import pipeline
from tools.cli import Step, app
from tools.environment import ROOT

TEXT = (ROOT / ".gitlab-ci.yml").read_text()
DOCKERFILE = (ROOT / "tools" / "Dockerfile").read_text()
ALL = ",dev,production,staging,"


def jobs(
    source: str,
    changes: Sequence[str] | None = ("components/runner.py",),
    *,
    stacks: str = ALL,
    branch: str = "main",
    fork: bool = False,
) -> dict[str, Job]:
    """The jobs of a pipeline, as the stand-in's own reader finds them."""
    in_request = source == "merge_request_event"
    predefined = {"CI_PIPELINE_SOURCE": source, "CI_DEFAULT_BRANCH": "main", "CI_PROJECT_ID": "1"}
    predefined |= {"CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "2" if fork else "1"} if in_request else {}
    predefined |= {} if in_request else {"CI_COMMIT_BRANCH": branch}
    context = Context(
        ref=branch,
        tag=False,
        source=source,
        files=Files(read=lambda _: None, paths=list),
        changes=lambda: None if changes is None else list(changes),
        predefined=predefined,
        settings={"STACKS": stacks} if stacks else {},
    )
    return {job.name: job for job in reader.plan(reader.parse(TEXT, context), context).jobs}


def test_nothing_runs_before_a_stack_is_set_up() -> None:
    for source in ("push", "merge_request_event", "schedule", "web"):
        assert jobs(source, stacks="") == {}


def test_a_merge_request_previews_the_stacks_whose_files_changed() -> None:
    assert jobs("merge_request_event", ["stacks/Pulumi.staging.yaml"]).keys() == {"preview staging"}
    assert jobs("merge_request_event", ["README.md", "tests/unit/test_ci.py"]) == {}
    for file in ("__main__.py", "Pulumi.yaml", "requirements.txt", "components/files/backup/common.sh"):
        assert jobs("merge_request_event", [file]).keys() == {"preview dev", "preview staging", "preview production"}
    assert jobs("merge_request_event", stacks=",pre-production,").keys() == set()


def test_a_merge_request_of_a_fork_runs_nothing_here() -> None:
    assert jobs("merge_request_event", fork=True) == {}
    assert pipeline.SETTINGS["ci_allow_fork_pipelines_to_run_in_parent_project"] is False


def test_a_branch_without_a_merge_request_runs_nothing() -> None:
    assert jobs("push", branch="topic") == {}


@pytest.mark.parametrize("source", ["push", "web"])
def test_an_update_is_planned_applied_and_verified_and_production_waits(source: str) -> None:
    found = jobs(source, ["stacks/Pulumi.staging.yaml", "stacks/Pulumi.production.yaml"], stacks=",production,staging,")
    assert {name: job.when for name, job in found.items()} == {
        f"{step} {stack}": "manual" if (step, stack) == ("apply", "production") else "on_success"
        for step in ("plan", "apply", "verify")
        for stack in ("staging", "production")
    }
    # The pipeline is blocked, and not green, until somebody has decided.
    assert not found["apply production"].allow_failure
    for stack in ("staging", "production"):
        assert [need["job"] for need in found[f"apply {stack}"].needs or []] == [f"plan {stack}"]
        assert [need["job"] for need in found[f"verify {stack}"].needs or []] == [f"apply {stack}"]


def test_a_schedule_checks_every_stack_and_changes_none() -> None:
    assert jobs("schedule", None).keys() == {"nightly dev", "nightly staging", "nightly production"}


def every_job() -> dict[str, Job]:
    return {**jobs("push"), **jobs("merge_request_event"), **jobs("schedule")}


def test_only_previews_get_the_variables_that_are_not_protected() -> None:
    names = {name: str(job.options["environment"]["name"]) for name, job in every_job().items()}
    for name, environment in names.items():
        step, stack = name.split()
        assert environment == (f"preview/{stack}" if step == "preview" else stack)


def test_only_an_update_counts_as_a_deployment() -> None:
    for name, job in every_job().items():
        action = job.options["environment"].get("action", "start")
        assert (action == "start") == name.startswith("apply "), name


def test_two_jobs_never_change_or_lock_a_stack_at_the_same_time() -> None:
    for name, job in every_job().items():
        if name.split()[0] in {"plan", "apply", "nightly"}:
            assert job.options["resource_group"] == name.split()[1], name


def test_nobody_can_download_a_plan_and_it_does_not_stay() -> None:
    for stack in ("dev", "staging", "production"):
        assert jobs("push")[f"plan {stack}"].options["artifacts"] == {
            "paths": [".cache/ci/"],
            "access": "none",
            "expire_in": "1 week",
        }


def test_every_job_runs_a_command_of_the_tools_and_nothing_else() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, job in every_job().items():
        [line] = job.options["script"]
        program, command, *words = line.split()
        assert (program, command in commands) == ("tools/job.sh", True), name
        assert command != "ci" or words[0] in set(Step)


def test_jobs_run_on_the_runner_that_the_setup_asks_for() -> None:
    assert {tuple(job.tags) for job in every_job().values()} == {(pipeline.TAG,)}


def definition() -> dict[str, Any]:
    text = re.sub(r"!reference \[[^]]*\]", "[]", TEXT)
    return dict(yaml.safe_load(text))


def test_the_image_of_jobs_is_the_one_that_the_dockerfile_extends() -> None:
    [base] = re.findall(r"^FROM (\S+)$", DOCKERFILE, re.MULTILINE)
    assert definition()["variables"]["JOB_IMAGE"] == base
    assert definition()["default"]["image"] == "$JOB_IMAGE"
    python = tuple(int(part) for part in base.partition(":")[2].partition("-")[0].split("."))
    assert python >= (3, 11)


def test_versions_of_tools_are_in_the_lock_files_alone() -> None:
    for text in (TEXT, DOCKERFILE):
        assert re.findall(r"pulumi[^ ]*[:=@]v?[\d.]+", text) == []
    assert definition()["default"]["cache"]["key"]["files"] == ["requirements-tools.txt"]


def test_the_dockerfile_copies_files_that_exist() -> None:
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert "requirements-tools.txt" in copied
    assert all((ROOT / name).exists() for name in copied)
