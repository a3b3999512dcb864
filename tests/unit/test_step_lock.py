"""The lock that steps on a machine hold: a killed update leaves a step that still runs there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.delivered import delivered

#: Says that it runs, and ends when its file is there; what it starts in the background outlives it.
STEP = """
sleep 300 >/dev/null 2>&1 </dev/null &
echo $! >"$FOLDER/background"
echo running >"$FOLDER/began"
until [ -e "$FOLDER/end" ]; do sleep 0.01; done
echo ended >>"$FOLDER/log"
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command line of a step of the program, on a machine whose lock is in a folder of the test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
    (programs / "sudo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_test")
    line = str(delivered({}).named("gitlab-package").inputs["create"])
    assert "/run/slipway.lock" in line
    return line.replace("/run/slipway.lock", str(tmp_path / "lock"))


def test_a_step_waits_for_that_of_a_killed_update_and_not_for_what_it_has_started(command: str, tmp_path: Path) -> None:
    with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, text=True) as former:
        assert former.stdin
        former.stdin.write(STEP)
        # The connection of the killed engine is gone, and the step goes on.
        former.stdin.close()
        began = tmp_path / "began"
        while not began.exists():
            assert former.poll() is None
        try:
            free = command.replace("--wait 1800", "--nonblock")
            assert subprocess.run(["sh", "-c", free], input="true", text=True, check=False).returncode == 75
            with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, text=True) as latter:
                assert latter.stdin
                latter.stdin.write('echo next >>"$FOLDER/log"\n')
                latter.stdin.close()
                (tmp_path / "end").touch()
                assert latter.wait(60) == 0
            assert (tmp_path / "log").read_text() == "ended\nnext\n"
        finally:
            os.kill(int((tmp_path / "background").read_text()), 9)


def test_what_runs_when_a_step_leaves_the_stack_waits_as_well() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_test")
        commands = delivered({}, backup={"enabled": True}).of_type(":Command")
    deletions = [one.inputs["delete"] for one in commands if one.inputs.get("delete")]
    assert deletions
    assert all(line.startswith("sudo flock --close --wait 1800 ") for line in deletions)
