"""`python -m tests.moments`: what the clock of a child shows, and how a run ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.moments import MOMENTS, Moment, MomentError, in_real_time, main

ASK = "import time; print(time.strftime('%F', time.localtime()), time.strftime('%FT%H:%M:%SZ', time.gmtime()))"


def child(environment: dict[str, str], code: str = ASK) -> list[str]:
    asked = [sys.executable, "-c", code]
    return subprocess.run(asked, env=environment, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("name", MOMENTS)
def test_a_child_has_the_date_of_the_moment_in_its_own_zone(name: str) -> None:
    moment = MOMENTS[name]
    begin = datetime.fromisoformat(moment.instant)
    local_date, instant = child(os.environ | moment.environment())
    assert timedelta(0) <= datetime.fromisoformat(instant) - begin < timedelta(seconds=60)
    assert local_date == moment.local_date or datetime.fromisoformat(instant).date() != begin.date()


def test_a_wait_takes_as_long_as_it_says_when_the_clock_is_moved() -> None:
    begin = time.monotonic()
    child(os.environ | MOMENTS["leap-day"].environment(), "import time; time.sleep(0.2)")
    assert 0.2 <= time.monotonic() - begin < 30


def test_a_child_can_have_the_real_time() -> None:
    _, instant = child(in_real_time(os.environ | MOMENTS["leap-day"].environment()))
    moved = int(os.environ.get("FAKETIME", "0"))
    off = datetime.fromisoformat(instant) - (datetime.now(UTC) - timedelta(seconds=moved))
    assert abs(off) < timedelta(seconds=60)


def test_one_moment_that_fails_fails_the_run_after_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys, time; print('ran'); sys.exit(time.strftime('%j', time.gmtime()) == '060')"
    assert main("all", sys.executable, "-c", code) == 1
    output = capfd.readouterr().out
    assert output.count("ran\n") == len(MOMENTS)
    assert "leap-day          failed with exit code 1" in output
    assert "quarter-end       passed" in output


def test_a_moment_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("doomsday", "true") == 2
    assert "doomsday is not a moment" in capsys.readouterr().err


def test_a_clock_that_does_not_move_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.moments.LIBRARY", "none.so")
    with pytest.raises(MomentError, match="libfaketime does not move the clock"):
        Moment("2000-01-01T00:00:00Z", "UTC0", "2000-01-01").run(["true"])
