"""The language host: which environment a program runs in, how it is made, and what it says about it."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from tests.sandbox_tests.support.pulumi_engine import Engine
from tools.pulumi import required_plugins


def set_options(engine: Engine, **options: str) -> None:
    path = engine.project / "Pulumi.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "runtime": {"name": "python", "options": options}}))


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A program that prints where its interpreter is, with pip cut off from any index."""
    engine = Engine(tmp_path, "environment", {}, {"PIP_NO_INDEX": "1"})
    set_options(engine, toolchain="pip", virtualenv="venv")
    return engine


def make_environment(folder: Path) -> None:
    """An environment of its own that has the SDK: from this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "sdk.pth").write_text(sysconfig.get_path("purelib"))


def test_a_program_runs_in_the_virtual_environment_of_its_project(engine: Engine) -> None:
    make_environment(engine.project / "venv")
    output = engine.run("preview")
    assert f"running in {engine.project}/venv" in output
    assert f"VIRTUAL_ENV={engine.project}/venv" in output


def test_a_folder_that_is_no_virtual_environment_is_refused_with_the_commands_that_make_one(engine: Engine) -> None:
    (engine.project / "venv").mkdir()
    (engine.project / "venv/notes.txt").write_text("not an environment")
    output = engine.run("preview", fails=True)
    assert "no such file or directory" in output.lower() or "doesn't appear to be a virtual environment" in output


@pytest.mark.parametrize("option", [{"toolchain": "poetry"}, {"toolchain": "pip", "typechecker": "mypy"}])
def test_an_option_that_the_sandbox_does_not_have_is_refused(engine: Engine, option: dict[str, str]) -> None:
    set_options(engine, **option)
    assert f"unsupported {[*option][-1]} option" in engine.run("preview", fails=True)


def test_install_makes_the_environment_and_fails_with_the_reason_where_there_is_no_index(engine: Engine) -> None:
    output = engine.run("install", fails=True)
    assert (engine.project / "venv/bin/python").exists()
    assert "Finished creating virtual environment" in output
    assert "updating pip, setuptools, and wheel via '" in output
    assert "No matching distribution found for" in output


def test_without_an_environment_a_preview_makes_it_first_and_says_why_it_cannot(engine: Engine) -> None:
    output = engine.run("preview", fails=True)
    assert (engine.project / "venv/bin/python").exists()
    assert "updating pip, setuptools, and wheel via '" in output


def test_the_plugins_of_a_program_are_those_of_the_sdks_in_its_environment(engine: Engine) -> None:
    make_environment(engine.project / "venv")
    output = engine.run("plugin", "ls", "--project", "--json")
    listed = json.loads(output[output.index("[\n") :])
    found = {(one["name"], one["version"]) for one in listed if one["kind"] == "resource"}
    assert found == {*required_plugins()}
