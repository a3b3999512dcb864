"""The program with one project and one runner, and readers for what it registers."""

from __future__ import annotations

import tomllib
from typing import Any

import yaml

from tests.unit.engine import RecordingEngine, run_program

PROJECT: dict[str, Any] = {"path": "hello"}
RUNNER: dict[str, Any] = {"name": "docker-builder"}


def delivered(
    project: dict[str, Any] | None = None, runner: dict[str, Any] | None = None, **settings: Any
) -> RecordingEngine:
    """Run the program with one project and one runner."""
    return run_program(projects=[{**PROJECT, **(project or {})}], runners=[{**RUNNER, **(runner or {})}], **settings)


def pipeline(engine: RecordingEngine) -> Any:
    """The committed pipeline, parsed as YAML."""
    return yaml.safe_load(engine.named("delivery-hello-pipeline-rendered").inputs["PIPELINE"])


def configuration(engine: RecordingEngine) -> Any:
    """The runner's config.toml, parsed as TOML."""
    script = engine.script("delivery-docker-builder-1-registration")
    quoted = script.split("CONFIGURATION='", 1)[1].split("'\nGITLAB_URL", 1)[0]
    return tomllib.loads(quoted.replace("""'"'"'""", "'"))
