"""Runners for protected branches alone: what is declared, how the pipeline finds them, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from components.settings import SettingsError
from tests.unit.delivered import PROJECT, RUNNER, pipeline
from tests.unit.engine import RecordingEngine, run_program

RELEASE: dict[str, Any] = {"name": "release", "accessLevel": "ref_protected", "tags": ["release"], "untagged": False}
BOTH = [RUNNER["name"], "release"]


def separated(runner: dict[str, Any] | None = None, **release: Any) -> RecordingEngine:
    """A project whose protected branches have a runner of their own."""
    projects = [{**PROJECT, "runners": BOTH}]
    return run_program(projects=projects, runners=[{**RUNNER, **(runner or {})}, {**RELEASE, **release}])


def errors_of(projects: list[Any], runners: list[Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        run_program(projects=projects, runners=runners)
    return caught.value.errors


def test_a_runner_takes_jobs_of_all_branches_unless_it_is_for_protected_ones() -> None:
    engine = separated()
    levels = {name: engine.named(f"delivery-{name}-registration").inputs["accessLevel"] for name in BOTH}
    assert levels == {"docker-builder": "not_protected", "release": "ref_protected"}


def test_the_machines_of_the_two_runners_are_different() -> None:
    engine = separated()
    machines = [engine.named(f"delivery-{name}-1-droplet").inputs["name"] for name in BOTH]
    assert len(set(machines)) == 2


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_jobs_of_protected_branches_ask_for_the_runner_that_takes_no_others(builder: str) -> None:
    text = pipeline(separated({"builder": builder}, builder=builder))
    assert text["workflow"]["rules"] == [
        {"if": '$CI_COMMIT_REF_PROTECTED == "true"', "variables": {"SLIPWAY_RUNNER_TAG": "release"}},
        {"when": "always"},
    ]
    # A variable that does not exist would be a tag with a dollar sign, which no runner has.
    assert text["variables"]["SLIPWAY_RUNNER_TAG"] == ""
    assert text["default"]["tags"] == ["$SLIPWAY_RUNNER_TAG"]
    assert not [job for job in ("build", "test", "release") if "tags" in text[job]]


def test_the_tag_is_one_that_all_runners_for_protected_branches_have_and_no_other_runner() -> None:
    more = {**RELEASE, "name": "more", "tags": ["arm", "$HOME", "signed", "release"]}
    projects = [{**PROJECT, "runners": [*BOTH, "more"]}]
    runners = [{**RUNNER, "tags": ["arm"]}, {**RELEASE, "tags": ["arm", "$HOME", "release", "signed"]}, more]
    text = pipeline(run_program(projects=projects, runners=runners))
    assert text["workflow"]["rules"][0]["variables"] == {"SLIPWAY_RUNNER_TAG": "release"}


def test_without_such_a_runner_the_pipeline_has_no_tags() -> None:
    text = pipeline(run_program(projects=[PROJECT], runners=[{**RUNNER, "tags": ["arm"]}]))
    assert "SLIPWAY_RUNNER_TAG" not in yaml.safe_dump(text)
    assert "workflow" not in text


def test_a_project_whose_runners_take_no_jobs_of_other_branches_is_refused() -> None:
    [message] = errors_of([{**PROJECT, "runners": ["release"]}], [{**RELEASE, "untagged": True}])
    assert message.startswith(
        "projects[0].runners: only release would take the pipeline's jobs, and those of protected"
    )
    assert "would wait forever. Add a runner whose accessLevel is not_protected" in message


def test_a_runner_for_other_branches_has_to_take_jobs_without_tags() -> None:
    idle = {**RUNNER, "tags": ["arm"], "untagged": False}
    messages = errors_of([{**PROJECT, "runners": BOTH}], [idle, {**RELEASE, "untagged": True}])
    assert any("the jobs of other branches would wait forever" in message for message in messages)


@pytest.mark.parametrize("tags", [[], ["arm"], ["100%"]])
def test_a_runner_for_protected_branches_needs_a_tag_of_its_own(tags: list[str]) -> None:
    release = {**RELEASE, "tags": tags, "untagged": True}
    [message] = errors_of([{**PROJECT, "runners": BOTH}], [{**RUNNER, "tags": ["arm"]}, release])
    assert message.startswith("projects[0].runners: release has no tag of its own; the pipeline could not keep jobs of")
    assert "Give all runners whose accessLevel is ref_protected a tag" in message


def test_without_the_stacks_pipeline_a_project_may_have_such_a_runner_alone() -> None:
    own = {**PROJECT, "pipeline": False, "runners": ["release"]}
    assert run_program(projects=[own], runners=[RELEASE]).named("delivery-release-registration")


def test_a_variable_cannot_choose_the_runner_in_place_of_the_pipeline() -> None:
    variables = {"SLIPWAY_RUNNER_TAG": {"value": "elsewhere", "masked": False}}
    [message] = errors_of([{**PROJECT, "variables": variables}], [RUNNER])
    assert "is set by GitLab or the pipeline" in message
