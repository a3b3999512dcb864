"""The settings in the recipe for a repository of one's own: a stack accepts them, and their pipelines can run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.delivered import delivered, pipeline

RECIPE = (Path(__file__).parents[2] / "docs/recipes/your-own-repository.md").read_text(encoding="utf-8")
SETTINGS = re.findall(r"^```yaml\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE)
JOBS = {
    "greeter": ["build", "test", "release"],
    "clock": ["build", "test", "release"],
    "site": ["build", "test", "release"],
    "shop": ["build:api", "build:web", "test:api", "release"],
}


@pytest.mark.parametrize("text", SETTINGS)
def test_a_stack_accepts_the_settings_of_the_recipe(text: str) -> None:
    written = yaml.safe_load(text)
    path, variables = written["path"], written.pop("variables", None)
    document = pipeline(delivered(written | {"path": "hello"}))
    if variables:
        # Encrypted in the file, which only Pulumi can read.
        assert [list(one["value"]) for one in variables.values()] == [["secure"]]
        assert "--secret id=PIP_INDEX_PASSWORD,env=PIP_INDEX_PASSWORD" in str(document["build"]["script"])
    else:
        assert [name for name in document if "script" in document[name]] == JOBS[path]


def test_the_recipe_has_every_kind_of_repository() -> None:
    assert {"greeter", "clock", "site", "shop"} <= {yaml.safe_load(text)["path"] for text in SETTINGS}
