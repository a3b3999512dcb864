"""/v2/databases: clusters of PostgreSQL and Valkey.

What is in a cluster (users, databases, trusted sources) is in `database_contents`. Engines that nothing here runs,
replicas, pools, forks and migrations are refused. Where the words of a refusal are not documented, a comment says so.
"""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import DatabaseCluster, DatabaseUser, MaintenanceWindow, Vpc, now
from tests.sandbox.digitalocean.models import database_catalog as offered
from tests.sandbox.digitalocean.routes.common import (
    Body,
    answer,
    body_of,
    cloud_of,
    gap,
    no_content,
    page,
    succeeded,
    unsupported,
)
from tests.sandbox.digitalocean.routes.database_views import cluster_json, options_json
from tests.sandbox.digitalocean.routes.vpcs import default_vpc
from tests.sandbox.digitalocean.state import addresses
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.database_certificates import authority_of
from tests.sandbox.digitalocean.state.errors import ClusterNotFound, Unprocessable
from tests.sandbox.digitalocean.state.projects import join_default_project, join_project
from tests.sandbox.digitalocean.state.tagging import ensure_tags

#: As in issue 194 of digitalocean/api-v2: no underscores.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])")
MIB = 1024
LACKING = frozenset({"advanced_mysql", "advanced_pg", "kafka", "mongodb", "mysql", "opensearch"})


class NewCluster(Body):
    name: str = ""
    engine: str = ""
    version: str | None = None
    size: str = ""
    region: str = ""
    num_nodes: int = 0
    tags: list[str] | None = None
    private_network_uuid: str | None = None
    project_id: str | None = None
    storage_size_mib: int | None = None
    backup_restore: dict[str, Any] | None = None
    autoscale: dict[str, Any] | None = None


class NewSize(Body):
    size: str = ""
    num_nodes: int = 0
    storage_size_mib: int | None = None


class NewWindow(Body):
    day: str
    hour: str


class NewPolicy(Body):
    eviction_policy: str


def find_cluster(request: Request) -> DatabaseCluster:
    """The cluster of a path."""
    found = cloud_of(request).store.get(DatabaseCluster, request.path_params["cluster_id"])
    if found is None:
        raise ClusterNotFound
    return found


async def list_options(request: Request) -> Response:
    del request
    return answer(options_json())


async def list_clusters(request: Request) -> Response:
    cloud = cloud_of(request)
    clusters = cloud.store.all(DatabaseCluster)
    tag = request.query_params.get("tag_name")
    if tag is not None:
        clusters = [cluster for cluster in clusters if tag in cluster.tags]
    return page(request, "databases", clusters, lambda cluster: cluster_json(cloud, cluster, request))


async def create_cluster(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewCluster)
    if body.backup_restore is not None:
        raise gap(request, "database clusters from backups")
    if body.autoscale is not None:
        raise gap(request, "storage of databases that grows by itself")
    version = _check_engine(request, body)
    _check_name(cloud, body.name)
    size = _check_size(body.size, body.num_nodes)
    if body.region not in offered.REGIONS or body.region in cloud.config.closed_regions:
        raise Unprocessable("invalid region")
    if body.num_nodes > 1:
        raise gap(request, "database clusters with standby nodes")
    with cloud.store.transaction():
        cluster = _make(cloud, body, version, _check_storage(size, body.storage_size_mib))
        if body.project_id:
            join_project(cloud, cluster.urn, body.project_id)
        else:
            join_default_project(cloud, cluster.urn)
        cloud.act("database.create", cluster, type_="create", region=cluster.region, public=False)
    return answer({"database": cluster_json(cloud, cluster, request)}, 201)


def _check_engine(request: Request, body: NewCluster) -> str:
    """The version to run."""
    if body.engine in LACKING:
        raise gap(request, f"database clusters of {body.engine}")
    if body.engine == "redis":
        # As of 2025-04-30; the words are not documented.
        raise Unprocessable("caching clusters can no longer be created")
    if body.engine not in offered.VERSIONS:
        raise Unprocessable("invalid cluster engine")
    version = body.version or offered.DEFAULT_VERSIONS[body.engine]
    if version not in offered.VERSIONS[body.engine]:
        # As seen in pulumi/pulumi-digitalocean#710.
        raise Unprocessable("invalid cluster engine version")
    if version not in offered.RUN_HERE[body.engine]:
        raise gap(request, "versions of PostgreSQL that Debian 13 does not have")
    return version


def _check_name(cloud: Cloud, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Unprocessable("invalid cluster name")
    if cloud.store.where(DatabaseCluster, name=name):
        # Names are unique; the words are not documented.
        raise Unprocessable("cluster name is not available")


def _check_size(slug: str, nodes: int) -> offered.DatabaseSize:
    size = offered.SIZES.get(slug)
    if size is None:
        raise Unprocessable("invalid size")
    if nodes not in size.layouts:
        # The words are not documented.
        raise Unprocessable("invalid number of nodes for this size")
    return size


def _check_storage(size: offered.DatabaseSize, wanted: int | None) -> int:
    smallest, largest = size.storage
    if wanted is None:
        return smallest * MIB
    if not smallest * MIB <= wanted <= largest * MIB or wanted % (10 * MIB):
        # The words are not documented; steps of 10 GiB are.
        raise Unprocessable("invalid storage size")
    return wanted


def _make(cloud: Cloud, body: NewCluster, version: str, storage: int) -> DatabaseCluster:
    vpc = cloud.store.get(Vpc, body.private_network_uuid) if body.private_network_uuid else None
    if body.private_network_uuid and (vpc is None or vpc.region != body.region):
        raise Unprocessable("invalid private network UUID")
    vpc = vpc or default_vpc(cloud, body.region)
    identifier = str(uuid.uuid4())
    owner = f"do:dbaas:{identifier}"
    name = {"pg": "doadmin", "valkey": "default"}[body.engine]
    admin = DatabaseUser(name=name, role="primary", password=f"AVNS_{secrets.token_urlsafe(14)}")
    cluster = DatabaseCluster(
        id=identifier,
        name=body.name,
        engine="pg" if body.engine == "pg" else "valkey",
        version=version,
        size=body.size,
        num_nodes=body.num_nodes,
        region=body.region,
        vpc_uuid=vpc.id,
        storage_size_mib=storage,
        tags=ensure_tags(cloud, body.tags or []),
        users=[admin],
        databases=["defaultdb"] if body.engine == "pg" else [],
        node=cloud.store.next_number("droplet", 510_000_001),
        public_ipv4=addresses.lease(cloud.store, "public", owner),
        anchor_ipv4=addresses.lease(cloud.store, "anchor", owner),
        private_ipv4=addresses.lease_private(cloud.store, vpc, owner),
        created_at=now(),
    )
    cloud.store.put(cluster)
    return cluster


async def show_cluster(request: Request) -> Response:
    return answer({"database": cluster_json(cloud_of(request), find_cluster(request), request)})


async def delete_cluster(request: Request) -> Response:
    cloud, cluster = cloud_of(request), find_cluster(request)
    for pending in cloud.pending_for(cluster):
        await cloud.finished(pending)
    # As for its users, the API has no such cluster from then on; the machine ends a little later.
    action = cloud.act("database.destroy", cluster, type_="destroy", region=cluster.region, public=False)
    succeeded(await cloud.finished(action))
    return no_content()


async def resize_cluster(request: Request) -> Response:
    cloud, cluster = cloud_of(request), online(find_cluster(request))
    body = await body_of(request, NewSize)
    size = _check_size(body.size or cluster.size, body.num_nodes or cluster.num_nodes)
    if (body.num_nodes or cluster.num_nodes) > 1:
        raise gap(request, "database clusters with standby nodes")
    storage = _check_storage(size, body.storage_size_mib or max(cluster.storage_size_mib, size.storage[0] * MIB))
    if storage < cluster.storage_size_mib:
        # Storage only grows; the words are not documented.
        raise Unprocessable("storage size cannot be decreased")
    cluster.status = "resizing"
    with cloud.store.transaction():
        cloud.store.put(cluster)
        params = {"size": size.slug, "storage_size_mib": storage}
        cloud.act("database.resize", cluster, type_="resize", region=cluster.region, public=False, params=params)
    return Response(status_code=202, media_type="application/json")


def online(cluster: DatabaseCluster) -> DatabaseCluster:
    """A cluster that can be changed: to its other routes, one that is being created does not exist yet.

    Seen as `404 cluster not found` in digitalocean-labs/mcp-digitalocean#334, even a moment after `online`.
    """
    if cluster.status == "creating":
        raise ClusterNotFound
    return cluster


async def show_authority(request: Request) -> Response:
    find_cluster(request)
    certificate = authority_of(cloud_of(request).store).certificate
    return answer({"ca": {"certificate": base64.b64encode(certificate.encode()).decode()}})


async def change_window(request: Request) -> Response:
    cluster = find_cluster(request)
    body = await body_of(request, NewWindow)
    if body.day not in offered.DAYS or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", body.hour):
        raise Unprocessable("invalid maintenance window")
    cluster.window = MaintenanceWindow(day=body.day, hour=body.hour if body.hour.count(":") > 1 else f"{body.hour}:00")
    cloud_of(request).store.put(cluster)
    return no_content()


def _valkey(request: Request) -> DatabaseCluster:
    cluster = online(find_cluster(request))
    if cluster.engine != "valkey":
        # As seen in GoogleCloudPlatform/terraformer#1905, about pools.
        raise Unprocessable("operation is not supported for this cluster type")
    return cluster


async def show_policy(request: Request) -> Response:
    return answer({"eviction_policy": _valkey(request).eviction_policy})


async def change_policy(request: Request) -> Response:
    cloud, cluster = cloud_of(request), _valkey(request)
    body = await body_of(request, NewPolicy)
    if body.eviction_policy not in offered.EVICTION_POLICIES:
        raise Unprocessable("invalid eviction policy")
    cluster.eviction_policy = body.eviction_policy
    cloud.store.put(cluster)
    await apply(cloud, cluster)
    return no_content()


async def apply(cloud: Cloud, cluster: DatabaseCluster, **params: Any) -> None:
    """Make the server what the record says, and wait for it. Raises ServerError."""
    action = cloud.act("database.apply", cluster, type_="apply", region=cluster.region, public=False, params=params)
    succeeded(await cloud.finished(action))


_ONE = "/v2/databases/{cluster_id}"
ROUTES = [
    Route("/v2/databases/options", list_options, methods=["GET"]),
    Route("/v2/databases", list_clusters, methods=["GET"]),
    Route("/v2/databases", create_cluster, methods=["POST"]),
    Route(_ONE, show_cluster, methods=["GET"]),
    Route(_ONE, delete_cluster, methods=["DELETE"]),
    Route(f"{_ONE}/ca", show_authority, methods=["GET"]),
    Route(f"{_ONE}/resize", resize_cluster, methods=["PUT"]),
    Route(f"{_ONE}/maintenance", change_window, methods=["PUT"]),
    Route(f"{_ONE}/eviction_policy", show_policy, methods=["GET"]),
    Route(f"{_ONE}/eviction_policy", change_policy, methods=["PUT"]),
    Route(f"{_ONE}/backups", unsupported("backups of databases"), methods=["GET"]),
    Route(f"{_ONE}/config", unsupported("settings of database servers"), methods=["GET", "PATCH"]),
    Route(f"{_ONE}/migrate", unsupported("databases that move to another region"), methods=["PUT"]),
    Route(f"{_ONE}/upgrade", unsupported("upgrades of databases"), methods=["PUT"]),
    Route(f"{_ONE}/pools", unsupported("connection pools"), methods=["GET", "POST"]),
    Route(f"{_ONE}/replicas", unsupported("read-only replicas"), methods=["GET", "POST"]),
]
