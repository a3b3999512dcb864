"""`tools/job.sh`: the tools of the job's image if they are of this checkout's versions, otherwise installed ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools.environment import ROOT

#: Says which Python runs which tool.
PYTHON = """#!/bin/sh
echo "$(basename "$(dirname "$(dirname "$(readlink -f "$0")")")") $*"
"""
BOOTSTRAP = """#!/bin/sh
set -eu
echo "bootstrap $*"
mkdir -p .cache/venv/bin
cp "$(dirname "$0")/python" .cache/venv/bin/python
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "slipway"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "job.sh", folder / "tools")
    program(folder / "tools" / "bootstrap.sh", BOOTSTRAP)
    program(folder / "tools" / "python", PYTHON)
    (folder / "requirements-tools.txt").write_text("pulumi==3.259.0\n")
    image = tmp_path / "image"
    program(image / "from-image" / "bin" / "python", PYTHON)
    (image / "venv").symlink_to("from-image")
    (image / "requirements-tools.txt").write_text("pulumi==3.259.0\n")
    return folder


def run(checkout: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [checkout / "tools" / "job.sh", "ci", "plan", "staging"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


INSTALLED = ["bootstrap tools", "venv -m tools prepare", "venv -m tools exec -- python -m tools ci plan staging"]


def test_an_image_without_tools_gets_them_from_the_lock_file(checkout: Path) -> None:
    assert run(checkout) == INSTALLED


def test_an_image_with_the_tools_of_this_checkout_needs_nothing_else(checkout: Path) -> None:
    image = str(checkout.parent / "image")
    # What a cache has brought here is in the way of a link.
    program(checkout / ".cache" / "venv" / "bin" / "python", PYTHON)
    assert run(checkout, SLIPWAY_TOOLS=image) == ["from-image -m tools ci plan staging"]
    # The program finds it where Pulumi.yaml says.
    assert (checkout / ".cache" / "venv").resolve() == checkout.parent / "image" / "from-image"


def test_an_image_with_other_versions_is_not_used(checkout: Path) -> None:
    (checkout / "requirements-tools.txt").write_text("pulumi==3.260.0\n")
    message, *rest = run(checkout, SLIPWAY_TOOLS=str(checkout.parent / "image"))
    assert "of other versions than requirements-tools.txt says" in message
    assert rest == INSTALLED
