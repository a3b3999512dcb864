"""A stack whose runner has a cluster, with the real engine: created, used, taken back, and destroyed in trouble.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gitlab.v4.objects import Project, ProjectPipeline

from tests.e2e.control import Control
from tests.e2e.jobs import log_of, start_job, wait_for_job
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tests.scale.clusters import BOOT, CLUSTERS, SOON, Cluster, account, eventually
from tools.clients import try_run
from tools.environment import ROOT
from tools.pipelines import jobs_of, last_pipeline, pipeline_of, project_of, started

NAME = "slipway-cluster-docker-builder"
#: More jobs than fit on one node of this size.
JOBS = 4
ON_KUBERNETES: dict[str, Any] = {
    "name": RUNNER["name"],
    "kind": "kubernetes",
    "builder": "buildah",
    "concurrency": JOBS,
    "cluster": {"maxNodes": 3, "cacheDays": 7},
}
#: Runs until `/go` exists in its container.
WAITING = {"script": ["until [ -e /go ]; do sleep 0.2; done"]}
NAMESPACE = "--namespace=gitlab-runner-jobs"
BUILD = "--container=build"


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run one of the commands behind the make targets."""
    return try_run(sys.executable, "-m", "tools", *words, timeout=900, cwd=ROOT)


def succeeds(*words: str) -> str:
    """Run one that has to succeed, and return what it prints."""
    done = tool(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def runners_of(project: Project) -> list[str]:
    """The descriptions of the runners that GitLab has for a project."""
    return [one.description for one in project.runners.list(type="project_type", get_all=True)]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with account() as client:
        yield client


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, http: httpx.Client) -> Iterator[Stack]:
    """A stack with one runner, which has a cluster, in a network that is not the default one of its region."""
    http.post("/v2/vpcs", json={"name": "default-fra1", "region": "fra1"}).raise_for_status()
    made = Stack.create(
        "cluster",
        tmp_path_factory.mktemp("stack"),
        SANDBOX,
        domain="cluster.test",
        region="fra1",
        registry={"storage": "filesystem"},
        projects=[{"path": "hello"}],
        runners=[ON_KUBERNETES],
        alerts={"email": ["sandbox@example.com"], "diskPercent": 97},
    )
    try:
        made.up()
        yield made
    finally:
        made.remove()


def cluster_of(http: httpx.Client, folder: Path) -> Cluster:
    """The cluster of the stack's runner, whose nodes go as soon as they are idle instead of after ten minutes."""
    [found] = http.get(CLUSTERS).raise_for_status().json()["kubernetes_clusters"]
    assert found["name"] == NAME
    cluster = Cluster(http, found["id"], folder)
    cluster.sign_in()
    return cluster


@pytest.fixture(scope="module")
def cluster(stack: Stack, http: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    del stack
    return cluster_of(http, tmp_path_factory.mktemp("kubectl"))


def nodes_for_jobs(cluster: Cluster) -> list[str]:
    """The nodes that the cluster has for jobs."""
    selected = cluster.run(
        "get", "nodes", "--selector=slipway-jobs=true", "--output=jsonpath={.items[*].metadata.name}"
    )
    return selected.split()


def start_jobs(project: Project, job: dict[str, Any], count: int) -> ProjectPipeline:
    """Start so many jobs in one pipeline, on a branch of its own."""
    content = yaml.safe_dump({f"job-{number}": job for number in range(count)})
    action = {"action": "update", "file_path": ".gitlab-ci.yml", "content": content}
    about = {"branch": "many", "start_branch": project.default_branch, "commit_message": "Do a lot at once"}
    return started(project, project.commits.create({**about, "actions": [action]}).id)


def let_go(cluster: Cluster, pod: str) -> None:
    """Let a waiting job finish."""
    go = ("exec", NAMESPACE, pod, BUILD, "--", "touch", "/go")
    eventually(lambda: cluster.kubectl(*go).returncode == 0, SOON)


def test_the_pipeline_of_the_stack_is_green_on_a_cluster_and_a_preview_shows_no_change(
    stack: Stack, cluster: Cluster
) -> None:
    pipeline = last_pipeline(project_of(stack.outputs()))
    jobs = jobs_of(pipeline)
    assert pipeline.status == "success", jobs
    assert {"build", "test", "release"} <= jobs.keys()
    assert nodes_for_jobs(cluster), "they have run on a node that came for them"
    assert stack.changes() == {}
    stack.up("--expect-no-changes")


def test_jobs_that_fit_on_no_node_get_more_of_them_which_go_when_they_are_idle(stack: Stack, cluster: Cluster) -> None:
    body = {"name": NAME, "cluster_autoscaler_configuration": {"scale_down_unneeded_time": "3s"}}
    cluster.http.put(cluster.path, json=body).raise_for_status()
    eventually(lambda: nodes_for_jobs(cluster) == [], BOOT)
    project = project_of(stack.outputs())
    pipeline = start_jobs(project, WAITING, JOBS)
    running = ("get", "pods", NAMESPACE, "--field-selector=status.phase=Running", "--output=name")
    eventually(lambda: len(cluster.run(*running).split()) == JOBS, BOOT)
    assert len(nodes_for_jobs(cluster)) > 1
    assert set(jobs_of(pipeline).values()) == {"running"}
    drain = ("drain", nodes_for_jobs(cluster)[0], "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    drained = cluster.kubectl(*drain, "--timeout=5s")
    assert (drained.returncode, "disruption budget" in drained.stderr) == (1, True), drained.stderr
    for pod in cluster.run(*running).split():
        let_go(cluster, pod)
    ended = pipeline_of(project, pipeline.sha)
    assert set(jobs_of(ended).values()) == {"success"}
    eventually(lambda: nodes_for_jobs(cluster) == [], BOOT)
    # What DigitalOcean scales is nobody's change.
    assert stack.changes() == {}
    stack.run("refresh", "--yes", "--skip-preview")
    assert stack.changes() == {}


def test_what_a_job_keeps_is_there_for_the_next_one_on_whatever_node(stack: Stack, cluster: Cluster) -> None:
    del cluster
    project = project_of(stack.outputs())
    job = {"cache": {"key": "kept", "paths": ["kept"]}, "script": ["mkdir -p kept", "ls kept", "touch kept/file"]}
    first = wait_for_job(project, start_job(project, job))
    assert (first.status, "Created cache" in log_of(first)) == ("success", True), log_of(first)
    second = wait_for_job(project, start_job(project, {**job, "script": ["test -e kept/file"]}))
    assert second.status == "success", log_of(second)


def test_the_commands_that_look_at_a_stack_know_its_cluster(stack: Stack, cluster: Cluster) -> None:
    which = ("--stack", stack.name)
    eventually(lambda: nodes_for_jobs(cluster) == [], BOOT)
    assert f"{NAME}: running, 1 of at most 4 nodes" in succeeds("status", *which, "--within", "30")
    assert "gitlab-runner" in succeeds("logs", "runner", *which)
    succeeds("drift", *which)
    succeeds("strays", *which)
    succeeds("verify", *which)


def test_a_runner_that_changes_to_machines_takes_its_cluster_with_it(
    stack: Stack, cluster: Cluster, control: Control
) -> None:
    project = project_of(stack.outputs())
    stack.set(runners=[{**RUNNER, "builder": "buildah"}])
    stack.up()
    eventually(lambda: cluster.http.get(cluster.path).status_code == 404, BOOT)
    assert f"k8s:{cluster.id}" not in str(control.resources()["droplets"])
    assert runners_of(project) == [RUNNER["name"]]
    assert not [urn for urn in stack.resources() if "kubernetes" in urn.lower()]
    assert stack.changes() == {}


def test_a_stack_is_destroyed_although_its_cluster_does_not_answer(
    stack: Stack, http: httpx.Client, control: Control, tmp_path: Path
) -> None:
    stack.set(runners=[ON_KUBERNETES])
    stack.up()
    cluster = cluster_of(http, tmp_path)
    firewall = {"enabled": True, "allowed_addresses": ["198.51.100.7"]}
    http.put(cluster.path, json={"name": NAME, "control_plane_firewall": firewall}).raise_for_status()
    eventually(lambda: cluster.kubectl("get", "nodes", "--request-timeout=2s").returncode != 0, SOON)
    done = tool("down", "--stack", stack.name, "--config-file", str(stack.file), "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing of this stack is left in the account." in done.stdout
    eventually(lambda: NAME not in str(control.resources()), BOOT)
    assert "slipway-cluster" not in str(control.resources())
    succeeds("strays", "--stack", stack.name)
