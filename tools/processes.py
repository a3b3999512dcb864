"""Running a command on this terminal, as if it had been typed, and going on after it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


@contextmanager
def interrupts_are_the_commands() -> Iterator[None]:
    """Leave Ctrl-C to a command that runs on this terminal, which gets it as well, until the end of the block."""
    # A handler and not SIG_IGN, which the command would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_attached(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run `command` on this terminal and return its exit code; negative if a signal ended it.

    The terminal sends Ctrl-C to the command as well, which decides what to do about it: this process waits for its end.
    """
    with interrupts_are_the_commands():
        return subprocess.Popen(list(command), env=dict(environment)).wait()
