"""Managed databases: how they are, as DigitalOcean says it, and who may reach them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from components.api import RefusedError, request
from tools.answers import Answer, Health, Question, together
from tools.state import Resource

PATH: Final = "/v2/databases"
#: What DigitalOcean says of a cluster; it goes on serving while it is resized, upgraded or moved.
_HEALTH: Final = {
    "online": Health.HEALTHY,
    **dict.fromkeys(("creating", "resizing", "upgrading", "migrating", "forking"), Health.NOTICE),
}


def databases_run(question: Question) -> Answer:
    """How the clusters in the stack's state are, and whether their trusted sources are there."""
    declared = [one for one in question.state.of("DatabaseCluster") if not one.is_pending]
    if not declared:
        return Answer(Health.HEALTHY, "those of GitLab's package")
    return together({str(one.values.get("name")): partial(_cluster, one) for one in declared}, question.seconds)


def _cluster(declared: Resource) -> Answer:
    try:
        cluster: Mapping[str, Any] = request(f"{PATH}/{declared.id}")["database"]
    except RefusedError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            words = "deleted outside of Pulumi: see docs/recipes/managed-databases.md"
            return Answer(Health.FAILING, words, {"status": None})
        raise
    rules = request(f"{PATH}/{declared.id}/firewall")["rules"] or []
    status, nodes = str(cluster["status"]), int(cluster["num_nodes"])
    values = {"status": status, "version": cluster["version"], "nodes": nodes, "trusted": len(rules)}
    text = f"{status}, version {cluster['version']}, {nodes} x {cluster['size']}"
    if not rules:
        return Answer(Health.FAILING, f"{text}, open to the internet: pulumi up --refresh closes it", values)
    return Answer(_HEALTH.get(status, Health.FAILING), text, values)
