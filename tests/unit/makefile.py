"""The Makefile, run as from a terminal: also when these tests are run by make, whose variables would reach it."""

from __future__ import annotations

import os
import subprocess

from tests.unit.engine import ROOT

_INHERITED = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "STACK", "ARGS"}


def run_make(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run make with these words."""
    environment = {name: value for name, value in os.environ.items() if name not in _INHERITED}
    return subprocess.run(["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=check)
