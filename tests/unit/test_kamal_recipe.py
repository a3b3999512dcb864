"""The recipe for Kamal: the pipeline makes what Kamal demands of an image, and the files agree.

Kamal 2.12 pulls `REGISTRY/IMAGE:VERSION`, where VERSION is the ID of the commit unless it is given, and looks for the
label: `docker inspect -f '{{ .Config.Labels.service }}' IMAGE | grep -x SERVICE` (lib/kamal/commands/builder/base.rb,
`validate_image`). What it cannot do without is in lib/kamal/configuration.rb (`ensure_required_keys_present`).
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from components.build_pipeline import pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.unit.delivered import delivered
from tests.unit.engine import ROOT

RECIPE = (ROOT / "docs/recipes/kamal.md").read_text(encoding="utf-8")
PROJECT, CONFIGURATION = (
    yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE)
)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


def document(builder: Builder, project: dict[str, Any] = PROJECT) -> Any:
    """The pipeline of the project, as YAML has it."""
    settings = ProjectSettings.model_validate({"path": "hello", **project})
    return yaml.safe_load(pipeline_of(settings, builder, None, None, SupplyChain()))


@pytest.mark.parametrize("builder", list(Builder))
def test_an_image_has_the_label_and_the_tag_that_kamal_asks_for(builder: Builder) -> None:
    script = "\n".join(document(builder)["build"]["script"])
    assert f"--label service={CONFIGURATION['service']}" in script
    assert "$CI_REGISTRY_IMAGE:$CI_COMMIT_SHA" in script
    assert "--label" not in str(document(builder, {}))


def test_the_sample_is_tested_as_it_is_without_labels() -> None:
    assert "npm test" in str(document(Builder.DOCKER)["test"]["script"])


def test_the_configuration_has_what_kamal_requires_and_a_login_that_only_pulls() -> None:
    assert {"service", "image", "servers", "registry"} <= CONFIGURATION.keys()
    assert re.fullmatch(r"[a-z0-9_-]+", CONFIGURATION["service"])
    assert CONFIGURATION["builder"]["arch"] == "amd64"
    engine = delivered(PROJECT)
    [token] = engine.of_type(":ProjectDeployToken")
    assert token.inputs["username"] == CONFIGURATION["registry"]["username"]
    assert token.inputs["scopes"] == ["read_registry"]
    assert f"{CONFIGURATION['registry']['password'][0]}=" in COMMANDS[0]


def test_image_and_login_are_printed_of_each_project() -> None:
    [query] = [found[1] for line in COMMANDS if (found := re.search(r"jq -r '(.+)'", line))]
    [project] = delivered(PROJECT).exports["projects"]
    done = subprocess.run(["jq", "-r", query], input=json.dumps([project]), capture_output=True, text=True, check=True)
    image, user, token = done.stdout.rstrip("\n").split("\t")
    assert image.endswith(f"/{CONFIGURATION['image']}")
    assert user == CONFIGURATION["registry"]["username"]
    assert token
