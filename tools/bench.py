"""Times pipelines, updates and previews against others in the same run.

Each candidate builds the same sample application, in its own project and on its own runner machine, one after the
other: first with empty caches, then again after a change of one line. The walk-through's file runs twice: on a runner
like the one that the walk-through registers, which keeps nothing between jobs, and on one that this project sets up.

The stack is then destroyed, except for the data that it keeps, and created again. Its first update is compared with the
operations that it is made of, and a preview without a change with that of an empty program.

Only the ratios within one run are meaningful; nothing is asserted.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gitlab.v4.objects import Project, ProjectPipeline
from rich.console import Console
from rich.table import Table

from tools.bench_cluster import CLUSTER, throughput, with_cluster
from tools.bench_figures import Comparison, record, summary
from tools.bench_graph import EVENTS, EmptyProgram, Operations, graph_table
from tools.bench_recreate import golden_images, recreation
from tools.clients import FAILURES, CheckError, Outputs
from tools.demo import change
from tools.pipelines import commit, pipeline_of, project_of, started, times_of
from tools.stack import Stack, stack_file

NAME = "bench"
#: Reserved for tests (RFC 6761): no installation that is in use has it.
DOMAIN = f"{NAME}.test"
#: How often the updates without a change are timed. The fastest counts: everything else on the machine only adds to it.
_ROUNDS = 5
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


def settings(runner: dict[str, Any], *, pipelines: bool) -> dict[str, object]:
    """A project and a runner like `runner` for each candidate, with the stack's pipeline where it is to be measured."""
    return {
        "domain": DOMAIN,
        "removal": "keep-data",
        "registry": {"storage": "filesystem"},
        "projects": [
            {"path": one.path, "runners": [f"builder-{one.path}"], "pipeline": pipelines and one.own_file}
            for one in CANDIDATES
        ],
        "runners": [
            {**runner, "name": f"builder-{one.path}", "keepLayers": one.keep_layers, "dockerHubCache": one.keep_layers}
            for one in CANDIDATES
        ],
    }


def pause(project: Project, outputs: Outputs, *, paused: bool) -> None:
    """Have the project's runner take no jobs, or take them again: nothing is to be built before it is timed."""
    [runner] = project.runners.list(type="project_type", get_all=True)
    detailed = outputs.gitlab().runners.get(runner.id)
    detailed.paused = paused
    detailed.save()


def candidate_project(outputs: Outputs, candidate: Candidate) -> Project:
    """The candidate's project."""
    return project_of(outputs, _output_of(outputs, candidate))


def _output_of(outputs: Outputs, candidate: Candidate) -> dict[str, str]:
    return next(one for one in outputs.projects if one["url"].endswith(f"/{candidate.path}"))


def prepare(outputs: Outputs, candidate: Candidate) -> Project:
    """The candidate's project with its pipeline, not built yet, and a runner that accepts its jobs from now on."""
    project = candidate_project(outputs, candidate)
    if not candidate.own_file:
        text = WALKTHROUGH.read_text().replace("REGISTRY/root/hello", _output_of(outputs, candidate)["image"])
        text = text.replace("REGISTRY", outputs.registry).replace("- tutorial", "- main")
        started(project, commit(project, "main", ".gitlab-ci.yml", text, action="create"))
    for waiting in project.pipelines.list(get_all=True):
        waiting.cancel()
    pause(project, outputs, paused=False)
    return project


def compare(outputs: Outputs, repeats: int, console: Console) -> Comparison:
    """Run all candidates round by round, so that other load on the machine affects them all alike."""
    projects = {one: prepare(outputs, one) for one in CANDIDATES}
    seconds: dict[Candidate, list[float]] = {one: [] for one in CANDIDATES}
    for again in range(repeats + 1):
        for one, project in projects.items():
            sha = change(project) if again else project.pipelines.create({"ref": project.default_branch}).sha
            seconds[one].append(_seconds(_green(project, sha), one, console))
    return pipeline_table({one: (taken[0], statistics.median(taken[1:])) for one, taken in seconds.items()})


def pipeline_table(seconds: dict[Candidate, tuple[float, float]]) -> Comparison:
    """What the first pipeline of each candidate and those after a change have taken."""
    ours = seconds[CANDIDATES[0]]
    table = Table("Pipeline", "First (s)", "Changed (s)", "Ours ÷ this, first", "Ours ÷ this, changed")
    for one, taken in seconds.items():
        shares = (f"{our / its:.2f}" for our, its in zip(ours, taken, strict=True))
        table.add_row(one.title, *(f"{its:.1f}" for its in taken), *shares)
    ratios = {}
    for one, other in zip(CANDIDATES[1:], ("walk-through", "walk-through on our runner"), strict=True):
        for our, its, build in zip(ours, seconds[one], ("first", "changed"), strict=True):
            ratios[f"pipeline ÷ {other}, {build}"] = our / its
    return Comparison(table, ratios)


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


def bench(stack: str, repeats: int, *, kubernetes: bool = False, recorded: bool = False) -> int:
    """Print the tables, and all ratios in one; 0 if everything succeeded, else 1.

    Deploys a stack of its own with the settings of `stack` and destroys it at the end. `repeats` is the number of
    builds after a change; their median counts. With `kubernetes`, a cluster is compared with a machine as well. The
    ratios are `recorded` if that is wanted.
    """
    console = Console(width=None if sys.stdout.isatty() else 120)
    ratios: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for one in _measure(stack_file(stack), Path(folder), repeats, console, kubernetes=kubernetes):
                console.print(one.table)
                ratios.update(one.ratios)
    except FAILURES as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    console.print(summary(ratios))
    if recorded:
        record(ratios)
    return 0


def unchanged(stack: Stack, folder: Path) -> Comparison:
    """A preview and an update that find nothing to do, compared with a program that declares nothing."""
    empty = EmptyProgram.create(folder / "empty")
    seconds: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for title, run in (
            ("preview of an empty program", empty.preview),
            ("preview", lambda: stack.run("preview")),
            ("update without a change", stack.up),
        ):
            seconds.setdefault(title, []).append(_timed(run))
    return unchanged_table({title: min(taken) for title, taken in seconds.items()})


def unchanged_table(seconds: dict[str, float]) -> Comparison:
    """What the three have taken, the empty program first."""
    floor, preview, update = seconds.values()
    table = Table("Without a change", "Seconds", "÷ empty program")
    for title, taken in seconds.items():
        table.add_row(title, f"{taken:.2f}", f"{taken / floor:.2f}")
    ratios = {
        "preview ÷ that of an empty program": preview / floor,
        "update without a change ÷ preview of an empty program": update / floor,
    }
    return Comparison(table, ratios)


def _timed(update: Callable[[], object]) -> float:
    began = time.monotonic()
    update()
    return time.monotonic() - began


def _removed(stack: Stack) -> bool:
    """Destroy the stack with its data: one update lifts the protection."""
    stack.set(removal="everything")
    return stack.attempt("up", "--yes", "--skip-preview").returncode == 0 and stack.remove()


def _on_kubernetes(stack: Stack, runner: dict[str, Any]) -> Comparison:
    """Compare a cluster with the machine that has built for the first candidate, and delete it again."""
    machines = settings(runner, pipelines=True)
    stack.set(**with_cluster(machines, runner))
    stack.up()
    outputs = stack.outputs()
    on_cluster = next(one for one in outputs.projects if one["url"].endswith(f"/{CLUSTER}"))
    try:
        return throughput(candidate_project(outputs, CANDIDATES[0]), project_of(outputs, on_cluster))
    finally:
        stack.set(**machines)
        stack.up()


def _measure(template: Path, folder: Path, repeats: int, console: Console, *, kubernetes: bool) -> Iterator[Comparison]:
    runners = yaml.safe_load(template.read_text())["config"].get("slipway:runners")
    if not runners:
        raise CheckError(f"{template} has no runner to build with: add one under slipway:runners")
    stack = Stack.create(NAME, folder, template, **settings(runners[0], pipelines=False))
    try:
        console.print("creating a stack with three projects and three runner machines …")
        with Operations.recorded(folder) as operations:
            new = _timed(lambda: stack.up("--event-log", str(operations.file), environment=EVENTS))
        yield graph_table(new, operations.seconds, stack.resources())
        console.print("previewing it, and updating it without a change …")
        yield unchanged(stack, folder)
        outputs = stack.outputs()
        for one in CANDIDATES:
            pause(candidate_project(outputs, one), outputs, paused=True)
        stack.set(**settings(runners[0], pipelines=True))
        stack.up()
        yield compare(outputs, repeats, console)
        if kubernetes:
            console.print("creating a cluster …")
            yield _on_kubernetes(stack, runners[0])
        console.print("destroying it, except for its data, and creating it again …")
        destroyed, again = _timed(stack.destroy), _timed(stack.up)
        console.print("the same from golden images …")
        with golden_images(stack) as images:
            stack.set(**images)
            yield recreation(new, destroyed, again, (_timed(stack.destroy), _timed(stack.up)))
    finally:
        if not _removed(stack):
            console.print(f"stack {NAME} could not be destroyed, and is still there: run pulumi destroy --stack {NAME}")
