"""`python -m tools.bench`: times this project's pipeline against the walk-through's, in the sandbox.

Each candidate builds the same sample application, in its own project and on its own runner machine, one after the
other: first with empty caches, then again after a change of one line. The walk-through's file runs twice: on a runner
like the one that the walk-through registers, which keeps nothing between jobs, and on one that this project sets up.
Only the ratios within one run are meaningful; nothing is asserted.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gitlab.v4.objects import Project, ProjectPipeline
from rich.console import Console
from rich.table import Table

from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.clients import FAILURES, CheckError, Outputs
from tools.demo import change
from tools.pipelines import commit, pipeline_of, project_of, started, times_of

NAME = "bench"
AIM = 0.5
WALKTHROUGH = Path(__file__).with_name("walkthrough.gitlab-ci.yml")


@dataclass(frozen=True)
class Candidate:
    """A pipeline on a runner: `path` of its project, and whether it uses this project's pipeline (`own_file`)."""

    path: str
    title: str
    own_file: bool
    keep_layers: bool


CANDIDATES = (
    Candidate("ours", "this project", own_file=True, keep_layers=True),
    Candidate("walk-through", "walk-through, its own runner", own_file=False, keep_layers=False),
    Candidate("mixed", "walk-through, our runner", own_file=False, keep_layers=True),
)


def settings() -> dict[str, object]:
    """A project and a runner for each candidate. The runners accept no untagged jobs until `prepare` allows it."""
    later = {"tags": ["later"], "untagged": False}
    return {
        "domain": f"{NAME}.test",
        "registry": {"storage": "filesystem"},
        "projects": [{"path": one.path, "runners": [f"builder-{one.path}"]} for one in CANDIDATES],
        "runners": [
            {**RUNNER, **later, "name": f"builder-{one.path}", "keepLayers": one.keep_layers} for one in CANDIDATES
        ],
    }


def prepare(outputs: Outputs, candidate: Candidate) -> Project:
    """The candidate's project with its pipeline, not built yet, and a runner that accepts its jobs from now on."""
    exported = next(one for one in outputs.projects if one["url"].endswith(f"/{candidate.path}"))
    project = project_of(outputs, exported)
    if not candidate.own_file:
        text = (
            WALKTHROUGH.read_text()
            .replace("REGISTRY/root/hello", exported["image"])
            .replace("REGISTRY", outputs.registry)
        )
        started(project, commit(project, "main", ".gitlab-ci.yml", text.replace("- tutorial", "- main")))
    for waiting in project.pipelines.list(get_all=True):
        waiting.cancel()
    [runner] = project.runners.list(type="project_type", get_all=True)
    detailed = outputs.gitlab().runners.get(runner.id)
    detailed.run_untagged = True
    detailed.save()
    return project


def compare(outputs: Outputs, repeats: int, console: Console) -> Table:
    """Run all candidates round by round, so that other load on the machine affects them all alike."""
    projects = {one: prepare(outputs, one) for one in CANDIDATES}
    seconds: dict[Candidate, list[float]] = {one: [] for one in CANDIDATES}
    for again in range(repeats + 1):
        for one, project in projects.items():
            sha = change(project) if again else project.pipelines.create({"ref": project.default_branch}).sha
            seconds[one].append(_seconds(_green(project, sha), one, console))
    return _table({one: (taken[0], statistics.median(taken[1:])) for one, taken in seconds.items()})


def _table(seconds: dict[Candidate, tuple[float, float]]) -> Table:
    ours = seconds[CANDIDATES[0]]
    table = Table("Pipeline", "First (s)", "Changed (s)", "Ours ÷ this, first", "Ours ÷ this, changed")
    for one, taken in seconds.items():
        ratios = (f"{our / its:.2f}" for our, its in zip(ours, taken, strict=True))
        table.add_row(one.title, *(f"{its:.1f}" for its in taken), *ratios)
    measured = ours[1] / seconds[CANDIDATES[1]][1]
    table.caption = f"target: at most {AIM} of the walk-through after a change; measured: {measured:.2f}"
    return table


def _green(project: Project, sha: str) -> ProjectPipeline:
    pipeline = pipeline_of(project, sha, 900)
    if pipeline.status != "success":
        raise CheckError(f"{project.path_with_namespace}: pipeline {pipeline.status}: {pipeline.web_url}")
    return pipeline


def _seconds(pipeline: ProjectPipeline, candidate: Candidate, console: Console) -> float:
    """Seconds from the commit to the end of the last job, including waiting."""
    created, finished = (datetime.datetime.fromisoformat(at) for at in (pipeline.created_at, pipeline.finished_at))
    seconds = (finished - created).total_seconds()
    jobs = ", ".join(f"{name} {took:.1f}" for name, took in times_of(pipeline).items())
    console.print(f"{candidate.title}: {seconds:.1f} s ({jobs})", highlight=False)
    return seconds


def main() -> int:
    """Print the table; the exit code is 1 if a pipeline failed."""
    parser = argparse.ArgumentParser(description="Compare this project's pipeline with the walk-through's.")
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        choices=range(1, 10),
        metavar="1…9",
        help="number of runs after a change, of which the median is used",
    )
    repeats = parser.parse_args().repeats
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack.create(NAME, Path(folder), SANDBOX, **settings())
        try:
            console.print("creating a stack with three projects and three runner machines …")
            stack.up()
            console.print(compare(stack.outputs(), repeats, console))
        except FAILURES as error:
            console.print(f"error: {error}", style="red", markup=False, highlight=False)
            return 1
        finally:
            stack.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
