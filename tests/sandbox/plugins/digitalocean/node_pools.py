"""Node pools of Kubernetes clusters. The first one of a cluster is a part of it; a tag tells it from the others."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, PluginError, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import given, session_of

#: How the official plugin finds the pool that it has made together with its cluster.
DEFAULT_POOL = "terraform:default-node-pool"
#: Seconds that the official plugin waits for a cluster or a pool.
PATIENCE = 1800
CLUSTERS = "/v2/kubernetes/clusters"

POOL_FIELDS: Fields = {
    "name": Field(required=True),
    "size": Field(required=True),
    "nodeCount": Field(Kind.INTEGER, computed=True),
    "autoScale": Field(Kind.BOOLEAN, default=False),
    "minNodes": Field(Kind.INTEGER, computed=True),
    "maxNodes": Field(Kind.INTEGER, computed=True),
    "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
    "labels": Field(Kind.MAP, items=Kind.STRING),
    "taints": Field(
        Kind.LIST,
        unordered=True,
        fields={
            "key": Field(required=True),
            "value": Field(required=True),
            "effect": Field(required=True, choices=("NoSchedule", "PreferNoSchedule", "NoExecute")),
        },
    ),
}
_POOL_NAMES = {
    "name": "name",
    "size": "size",
    "nodeCount": "count",
    "autoScale": "auto_scale",
    "minNodes": "min_nodes",
    "maxNodes": "max_nodes",
    "labels": "labels",
    "taints": "taints",
}


def own_tags(tags: list[str]) -> list[str]:
    """Without those that the service and the plugin give themselves."""
    return [tag for tag in tags if tag != "k8s" and not tag.startswith(("k8s:", "terraform:"))]


def pool_body(inputs: Properties, *own: str) -> Properties:
    """A new pool, as the API takes it."""
    return given(inputs, _POOL_NAMES) | {"tags": [*(inputs.get("tags") or []), *own]}


def change_body(inputs: Properties, *own: str) -> Properties:
    """What is said of a pool in a request that changes it: everything, so that what is no longer given goes."""
    body = pool_body(inputs, *own)
    body.pop("size", None)
    return {"labels": {}, "taints": [], "auto_scale": False} | body


def pool_state(pool: Properties) -> Properties:
    """A pool of the API, as it is in a state."""
    nodes = [
        {
            "id": node["id"],
            "name": node["name"],
            "status": node["status"]["state"],
            "dropletId": node["droplet_id"],
            "createdAt": node["created_at"],
            "updatedAt": node["updated_at"],
        }
        for node in pool["nodes"] or []
    ]
    return {
        "name": pool["name"],
        "size": pool["size"],
        "nodeCount": pool["count"],
        "actualNodeCount": pool["count"],
        "autoScale": pool["auto_scale"],
        "minNodes": pool["min_nodes"],
        "maxNodes": pool["max_nodes"],
        "tags": own_tags(pool["tags"]),
        "labels": pool["labels"] or None,
        "taints": pool["taints"] or [],
        "nodes": nodes,
    }


def wait_for_pool(call: Call, cluster_id: str, pool_id: str) -> None:
    """Wait until all nodes of a pool run."""

    def complete() -> bool:
        pool = session_of(call).get(f"{CLUSTERS}/{cluster_id}/node_pools/{pool_id}")["node_pool"]
        nodes = pool["nodes"] or []
        return len(nodes) == pool["count"] and all(node["status"]["state"] == "running" for node in nodes)

    call.wait_until(f"node pool {pool_id} to run", complete, timeout=PATIENCE)


class KubernetesNodePool(Resource):
    """A further pool of a cluster."""

    full_name = "digitalocean:index/kubernetesNodePool:KubernetesNodePool"
    autoname = True
    inputs: ClassVar[Fields] = {
        **POOL_FIELDS,
        "name": Field(),
        "clusterId": Field(required=True, replace=True),
        "size": Field(required=True, replace=True),
    }
    outputs = ("actualNodeCount", "nodes")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Make it and wait. As with the official plugin, one that does not come up is not in the state."""
        path = f"{CLUSTERS}/{inputs['clusterId']}/node_pools"
        identifier = session_of(call).post(path, pool_body(inputs))["node_pool"]["id"]
        wait_for_pool(call, inputs["clusterId"], identifier)
        return identifier, pool_state(session_of(call).get(f"{path}/{identifier}")["node_pool"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        cluster_id = state.get("clusterId") or self._cluster_of(call, identifier)
        found = session_of(call).find(f"{CLUSTERS}/{cluster_id}/node_pools/{identifier}")
        return (identifier, pool_state(found["node_pool"]) | {"clusterId": cluster_id}) if found else None

    def _cluster_of(self, call: Call, identifier: str) -> str:
        for cluster in session_of(call).every(CLUSTERS, "kubernetes_clusters"):
            for pool in cluster["node_pools"]:
                if pool["id"] != identifier:
                    continue
                if DEFAULT_POOL in pool["tags"]:
                    raise PluginError(
                        f"Node pool {identifier} has the default node pool tag set; import the owning "
                        f"digitalocean_kubernetes_cluster resource instead (cluster ID={cluster['id']})"
                    )
                return str(cluster["id"])
        raise PluginError(f"Did not find the cluster owning the node pool {identifier}")

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        path = f"{CLUSTERS}/{inputs['clusterId']}/node_pools/{identifier}"
        session_of(call).put(path, change_body(inputs))
        wait_for_pool(call, inputs["clusterId"], identifier)
        return pool_state(session_of(call).get(path)["node_pool"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        path = f"{CLUSTERS}/{state['clusterId']}/node_pools/{identifier}"
        session_of(call).delete(path, missing_ok=True)
        call.wait_until(
            f"node pool {identifier} to be gone", lambda: session_of(call).find(path) is None, timeout=PATIENCE
        )
