"""Stack files that look wrong are accepted, and their values arrive unchanged in every file that is rendered."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.engine import RecordingEngine, run_program

HERE = Path(__file__).parent
FILES = yaml.safe_load((HERE / "nasty_stack_files.yaml").read_text(encoding="utf-8"))
MAIN = "main </dev/null\n"


def filled(value: Any) -> Any:
    """`%2000%` is a text of that length."""
    if isinstance(value, dict):
        return {filled(key): filled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one) for one in value]
    return re.sub(r"%(\d+)%", lambda found: "x" * int(found[1]), value) if isinstance(value, str) else value


def engine_of(file: dict[str, Any]) -> RecordingEngine:
    settings = filled(file["given"])
    project = {"path": "hello", **settings.pop("project", {})}
    runner = {"name": "docker-builder", **settings.pop("runner", {})}
    return run_program(projects=[project], runners=[runner], existing_groups=file.get("groups"), **settings)


def shell(engine: RecordingEngine, step: str) -> dict[str, str]:
    """The variables of a step's script, as bash reads them. Nothing but assignments and definitions is run."""
    stdin = engine.script(step)
    assert stdin.endswith(MAIN)
    subprocess.run(["bash", "-n"], input=stdin, text=True, check=True)
    names = sorted(set(re.findall(r"^([A-Z][A-Z0-9_]*)=", stdin, re.MULTILINE)))
    shown = "".join(f'printf "%s\\0" {name} "${{{name}-}}"\n' for name in names)
    done = subprocess.run(
        ["bash", "-s"], input=stdin.removesuffix(MAIN) + shown, text=True, check=True, capture_output=True
    )
    words = done.stdout.split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def ruby(text: str) -> Any:
    """The settings of gitlab.rb or registry.rb, as Ruby evaluates them."""
    done = subprocess.run(["ruby", str(HERE / "recorder.rb")], input=text, text=True, check=True, capture_output=True)
    return json.loads(done.stdout)


def gitlab_rb(engine: RecordingEngine) -> Any:
    """The settings of gitlab.rb, with the secrets that it reads from a file."""
    sent = shell(engine, "gitlab-configuration")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(sent["SECRETS_JSON"])
        file.flush()
        return ruby(sent["GITLAB_RB"].replace("/etc/gitlab/slipway-secrets.json", file.name))


#: The rendered files, by how the table names them.
FILES_OF: dict[str, Callable[[RecordingEngine], Any]] = {
    "pipeline": lambda engine: yaml.safe_load(shell(engine, "delivery-hello-pipeline")["PIPELINE"]),
    "runner": lambda engine: tomllib.loads(shell(engine, "delivery-docker-builder-1-registration")["CONFIGURATION"]),
    "gitlab.rb": gitlab_rb,
    "registry.rb": lambda engine: ruby(shell(engine, "registry-storage")["REGISTRY_RB"]),
}


def at(value: Any, path: str) -> Any:
    for step in path.split("/"):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def found(engine: RecordingEngine, place: str) -> Any:
    """What arrived at a place of the table."""
    kind, _, path = place.partition(":")
    if kind in FILES_OF:
        return at(FILES_OF[kind](engine), path)
    if kind == "sh":
        step, _, variable = path.partition(".")
        return shell(engine, step)[variable]
    resource, _, path = place.partition(".")
    return at(engine.named(resource).inputs, path)


@pytest.mark.usefixtures("encrypted")
@pytest.mark.parametrize("file", FILES, ids=[file["name"] for file in FILES])
def test_a_stack_file_that_looks_wrong_is_applied_unchanged(file: dict[str, Any]) -> None:
    engine = engine_of(file)
    for place, expected in filled(file["arrives"]).items():
        if place.endswith("~"):
            assert expected in found(engine, place.removesuffix("~")).splitlines()
        else:
            assert found(engine, place) == expected
    assert engine.messages == []


def test_there_are_many_such_stack_files() -> None:
    assert len({file["name"] for file in FILES}) == len(FILES) >= 60
