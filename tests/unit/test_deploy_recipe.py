"""The recipe for deployments: its settings are accepted, its commands exist, and what it prints is there."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from components import versions
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import ROOT
from tests.unit.makefile import run_make

RECIPE = (ROOT / "docs/recipes/deploy.md").read_text(encoding="utf-8")
SETTINGS, DROPLET, COMPOSED, COMPOSE_FILE = re.findall(r"^```yaml\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


def test_the_settings_of_the_recipe_deploy_to_staging_at_once_and_to_production_by_hand() -> None:
    document = pipeline(delivered(yaml.safe_load(SETTINGS)))
    assert document["stages"][-1] == "deploy"
    assert "when" not in document["deploy:staging"]["rules"][0]
    assert document["deploy:production"]["rules"][0]["when"] == "manual"


def test_production_of_the_recipe_has_no_gap() -> None:
    document = pipeline(delivered(yaml.safe_load(SETTINGS)))
    assert f"PROXY_IMAGE={versions.PROXY_IMAGE}" in document["deploy:production"]["before_script"]


def test_the_compose_file_of_the_recipe_uses_what_its_settings_give_it() -> None:
    project = yaml.safe_load(COMPOSED)
    assert "COMPOSE=compose.yaml" in pipeline(delivered(project))["deploy:production"]["before_script"]
    [names] = [one["variables"] for one in project["deploy"]]
    file = yaml.safe_load(COMPOSE_FILE)
    web, worker = file["services"]["web"], file["services"]["worker"]
    assert {web["image"], worker["image"]} == {"${IMAGE}"}
    assert worker["environment"] == names
    assert [file["secrets"][one]["environment"] for one in web["secrets"]] == names


def test_the_line_for_authorized_keys_is_printed_of_every_environment() -> None:
    projects = delivered(yaml.safe_load(SETTINGS)).exports["projects"]
    query, _ = (found[1] for line in COMMANDS if (found := re.search(r"jq -r '(.+)'", line)))
    # A project without environments is no obstacle.
    values: list[Any] = [*projects, {"url": "https://gitlab.example.test/root/other"}]
    done = subprocess.run(["jq", "-r", query], input=json.dumps(values), capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["restrict", "restrict"]


def test_a_droplet_of_the_stack_needs_no_more_than_the_recipe_sets_and_its_address_is_printed() -> None:
    engine = delivered(yaml.safe_load(DROPLET))
    assert "when" not in pipeline(engine)["deploy:demo"]["rules"][0]
    assert engine.named("delivery-target-hello-demo-droplet").inputs["size"] == "s-1vcpu-1gb"
    _, query = (found[1] for line in COMMANDS if (found := re.search(r"jq -r '(.+)'", line)))
    projects = json.dumps([*engine.exports["projects"], {"url": "https://gitlab.example.test/root/other"}])
    done = subprocess.run(["jq", "-r", query], input=projects, capture_output=True, text=True, check=True)
    assert done.stdout == "demo 203.0.113.10\n"


def test_the_machines_host_key_is_printed_as_the_settings_have_it() -> None:
    [line] = [one for one in COMMANDS if one.startswith("cut ")]
    words = line.replace("/etc/ssh/ssh_host_ed25519_key.pub", "-").replace("' '", '" "')
    done = subprocess.run(
        ["sh", "-c", words], input="ssh-ed25519 AAAA root@www\n", capture_output=True, text=True, check=True
    )
    assert done.stdout == "ssh-ed25519 AAAA\n"


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_the_way_back_of_the_recipe_calls_the_tool_with_all_that_it_names(command: str) -> None:
    done = run_make(*command.split()[1:], "--dry-run")
    [called] = [line for line in done.stdout.splitlines() if " rollback " in line]
    assert "--stack production --project 'hello' --environment 'production'" in called
    assert ("--to '1234'" in called) is ("TO=" in command)


def test_without_a_stack_the_way_back_is_that_of_the_sandbox_wherever_it_leads() -> None:
    done = run_make("rollback", "PROJECT=hello", "ENVIRONMENT=staging", "TO=1234", "--dry-run")
    assert "rollback --stack sandbox" in done.stdout
