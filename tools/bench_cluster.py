"""How long a queue of jobs takes on a cluster, compared with a machine of the size of its nodes.

The machine takes as many jobs at a time as the cluster does on its one node, and all jobs do the same. The cluster
begins without a node, as after a pause, and then takes the same queue again on the node that has come.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

import yaml
from gitlab.v4.objects import Project
from rich.table import Table

from tools.bench_figures import Comparison
from tools.clients import CheckError
from tools.pipelines import pipeline_of, started

#: The project and the runner on Kubernetes.
CLUSTER: Final = "cluster"
#: Jobs in the queue, and at a time.
JOBS: Final = 8
AT_ONCE: Final = 2
#: Keeps one processor busy for about a second, in any image.
_SCRIPT: Final = "head -c 200000000 /dev/zero | sha256sum"
#: Seconds for a queue, with the boot of a node.
_PATIENCE: Final = 1800


def with_cluster(settings: Mapping[str, Any], runner: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with one more project, whose runner has a cluster with a node like the machine of `runner`."""
    shared = {key: runner[key] for key in ("builder", "size", "version") if key in runner}
    further: dict[str, Any] = {
        **shared,
        "name": f"builder-{CLUSTER}",
        "kind": "kubernetes",
        "concurrency": AT_ONCE,
        # So many fit on a node of two processors, of which DigitalOcean's own pods request half of one.
        "cluster": {"maxNodes": 1, "jobCpu": "500m", "jobMemory": "512Mi"},
    }
    return {
        **settings,
        "projects": [*settings["projects"], {"path": CLUSTER, "runners": [further["name"]], "pipeline": False}],
        "runners": [*settings["runners"], further],
    }


def throughput(machine: Project, cluster: Project) -> Comparison:
    """Take the same queue on both, one after the other."""
    seconds = {
        "one machine": take(machine, "machine"),
        "cluster, no node at first": take(cluster, "no-node"),
        "cluster, its node is there": take(cluster, "node"),
    }
    return throughput_table(seconds)


def throughput_table(seconds: Mapping[str, float]) -> Comparison:
    """What the queues have taken, the one on the machine first."""
    machine = next(iter(seconds.values()))
    table = Table(f"{JOBS} jobs, {AT_ONCE} at a time", "Seconds", "Jobs a minute", "÷ machine")
    for title, taken in seconds.items():
        table.add_row(title, f"{taken:.1f}", f"{JOBS * 60 / taken:.1f}", f"{taken / machine:.2f}")
    *_, warm = seconds.values()
    return Comparison(table, {"queue of jobs on a cluster ÷ machine": warm / machine})


def take(project: Project, branch: str) -> float:
    """Seconds from the commit of a pipeline with all jobs, on a branch of its own, to the end of the last one.

    Raises:
        CheckError: a job has failed.
    """
    content = yaml.safe_dump({f"job-{number}": {"script": [_SCRIPT]} for number in range(JOBS)})
    paths = {str(entry["path"]) for entry in project.repository_tree(ref=project.default_branch, get_all=True)}
    kind = "update" if ".gitlab-ci.yml" in paths else "create"
    about = {"branch": branch, "start_branch": project.default_branch, "commit_message": "Fill the queue"}
    actions = [{"action": kind, "file_path": ".gitlab-ci.yml", "content": content}]
    sha = project.commits.create({**about, "actions": actions}).id
    started(project, sha)
    pipeline = pipeline_of(project, sha, _PATIENCE)
    if pipeline.status != "success":
        raise CheckError(f"{project.path_with_namespace}: pipeline {pipeline.status}: {pipeline.web_url}")
    created, finished = (datetime.datetime.fromisoformat(at) for at in (pipeline.created_at, pipeline.finished_at))
    return (finished - created).total_seconds()
