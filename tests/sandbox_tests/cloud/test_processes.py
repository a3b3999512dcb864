"""Running a command at the workstation, as if it had been typed."""

from __future__ import annotations

import os
import signal

import pytest

from tests.sandbox.cloud.processes import run_attached


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
def test_the_exit_code_of_a_command_is_passed_on(command: str, code: int) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert run_attached(["sh", "-c", command], os.environ) == code
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_command_that_does_not_exist_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_attached(["no-such-command"], os.environ) == 127
    assert capfd.readouterr().err == "no-such-command: No such file or directory\n"
