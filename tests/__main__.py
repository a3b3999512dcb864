"""`python -m tests`: every check and every test, each shown as it runs, with one summary at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / ".cache" / "reports"
#: What the README tells a newcomer to type, in an order that makes sense.
README_COMMANDS = (
    ("up",),
    ("preview",),
    ("demo",),
    ("pulumi", "ARGS=stack output --stack sandbox"),
    ("down",),
    ("down",),
)
COUNTED = ("tests", "failures", "errors", "skipped")


@dataclass(frozen=True)
class Step:
    """One thing to check; left out where the folder `needs` is not there."""

    name: str
    command: list[str]
    needs: str = "."

    @property
    def report(self) -> Path:
        """JUnit file of a pytest step."""
        return REPORTS / f"{self.name}.xml"


def _pytest(name: str, folder: str, *prefix: str) -> Step:
    command = [*prefix, sys.executable, "-m", "pytest", folder, f"--junitxml={REPORTS / name}.xml"]
    return Step(name, command, folder)


def steps() -> list[Step]:
    """In the order of what is quick to know."""
    python = [sys.executable, "-m"]
    sandbox = [*python, "tests.sandbox"]
    return [
        Step("lint", [*python, "ruff", "check", "."]),
        Step("format", [*python, "ruff", "format", "--check", "."]),
        Step("types", [*python, "mypy", "."]),
        Step("tools", [*sandbox, "prepare", "--tests"]),
        _pytest("unit", "tests/unit"),
        _pytest("sandbox", "tests/sandbox_tests"),
        Step("start", [*sandbox, "start"]),
        _pytest("e2e", "tests/e2e", *sandbox, "exec", "--"),
        # Whatever stack the caller has named: these make and destroy.
        *(Step(f"make-{target}", ["make", target, "STACK=sandbox", *words]) for target, *words in README_COMMANDS),
    ]


def main() -> int:
    """Run all steps, also after one has failed; the exit code is 1 if any did."""
    began, failed, counts = time.monotonic(), list[str](), Counter[str]()
    REPORTS.mkdir(parents=True, exist_ok=True)
    wanted = [step for step in steps() if (ROOT / step.needs).is_dir() and step.name in (sys.argv[1:] or [step.name])]
    for step in wanted:
        print(f"\n==> {step.name}", flush=True)
        step.report.unlink(missing_ok=True)
        if subprocess.run(step.command, cwd=ROOT, check=False).returncode:
            failed.append(step.name)
        counts.update(_counts(step.report))
    print(f"\n==> summary: {', '.join(step.name for step in wanted)}")
    wrong = counts["failures"] + counts["errors"]
    parts = [f"{wrong} failed"] if wrong else []
    parts.append(f"{counts['tests'] - wrong - counts['skipped']} passed")
    parts += [f"{counts['skipped']} skipped"] if counts["skipped"] else []
    parts += [f"steps failed: {', '.join(failed)}"] if failed else []
    print(f"===== {', '.join(parts)} in {time.monotonic() - began:.2f}s =====")
    return 1 if failed else 0


def _counts(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter()
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest wrote it just now
    return sum((Counter({name: int(suite.get(name, 0)) for name in COUNTED}) for suite in suites), Counter())


if __name__ == "__main__":
    sys.exit(main())
