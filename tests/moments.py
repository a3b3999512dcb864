"""`python -m tests.moments MOMENT COMMAND …`: run a command as if it were another moment, or `all` of them in turn.

Dates go wrong at the end of a day, a month or a year, on a leap day, and where the local date is not that of UTC. The
clock runs on from the given moment. libfaketime sets it for the command and for every process that inherits its
environment. Programs written in Go read the clock without the C library, so they keep the real time, and so do
containers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from math import ceil
from pathlib import Path

LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"
#: The variables that move the clock of a process.
VARIABLES = ("LD_PRELOAD", "FAKETIME", "FAKETIME_NO_CACHE", "DONT_FAKE_MONOTONIC", "FAKETIME_FORCE_MONOTONIC_FIX", "TZ")
#: The value of FAKETIME that leaves the clock where it is.
REAL_TIME = "+0"
_ASK = "import time; print(int(time.time()), time.strftime('%F', time.localtime()))"


class MomentError(Exception):
    """The clock of a process cannot be moved on this machine."""


@dataclass(frozen=True)
class Moment:
    """An instant, the time zone of the machine (in POSIX notation, which needs no database), and the date there."""

    instant: str
    zone: str
    local_date: str

    def environment(self) -> dict[str, str]:
        """Variables that move the clock of a process and of all that it starts."""
        real = datetime.now(UTC) - timedelta(seconds=int(os.environ.get("FAKETIME", REAL_TIME)))
        offset = datetime.fromisoformat(self.instant) - real
        # The library counts time spans by the real clock: a wait of one second takes one second.
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME": f"{ceil(offset.total_seconds()):+d}",
            # Read again at each look at the clock, so that a test can go back to the real time.
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
            "TZ": self.zone,
        }

    def run(self, command: list[str]) -> int:
        """Run a command at this moment and return its exit code.

        Raises:
            MomentError: the library does not move the clock.
        """
        environment = os.environ | self.environment()
        asked = [sys.executable, "-c", _ASK]
        shown = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.split()
        behind = int(shown[0]) - datetime.fromisoformat(self.instant).timestamp()
        if not 0 <= behind < 60 or (behind < 5 and shown[1] != self.local_date):
            raise MomentError(f"libfaketime does not move the clock to {self.instant}: a process saw {' '.join(shown)}")
        return subprocess.run(command, env=environment, check=False).returncode


MOMENTS: Mapping[str, Moment] = {
    "new-years-eve": Moment("2027-12-31T23:59:30Z", "UTC0", "2027-12-31"),
    "before-leap-day": Moment("2028-02-28T23:59:50Z", "UTC0", "2028-02-28"),
    "leap-day": Moment("2028-02-29T12:00:00Z", "UTC0", "2028-02-29"),
    # The date is a day ahead on Kiritimati, and a day (a month) behind in Los Angeles.
    "quarter-end": Moment("2027-03-31T18:30:00Z", "<+14>-14", "2027-04-01"),
    "leap-day-evening": Moment("2028-03-01T02:00:00Z", "PST8PDT,M3.2.0,M11.1.0", "2028-02-29"),
}


def clock_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that this process has its clock from, for children that get an environment of their own."""
    return {name: environment[name] for name in VARIABLES if name in environment}


def in_real_time(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment for a child whose clock is that of the kernel, whatever the clock of this process."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}


def _library() -> Path:
    spec = find_spec("libfaketime")
    if spec is None or spec.origin is None:
        raise MomentError("libfaketime is not installed: run `make env`")
    return Path(spec.origin).parent / LIBRARY


def main(name: str = "", *command: str) -> int:
    """Run the command at one moment or at all; the exit code is 1 if it failed at any, 2 if it could not be run."""
    if name not in ("all", *MOMENTS) or not command:
        wrong = f"{name} is not a moment" if command else "a moment and a command are needed"
        print(f"error: {wrong}. Use one of: all {' '.join(MOMENTS)}", file=sys.stderr)
        return 2
    results = {}
    for each, moment in MOMENTS.items():
        if name in ("all", each):
            print(f"\n==> {each}: {moment.instant}, TZ={moment.zone}", flush=True)
            try:
                results[each] = moment.run(list(command))
            except MomentError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
    print("\n==> moments")
    for each, code in results.items():
        print(f"{each:18}{'passed' if code == 0 else f'failed with exit code {code}'}")
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
