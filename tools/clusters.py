"""Clusters of DigitalOcean Kubernetes: which there are, how they are, what they cost, and how one is deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from components.api import RefusedError, every, request
from components.cost import REPLICATED_CONTROL_PLANE
from components.lost_answers import is_leaving
from tools.answers import Answer, Health, Question, together
from tools.state import Resource

PATH: Final = "/v2/kubernetes/clusters"
#: Seconds for the end of a cluster with many nodes, and between two looks at it.
_PATIENCE: Final = 900
_PAUSE: Final = 2


def found() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, ID and properties of every cluster that is there to stay; the price is that of nodes and control plane.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    for one in every(PATH, "kubernetes_clusters"):
        if is_leaving(one):
            continue
        nodes = every(f"/v2/droplets?tag_name=k8s:{one['id']}", "droplets")
        price = sum(float(node["size"]["price_monthly"]) for node in nodes)
        price += REPLICATED_CONTROL_PLANE if one.get("ha") else 0.0
        yield one["name"], one["id"], {"priceMonthly": price, "createdAt": one.get("created_at")}


def remove(identifier: str) -> None:
    """Delete a cluster with all that pods have created in the account, and wait for its end: its network needs it.

    Raises:
        RuntimeError: the API refuses, or the cluster is still there after a quarter of an hour.
    """
    if not _is_there(identifier):
        return
    request(f"{PATH}/{identifier}/destroy_with_associated_resources/dangerous", method="DELETE")
    deadline = time.monotonic() + _PATIENCE
    while _is_there(identifier):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the cluster {identifier} is still being deleted after {_PATIENCE // 60} minutes")
        time.sleep(_PAUSE)


def _is_there(identifier: str) -> bool:
    try:
        request(f"{PATH}/{identifier}")
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


def clusters_run(question: Question) -> Answer:
    """How the clusters of the stack's runners are, as DigitalOcean says it, and how many nodes each has."""
    declared = [one for one in question.state.of("KubernetesCluster") if not one.is_pending]
    if not declared:
        return Answer(Health.HEALTHY, "none: no runner of this stack has the kind kubernetes")
    return together({str(one.values.get("name")): partial(_cluster, one) for one in declared}, question.seconds)


def _cluster(declared: Resource) -> Answer:
    try:
        cluster: Mapping[str, Any] = request(f"{PATH}/{declared.id}")["kubernetes_cluster"]
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return Answer(Health.FAILING, "deleted outside of Pulumi: see docs/recipes/kubernetes.md", {"state": None})
        raise
    state = str(cluster["status"]["state"])
    ready, missing, most = 0, 0, 0
    for pool in cluster["node_pools"]:
        running = sum(node["status"]["state"] == "running" for node in pool["nodes"] or [])
        ready, missing = ready + running, missing + max(0, int(pool["count"]) - running)
        most += int(pool["max_nodes"] if pool["auto_scale"] else pool["count"])
    coming = f", {missing} not ready" if missing else ""
    values = {"state": state, "nodes": ready, "missing": missing, "most": most}
    return Answer(_HEALTH.get(state, Health.FAILING), f"{state}, {ready} of at most {most} nodes{coming}", values)


#: What DigitalOcean says of a cluster; it is upgraded in its hours of maintenance.
_HEALTH: Final = {"running": Health.HEALTHY, "upgrading": Health.NOTICE, "provisioning": Health.NOTICE}
