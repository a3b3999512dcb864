"""Progress of long steps: what is running, for how long, and what it printed if it failed."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]

#: Seconds between two lines about a step that is still running.
HEARTBEAT = 15

_started = time.monotonic()
_one_line_at_a_time = threading.Lock()


class ToolError(Exception):
    """A tool cannot be installed or run; the message says which, why, and what to do."""


def say(line: str) -> None:
    """Print one line at once, with the seconds since the start; lines of parallel steps do not mix."""
    with _one_line_at_a_time:
        print(f"[{time.monotonic() - _started:5.0f}s] {line}", flush=True)


def running_for() -> float:
    """Seconds since the start of the program."""
    return time.monotonic() - _started


def sparse(progress: Say, seconds: float = HEARTBEAT / 3) -> Say:
    """The same, with at most one line in `seconds`: for steps that report a lot."""
    last = -seconds

    def say_sometimes(line: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            progress(line)

    return say_sometimes


@contextmanager
def heartbeat(what: str, progress: Say = say) -> Iterator[None]:
    """Report every `HEARTBEAT` seconds that `what` is still running, until the block ends."""
    done, began = threading.Event(), time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT):
            progress(f"{what}: still running after {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def run(
    what: str,
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run a long command: its output goes to `log`, a heartbeat to the terminal.

    Raises:
        ToolError: it failed; the message has the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with heartbeat(what), log.open("wb") as file:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ToolError(f"{what} failed after {time.monotonic() - began:.0f} s, see {log}:\n{tail}")
