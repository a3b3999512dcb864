"""The program that makes an image, run on the recording engine."""

from __future__ import annotations

from components.golden_image import GoldenImageArgs
from components.settings.validation import validate
from tests.unit.engine import REQUIRED, RecordingEngine, run_program
from tools import golden_image


def image_args(which: str) -> GoldenImageArgs:
    """The inputs of an image for the server, or for the runner of that name."""
    settings = validate({**REQUIRED, "projects": [{"path": "hello"}], "runners": [{"name": "docker-builder"}]}).settings
    return golden_image.inputs("dev", golden_image.Kind.of(settings, which), settings, "s-1vcpu-1gb")


def image_program(which: str) -> RecordingEngine:
    """All that is declared for one."""
    args = image_args(which)
    return run_program(program=lambda: golden_image.declare(args))
