"""`python -m tests`: what it shows, and when it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import __main__ as runner
from tests.__main__ import Step
from tests.conftest import LONGEST, pytest_collection_modifyitems
from tests.e2e.__main__ import PREPARED, is_chosen


def step(name: str, code: str, beside: str = "") -> Step:
    """A step that runs Python code."""
    return Step(name, [sys.executable, "-c", code], beside)


@pytest.fixture(autouse=True)
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reports of a real run are left alone."""
    monkeypatch.setattr(runner, "REPORTS", tmp_path)
    return tmp_path


class Collected(NamedTuple):
    """A test as pytest has collected it."""

    path: Path
    name: str


def run(monkeypatch: pytest.MonkeyPatch, steps: list[Step], *names: str) -> int:
    """Exit code of `python -m tests NAME …` with other steps."""
    monkeypatch.setattr(runner, "steps", lambda: steps)
    monkeypatch.setattr(sys, "argv", ["tests", *names])
    return runner.main()


def test_a_failed_or_killed_step_fails_the_run_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kill = "import os; os.kill(os.getpid(), 9)"
    steps = [step("lint", "raise SystemExit(3)"), step("types", kill), step("unit", "print('tests ran')")]
    assert run(monkeypatch, steps) == 1
    output = capfd.readouterr().out
    assert "==> unit\ntests ran\n" in output
    assert "===== 0 passed, steps failed: lint, types in " in output


def test_output_of_a_step_beside_another_is_shown_whole_after_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    done = tmp_path / "done"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(done)!r}).exists(): time.sleep(0.01)\nprint('e2e ended')"
    signal = (
        f"import pathlib, sys\nprint('up failed', file=sys.stderr)\npathlib.Path({str(done)!r}).touch()\nsys.exit(1)"
    )
    steps = [step("e2e", wait), step("make-up", signal, "e2e"), step("make-down", "print('gone')", "e2e")]
    assert run(monkeypatch, steps) == 1
    output = capfd.readouterr().out
    assert "e2e ended\n\n==> make-up\nup failed\n\n==> make-down\ngone\n\n==> summary\n" in output
    assert "steps failed: make-up in " in output


def test_named_steps_run_alone_even_if_they_belong_beside_another(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [step("e2e", "raise SystemExit(1)"), step("make-up", "print('up')", "e2e")]
    assert run(monkeypatch, steps, "make-up") == 0
    output = capfd.readouterr().out
    assert "==> make-up\nup\n" in output
    assert "e2e" not in output


def test_the_summary_counts_the_tests_of_all_reports(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], reports: Path
) -> None:
    def suite(name: str, counts: str) -> Step:
        report = f"<testsuites><testsuite {counts}/></testsuites>"
        return step(name, f"import pathlib; pathlib.Path({str(reports / name)!r} + '.xml').write_text({report!r})")

    steps = [
        suite("unit", 'tests="5" failures="1" errors="1" skipped="0"'),
        suite("e2e", 'tests="4" failures="0" errors="0" skipped="1"'),
    ]
    run(monkeypatch, steps)
    assert "===== 2 failed, 6 passed, 1 skipped in " in capfd.readouterr().out


def test_an_unknown_step_is_refused_with_the_names_of_all_steps(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, [step("lint", "print('ran')"), step("unit", "")], "lint", "unti") == 2
    captured = capfd.readouterr()
    assert captured.err == "error: no such step: unti. Use one or more of: lint unit\n"
    assert "ran" not in captured.out


def test_a_step_that_takes_long_runs_only_if_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [step("short", "print('short ran')"), Step("long", [sys.executable, "-c", "print('long ran')"], "", True)]
    assert run(monkeypatch, steps) == 0
    assert "long ran" not in capfd.readouterr().out
    assert run(monkeypatch, steps, "long") == 0
    assert "long ran" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["--verbose", "tests/e2e"], True),
        (["tests/e2e/test_supply_chain.py", "-x"], True),
        (["tests/e2e/test_supply_chain.py::test_one"], True),
        (["tests/e2e", "--ignore=tests/e2e/test_supply_chain.py"], False),
        (["tests/e2e/test_supply.py"], False),
        (["tests/e2e/test_drift.py"], False),
    ],
)
def test_what_a_file_of_end_to_end_tests_needs_is_made_only_if_the_file_is_chosen(
    arguments: list[str], chosen: bool
) -> None:
    assert is_chosen("tests/e2e/test_supply_chain.py", arguments) is chosen


def test_every_file_that_needs_something_before_a_sandbox_starts_exists_and_takes_long() -> None:
    assert {name for name in PREPARED if not name.startswith(f"{runner.SCALE}/")} <= set(runner.NIGHTLY_E2E)
    assert next(step for step in runner.steps() if step.name == "scale").takes_long
    assert [name for name in PREPARED if not (runner.ROOT / name).exists()] == []


def test_the_files_that_take_longest_exist_and_are_begun_first_without_a_change_within_them() -> None:
    assert [name for name in LONGEST if not (runner.ROOT / name).exists() or name in runner.NIGHTLY_E2E] == []
    files = ["tests/unit/test_a.py", LONGEST[1], "tests/unit/test_b.py", LONGEST[0]]
    items = [Collected(runner.ROOT / file, name) for file in files for name in ("z", "a")]
    pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    ordered = [LONGEST[0], LONGEST[1], "tests/unit/test_a.py", "tests/unit/test_b.py"]
    assert items == [Collected(runner.ROOT / file, name) for file in ordered for name in ("z", "a")]
