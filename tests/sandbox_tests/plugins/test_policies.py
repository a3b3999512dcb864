"""Policy packs in the engine: the project's own, and what the language host does with any."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from tests.sandbox_tests.support.pulumi_engine import Engine
from tools.environment import ROOT

POLICIES = ("--policy-pack", str(ROOT / "policies"))


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A program that opens SSH to the whole internet."""
    return Engine(tmp_path, "exposed", {"sources": ["0.0.0.0/1", "128.0.0.0/1"]})


def pack(folder: Path, main: str) -> tuple[str, str]:
    """A policy pack of one file; the option that names it."""
    folder.mkdir()
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}
    (folder / "PulumiPolicy.yaml").write_text(yaml.safe_dump({"runtime": runtime, "version": "1.2.3"}))
    (folder / "__main__.py").write_text(main)
    return "--policy-pack", str(folder)


def test_a_violation_fails_a_preview_of_production_with_what_to_do(engine: Engine) -> None:
    engine.run("stack", "init", "production")
    engine.run("config", "set", "--stack", "production", "--path", "sources[0]", "0.0.0.0/0")
    output = engine.run("preview", "--stack", "production", *POLICIES, fails=True)
    assert "[mandatory]  admin-ports-for-known-networks  (digitalocean:index:Firewall: wall)" in output
    assert "wall opens port 22 (SSH) to 0.0.0.0/0: anyone there can try to log in. List the networks" in output
    assert "Traceback" not in output


def test_a_violation_is_a_warning_elsewhere_and_known_networks_are_none(engine: Engine) -> None:
    output = engine.run("preview", *POLICIES)
    assert "[advisory]  admin-ports-for-known-networks" in output
    engine.configure({"sources": ["203.0.113.7/32"]})
    output = engine.run("preview", *POLICIES)
    assert "admin-ports-for-known-networks" not in output
    assert "slipway@v0.1.0" in output


def test_a_pack_learns_stack_and_settings_from_its_environment_before_it_starts(engine: Engine, tmp_path: Path) -> None:
    main = "import os\nraise SystemExit({key: os.environ[key] for key in ('PULUMI_STACK', 'PULUMI_CONFIG')})"
    output = engine.run("preview", *pack(tmp_path / "pack", main), fails=True)
    assert "'PULUMI_STACK': 'test'" in output
    assert "small:sources" in output


def test_a_pack_that_does_not_start_fails_the_preview_with_its_traceback(engine: Engine, tmp_path: Path) -> None:
    output = engine.run("preview", *pack(tmp_path / "pack", "import a_module_that_there_is_not"), fails=True)
    assert "No module named 'a_module_that_there_is_not'" in output


def test_a_pack_can_change_what_the_program_declares(engine: Engine, tmp_path: Path) -> None:
    main = (
        "from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy\n"
        "close = lambda args: {**args.props, 'name': 'renamed'} if args.name == 'wall' else None\n"
        "PolicyPack('changing', [ResourceValidationPolicy('close', 'Names.', remediate=close,"
        " enforcement_level=EnforcementLevel.REMEDIATE)])\n"
    )
    output = engine.run("preview", "--diff", *pack(tmp_path / "pack", main))
    assert '"renamed"' in output


def test_the_recipe_for_plans_and_policies_updates_by_the_plan_and_refuses_another_update(tmp_path: Path) -> None:
    recipe = (ROOT / "docs/recipes/pulumi.md").read_text()
    [block] = re.findall(r"```sh\n(.*?)```", recipe, re.DOTALL)
    preview, up = [shlex.split(line)[1:] for line in block.replace(" policies", f" {ROOT / 'policies'}").splitlines()]
    engine = Engine(tmp_path, "secrets_and_keys", {"generation": "1"})
    assert "slipway@v" in engine.run(*preview)
    engine.run("config", "set", "generation", "2")
    assert "violates plan" in engine.run(*up, "--yes", "--skip-preview", fails=True)
    engine.run("config", "set", "generation", "1")
    engine.run(*up, "--yes", "--skip-preview")
    assert "identifier" in engine.outputs()
