"""All steps of the program on one machine that a test can break: see `programs/steps.py`."""

from __future__ import annotations

import os
from pathlib import Path

from tests.sandbox_tests.support.ssh_server import SshServer

#: The server needs no root, and the machine of the tests no lock.
PROGRAMS = {"sudo": 'exec "$@"', "flock": 'while [ "$1" != timeout ]; do shift; done; exec "$@"'}


def path_with_programs(folder: Path) -> str:
    """A search path that begins with these programs."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    return f"{programs}{os.pathsep}{os.environ['PATH']}"


def config(server: SshServer, folder: Path, steps: dict[str, bool], value: str) -> dict[str, object]:
    """The configuration of the program: `folder` is the machine, and `value` what each step has to write there."""
    folder.mkdir(exist_ok=True)
    return {
        "repository": str(Path(__file__).parents[3]),
        "port": server.port,
        "key": server.user_key.export_private_key().decode(),
        "hostKey": server.host_key.export_public_key().decode(),
        "folder": str(folder),
        "steps": steps,
        "value": value,
    }


def written(folder: Path) -> dict[str, str]:
    """What each step has left on the machine."""
    return {file.name: file.read_text() for file in folder.iterdir()}
