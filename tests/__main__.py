"""`python -m tests [STEP …]`: every check and every test, with one summary at the end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / ".cache" / "reports"
#: What the README tells a newcomer to type, in an order that makes sense.
README_COMMANDS = (
    ("up",),
    ("preview",),
    ("demo",),
    ("logs", "WHAT=job"),
    ("recreate",),
    ("pulumi", "ARGS=stack output --stack sandbox"),
    ("drift",),
    ("strays",),
    ("down",),
    ("down",),
)
#: Percentage of lines and branches that the unit tests must reach: rounded down from what they did. Raise it with them.
#: Some of tools/ is a client of a running installation, which only the end-to-end tests run.
FLOORS = {"components": 99, "tools": 84}
COUNTED = ("tests", "failures", "errors", "skipped")
#: Files of a tier are shared out among workers, one for each core.
WORKERS = ("--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile")
#: Seconds for a unit test; those that wait for machines have the time that pyproject.toml says.
QUICK = ("--timeout", "180")
#: Tests of the sandbox wait for services and for time-outs half of their time, so they get one worker more.
WAITING = ("--numprocesses", "3", "--dist", "loadfile")

#: What takes long, and runs in `make nightly` alone.
NIGHTLY = ("tests/sandbox_tests/hub/test_go_repository.py", "tests/sandbox_tests/hub/test_supply_chain.py")
#: The same of the end-to-end tests: upgrades of several stacks over five versions, of which the unit tier has each
#: refusal; what needs programs that `nightly` builds; compilers; servers of databases; images of machines; and files
#: that move.
NIGHTLY_E2E = (
    "tests/e2e/test_golden_image.py",
    "tests/e2e/test_databases_of_a_stack.py",
    "tests/e2e/test_managed_databases.py",
    "tests/e2e/test_move_of_databases.py",
    "tests/e2e/test_object_storage.py",
    "tests/e2e/test_repositories.py",
    "tests/e2e/test_supply_chain.py",
    "tests/e2e/test_upgrades.py",
)
#: The folder of what takes too much time, disk or memory for everything else.
SCALE = "tests/scale"


@dataclass(frozen=True)
class Step:
    """One thing to check.

    A step that is `beside` another one runs while that one does, if both are wanted; its output is shown afterwards.
    One that `takes_long` runs only if it is named.
    """

    name: str
    command: list[str]
    beside: str = ""
    takes_long: bool = False

    @property
    def report(self) -> Path:
        """JUnit file of a pytest step."""
        return REPORTS / f"{self.name}.xml"

    def run(self, output: IO[str] | None = None) -> Result:
        """Run the command. Its output goes to `output`, or to this process's own if there is none."""
        self.report.unlink(missing_ok=True)
        began, errors = time.monotonic(), subprocess.STDOUT if output else None
        done = subprocess.run(self.command, cwd=ROOT, stdout=output, stderr=errors, check=False)
        return Result(self, done.returncode == 0, time.monotonic() - began)


@dataclass(frozen=True)
class Result:
    """How a step ended."""

    step: Step
    succeeded: bool
    seconds: float


def steps() -> list[Step]:
    """In the order of what is quick to know."""
    python = [sys.executable, "-m"]
    tiers = {
        "unit": ["pytest", *WORKERS, *QUICK, "tests/unit", "--cov", "--cov-report="],
        "sandbox": ["pytest", *WAITING, "tests/sandbox_tests", *(f"--ignore={name}" for name in NIGHTLY)],
        "e2e": ["tests.e2e", "--verbose", "--durations=10", *(f"--ignore={name}" for name in NIGHTLY_E2E)],
    }
    pytest = {name: Step(name, [*python, *words, f"--junitxml={REPORTS / name}.xml"]) for name, words in tiers.items()}
    coverage = [*python, "coverage", "report"]
    return [
        Step("lint", [*python, "ruff", "check", "."]),
        Step("format", [*python, "ruff", "format", "--check", "."]),
        Step("types", [*python, "mypy", "."]),
        Step("tools", [*python, "tests.sandbox", "prepare", "--tests"]),
        pytest.pop("unit"),
        *(
            Step(f"coverage-{folder}", [*coverage, f"--include={folder}/*", f"--fail-under={floor}"])
            for folder, floor in FLOORS.items()
        ),
        *pytest.values(),
        Step("faults", [*python, "pytest", "tests/faults", f"--junitxml={REPORTS / 'faults'}.xml"], takes_long=True),
        Step("nightly", [*python, "pytest", *NIGHTLY, f"--junitxml={REPORTS / 'nightly'}.xml"], takes_long=True),
        Step(
            "nightly-e2e",
            [*python, "tests.e2e", "--verbose", *NIGHTLY_E2E, f"--junitxml={REPORTS / 'nightly-e2e'}.xml"],
            takes_long=True,
        ),
        Step(
            "scale",
            [*python, "tests.e2e", "--verbose", SCALE, f"--junitxml={REPORTS / 'scale'}.xml"],
            takes_long=True,
        ),
        # Whatever stack the caller has named: these make and destroy, in the default sandbox, which e2e does not use.
        *_of_readme(python),
    ]


def _of_readme(python: list[str]) -> Iterator[Step]:
    for target, *words in README_COMMANDS:
        yield Step(f"make-{target}", ["make", target, "STACK=sandbox", *words], "e2e")
        if target == "demo":
            # It stays open until Ctrl-C, so something has to use it.
            yield Step("make-open", [*python, "tests.browse"], "e2e")


def run_all(wanted: list[Step]) -> Iterator[Result]:
    """Run every step, also after one has failed; each result comes once the output of its step has been shown."""
    names = {step.name for step in wanted}
    with ThreadPoolExecutor(1) as pool:
        for step in wanted:
            if step.beside in names:
                continue
            aside = [other for other in wanted if other.beside == step.name]
            note = f" (beside it, shown afterwards: {', '.join(other.name for other in aside)})" if aside else ""
            print(f"\n==> {step.name}{note}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                outputs = [Path(folder, str(number)) for number, _ in enumerate(aside)]
                results = pool.map(_run_aside, aside, outputs)
                yield step.run()
                for other, output, result in zip(aside, outputs, results, strict=True):
                    print(f"\n==> {other.name}\n{output.read_text(errors='replace').rstrip()}", flush=True)
                    yield result


def _run_aside(step: Step, output: Path) -> Result:
    with output.open("w") as file:
        return step.run(file)


def main() -> int:
    """Run the steps that are named, or all; the exit code is 1 if any failed."""
    began = time.monotonic()
    available = steps()
    names = sys.argv[1:] or [step.name for step in available if not step.takes_long]
    if unknown := set(names) - {step.name for step in available}:
        known = " ".join(dict.fromkeys(step.name for step in available))
        print(f"error: no such step: {', '.join(sorted(unknown))}. Use one or more of: {known}", file=sys.stderr)
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    results = list(run_all([step for step in available if step.name in names]))
    print("\n==> summary")
    for result in results:
        print(f"{result.step.name:14}{result.seconds:7.1f} s{'' if result.succeeded else '  failed'}")
    print(f"===== {_totals(results)} in {time.monotonic() - began:.2f}s =====")
    return 0 if all(result.succeeded for result in results) else 1


def _totals(results: list[Result]) -> str:
    counts = sum((_counts(result.step.report) for result in results), Counter[str]())
    wrong = counts["failures"] + counts["errors"]
    failed = [result.step.name for result in results if not result.succeeded]
    parts = [f"{wrong} failed"] if wrong else []
    parts.append(f"{counts['tests'] - wrong - counts['skipped']} passed")
    parts += [f"{counts['skipped']} skipped"] if counts["skipped"] else []
    parts += [f"steps failed: {', '.join(failed)}"] if failed else []
    return ", ".join(parts)


def _counts(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter()
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest wrote it just now
    return sum((Counter({name: int(suite.get(name, 0)) for name in COUNTED}) for suite in suites), Counter())


if __name__ == "__main__":
    sys.exit(main())
