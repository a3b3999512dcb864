"""/v2/kubernetes/clusters/ID/node_pools: the nodes of clusters."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.kubernetes import nodes, seeds
from tests.sandbox.digitalocean.models import KubernetesCluster, Node, NodePool
from tests.sandbox.digitalocean.routes import kubernetes_checks as checks
from tests.sandbox.digitalocean.routes.common import (
    answer,
    body_of,
    cloud_of,
    find,
    no_content,
    page,
    unsupported,
)
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.clusters import ClusterError
from tests.sandbox.digitalocean.state.errors import InvalidCluster, NotFound
from tests.sandbox.digitalocean.state.tagging import ensure_tags


def pool_json(cloud: Cloud, pool: NodePool) -> dict[str, Any]:
    """A pool with its nodes."""
    own = ["k8s", f"k8s:{pool.cluster_id}", "k8s:worker"]
    return {
        "id": pool.id,
        "name": pool.name,
        "size": pool.size,
        "count": pool.count,
        "tags": [*own, *pool.tags],
        "labels": pool.labels or None,
        "taints": [taint.model_dump() for taint in pool.taints],
        "auto_scale": pool.auto_scale,
        "min_nodes": pool.min_nodes,
        "max_nodes": pool.max_nodes,
        "nodes": [_node_json(node) for node in nodes.nodes_of(cloud, pool)],
    }


def _node_json(node: Node) -> dict[str, Any]:
    status = {"state": node.status} | ({"message": node.message} if node.message else {})
    return {
        "id": node.id,
        "name": node.name,
        "status": status,
        "droplet_id": str(node.droplet_id),
        "created_at": node.created_at,
        "updated_at": node.updated_at,
    }


def make_pool(cloud: Cloud, cluster: KubernetesCluster, body: checks.PoolBody) -> NodePool:
    """Store a checked pool. Its nodes are another matter."""
    lowest, highest = (body.min_nodes or 0, body.max_nodes or 0) if body.auto_scale else (0, 0)
    count = body.count if body.count is not None else lowest
    pool = NodePool(
        id=str(uuid.uuid4()),
        cluster_id=cluster.id,
        name=body.name or "",
        size=body.size or "",
        count=min(max(count, lowest), highest) if body.auto_scale else count,
        tags=ensure_tags(cloud, _own_tags(body.tags or [])),
        labels=body.labels or {},
        taints=checks.taints_of(body.taints or []),
        auto_scale=bool(body.auto_scale),
        min_nodes=lowest,
        max_nodes=highest,
    )
    cloud.store.put(pool)
    return pool


def _own_tags(tags: list[str]) -> list[str]:
    """Without those that the service gives itself."""
    return [tag for tag in tags if tag != "k8s" and not tag.startswith("k8s:")]


def _cluster(request: Request) -> KubernetesCluster:
    return find(request, KubernetesCluster, request.path_params["cluster_id"])


def _pool(request: Request, cluster: KubernetesCluster) -> NodePool:
    pool = find(request, NodePool, request.path_params["pool_id"])
    if pool.cluster_id != cluster.id:
        raise NotFound
    return pool


async def list_pools(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(request, "node_pools", nodes.pools_of(cloud, _cluster(request)), lambda pool: pool_json(cloud, pool))


async def create_pool(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _cluster(request)
    body = await body_of(request, checks.PoolBody)
    checks.check_pool(cloud, body, [pool.name for pool in nodes.pools_of(cloud, cluster)])
    first = max(body.count or 0, body.min_nodes or 0)
    checks.check_limits(cloud, first, body.max_nodes or 0 if body.auto_scale else 0)
    with cloud.store.transaction():
        pool = make_pool(cloud, cluster, body)
        # A cluster that is being made gets all its nodes when its control plane is there.
        if cluster.status == "running":
            nodes.adjust(cloud, cluster, pool)
    return answer({"node_pool": pool_json(cloud, pool)}, 201)


async def show_pool(request: Request) -> Response:
    return answer({"node_pool": pool_json(cloud_of(request), _pool(request, _cluster(request)))})


async def change_pool(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _cluster(request)
    pool, body = _pool(request, cluster), await body_of(request, checks.PoolBody)
    merged = checks.PoolBody(
        name=body.name or pool.name,
        size=pool.size,
        count=pool.count if body.count is None else body.count,
        auto_scale=pool.auto_scale if body.auto_scale is None else body.auto_scale,
        min_nodes=pool.min_nodes if body.min_nodes is None else body.min_nodes,
        max_nodes=pool.max_nodes if body.max_nodes is None else body.max_nodes,
    )
    others = [other.name for other in nodes.pools_of(cloud, cluster) if other.id != pool.id]
    checks.check_pool(cloud, merged, others)
    have = len(nodes.staying(cloud, pool))
    most = (merged.max_nodes or 0) - have if merged.auto_scale else 0
    checks.check_limits(cloud, (merged.count or 0) - have, most)
    _apply(cloud, pool, body, merged)
    with cloud.store.transaction():
        cloud.store.put(pool)
        if cluster.status == "running":
            nodes.adjust(cloud, cluster, pool)
    await _mark(cloud, cluster, pool)
    return answer({"node_pool": pool_json(cloud, pool)}, 202)


def _apply(cloud: Cloud, pool: NodePool, body: checks.PoolBody, merged: checks.PoolBody) -> None:
    pool.name, pool.auto_scale = merged.name or "", bool(merged.auto_scale)
    pool.min_nodes, pool.max_nodes = (merged.min_nodes or 0, merged.max_nodes or 0) if pool.auto_scale else (0, 0)
    count = merged.count or 0
    pool.count = min(max(count, pool.min_nodes), pool.max_nodes) if pool.auto_scale else count
    if body.tags is not None:
        pool.tags = ensure_tags(cloud, _own_tags(body.tags))
    if body.labels is not None:
        pool.labels = body.labels
    if body.taints is not None:
        pool.taints = checks.taints_of(body.taints)


async def _mark(cloud: Cloud, cluster: KubernetesCluster, pool: NodePool) -> None:
    """Labels and taints reach the nodes that there are; new ones bring them along."""
    for node in nodes.staying(cloud, pool):
        marks = nodes.marks_of(cloud, cluster, node) if node.status == "running" else None
        if marks is not None:
            try:
                await cloud.backend.clusters.mark_node(seeds.access(cluster), node.name, marks)
            except ClusterError as error:
                raise InvalidCluster(f"node {node.name} cannot be changed: {error}") from error


async def delete_pool(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _cluster(request)
    pool = _pool(request, cluster)
    if len(nodes.pools_of(cloud, cluster)) == 1:
        # The rule is documented, its words are not.
        raise InvalidCluster("a cluster must have at least one node pool")
    with cloud.store.transaction():
        for node in nodes.nodes_of(cloud, pool):
            nodes.remove_node(cloud, node, drain=True)
        cloud.store.delete(pool)
    return no_content()


async def delete_node(request: Request) -> Response:
    """Take away one node. With `replace` its pool gets another, otherwise it becomes smaller."""
    cloud, cluster = cloud_of(request), _cluster(request)
    pool, node = _pool(request, cluster), find(request, Node, request.path_params["node_id"])
    if node.pool_id != pool.id:
        raise NotFound
    replace, skip_drain = (request.query_params.get(name, "0") in ("1", "true") for name in ("replace", "skip_drain"))
    with cloud.store.transaction():
        if not replace and node.status != "deleting":
            if pool.auto_scale and pool.count <= pool.min_nodes:
                raise InvalidCluster("worker_node_pool_spec.count must be greater than or equal to min nodes")
            pool.count -= 1
            cloud.store.put(pool)
        nodes.remove_node(cloud, node, drain=not skip_drain)
        if replace:
            nodes.adjust(cloud, cluster, pool)
    return answer({}, 202)


_POOLS = "/v2/kubernetes/clusters/{cluster_id}/node_pools"
ROUTES = [
    Route(_POOLS, list_pools, methods=["GET"]),
    Route(_POOLS, create_pool, methods=["POST"]),
    Route(_POOLS + "/{pool_id}", show_pool, methods=["GET"]),
    Route(_POOLS + "/{pool_id}", change_pool, methods=["PUT"]),
    Route(_POOLS + "/{pool_id}", delete_pool, methods=["DELETE"]),
    Route(_POOLS + "/{pool_id}/nodes/{node_id}", delete_node, methods=["DELETE"]),
    Route(_POOLS + "/{pool_id}/recycle", unsupported("recycling of node pools, which is deprecated"), methods=["POST"]),
]
