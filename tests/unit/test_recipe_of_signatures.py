"""The recipe for scan and signature: what it types is accepted, and verifies as the outputs say."""

from __future__ import annotations

import re
import shlex
from typing import Any

import yaml

from components.settings import ProjectSettings, Settings
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import REQUIRED, ROOT

RECIPE = (ROOT / "docs/recipes/scan-and-sign.md").read_text()


def typed() -> dict[str, Any]:
    """The section that the recipe's commands set."""
    lines = re.findall(r"^pulumi config set --path supplyChain\.(\w+) (\w+)$", RECIPE, re.MULTILINE)
    return {key: {"true": True}.get(value, value) for key, value in lines}


def test_the_commands_of_the_recipe_add_all_three_jobs() -> None:
    assert Settings.model_validate({**REQUIRED, "supplyChain": typed()}).supply_chain.jobs == ("scan", "sbom", "sign")
    assert {"scan", "sbom", "sign"} <= pipeline(delivered(supplyChain=typed())).keys()


def test_a_stack_accepts_the_project_of_the_recipe() -> None:
    [text] = re.findall(r"^```yaml\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE)
    project = yaml.safe_load(text)
    assert ProjectSettings.model_validate(project).path == "legacy"
    assert pipeline(delivered(project | {"path": "hello"}, supplyChain=typed()))["scan"]["allow_failure"]


def test_the_commands_that_verify_are_those_of_the_outputs() -> None:
    exports = delivered(supplyChain=typed()).exports
    name = re.findall(r"^pulumi stack output (\w+) >signing\.pub$", RECIPE, re.MULTILINE)
    assert [str(exports[one])[:10] for one in name] == ["-----BEGIN"]
    *words, _ = shlex.split(exports["projects"][0]["cosign_verify"])
    [verify] = [line for line in RECIPE.splitlines() if line.startswith("cosign verify ")]
    assert shlex.split(verify)[:-1] == words


def test_the_pattern_for_a_policy_of_one_s_own_is_the_one_that_the_stack_sets() -> None:
    policy = delivered(supplyChain=typed()).named("delivery-hello-project").inputs["containerExpirationPolicy"]
    [pattern] = re.findall(r"`(sha256-\S+)` in what it keeps", RECIPE)
    assert policy["nameRegexKeep"].endswith(f"|{pattern})")
