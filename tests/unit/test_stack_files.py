"""The stack files that users fill in: valid as they are, and with their commented examples."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from components.settings import Settings, load
from tests.unit.engine import ROOT, as_config, project_defaults, run_program

NAMES = ["dev", "staging", "production"]
#: A commented key, and the lines below it, which are indented further than a comment in prose.
EXAMPLE = re.compile(r"(?m)^  # (slipway:\w+:|  )")


def values(text: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text)["config"]
    return {key.removeprefix("slipway:"): value for key, value in config.items()}


def given(name: str) -> dict[str, Any]:
    return values((ROOT / f"stacks/Pulumi.{name}.yaml").read_text())


def uncommented(name: str) -> dict[str, Any]:
    return values(EXAMPLE.sub(r"  \1", (ROOT / f"stacks/Pulumi.{name}.yaml").read_text()))


def loaded(name: str, found: dict[str, Any]) -> Settings:
    return load("slipway", name, as_config({**project_defaults(), **found}), [], {"DIGITALOCEAN_TOKEN": "x"})


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_file_is_valid_before_its_examples_are_uncommented(name: str) -> None:
    assert loaded(name, given(name)).projects == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_stack_file_add_projects_with_runners_and_change_nothing_else(name: str) -> None:
    found = uncommented(name)
    settings = loaded(name, found)
    assert found.keys() - given(name).keys() == {"projects", "runners"}
    assert {key: found[key] for key in given(name)} == given(name)
    assert settings.projects
    assert settings.runners
    # `make verify` and `make demo` need an application that answers.
    assert all(project.has_pipeline and project.has_sample for project in settings.projects)


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_with_the_examples_gets_a_pipeline_and_a_runner_for_each_project(name: str) -> None:
    found = uncommented(name)
    engine = run_program(**found)
    projects = {one.inputs["path"] for one in engine.of_type("index/project:Project")}
    assert projects == {project["path"] for project in found["projects"]}
    runners = {one.inputs["description"] for one in engine.of_type("UserRunner")}
    assert runners == {runner["name"] for runner in found["runners"]}
    pipelines = [one for one in engine.custom if one.name.endswith("-pipeline")]
    assert len(pipelines) == len(projects)


@pytest.mark.parametrize("name", NAMES)
def test_a_stack_file_names_everything_that_a_user_has_to_fill_in(name: str) -> None:
    first, fill_in, *_ = (ROOT / f"stacks/Pulumi.{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    named = set(fill_in.removeprefix("# Fill in: ").removesuffix(".").split(", "))
    assert {"domain", "adminCidrs", "projects", "runners"} <= named
    top_level = {field.alias for field in Settings.model_fields.values()}
    assert {path.split(".")[0] for path in named} <= top_level
