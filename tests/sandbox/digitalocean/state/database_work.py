"""What happens to managed databases once a request is accepted. As in `work`, every handler can run again."""

from __future__ import annotations

from ipaddress import IPv4Network

from tests.sandbox.digitalocean.models import Action, DatabaseCluster, Vpc
from tests.sandbox.digitalocean.models.database_catalog import SIZES
from tests.sandbox.digitalocean.state import addresses, backend
from tests.sandbox.digitalocean.state.cloud import Cloud, Handler
from tests.sandbox.digitalocean.state.database_certificates import authority_of, issue
from tests.sandbox.digitalocean.state.projects import leave_projects

#: What the nodes run on: the release whose PostgreSQL and Valkey `database_catalog` lists.
IMAGE = "debian-13-x64"


def _cluster(cloud: Cloud, action: Action) -> DatabaseCluster | None:
    return cloud.store.get(DatabaseCluster, action.owner_key)


def _node(cloud: Cloud, cluster: DatabaseCluster) -> backend.MachineSpec:
    vpc, size = cloud.store.get(Vpc, cluster.vpc_uuid), SIZES[cluster.size]
    return backend.MachineSpec(
        id=cluster.node,
        name=cluster.name,
        image=IMAGE,
        vcpus=size.vcpus,
        memory_mb=size.memory,
        disk_gb=cluster.storage_size_mib // 1024,
        public_ipv4=cluster.public_ipv4,
        anchor_ipv4=cluster.anchor_ipv4,
        private_ipv4=cluster.private_ipv4,
        vpc_cidr=str(IPv4Network(vpc.ip_range)) if vpc else None,
        region=cluster.region,
    )


def _certificate(cloud: Cloud, cluster: DatabaseCluster) -> tuple[str, str]:
    """As documented: clients of Valkey need no authority of the account's, because Let's Encrypt signs for it."""
    hosts = [cluster.host(), cluster.host(private=True)]
    if cluster.engine == "valkey" and cloud.config.certify:
        return cloud.config.certify(hosts)
    return issue(authority_of(cloud.store), hosts)


def _server(cloud: Cloud, cluster: DatabaseCluster, action: Action) -> backend.DatabaseServer:
    size = SIZES[cluster.size]
    certificate, key = _certificate(cloud, cluster)
    return backend.DatabaseServer(
        engine=cluster.engine,
        version=cluster.version,
        port=cluster.port,
        connections=size.connections,
        memory_mb=size.memory,
        certificate=certificate,
        private_key=key,
        users={user.name: user.password for user in cluster.users},
        databases=tuple(cluster.databases),
        dropped_users=tuple(action.params.get("dropped_users", ())),
        dropped_databases=tuple(action.params.get("dropped_databases", ())),
        eviction_policy=cluster.eviction_policy.replace("_", "-"),
    )


def _set_status(cloud: Cloud, cluster_id: str, status: str) -> None:
    if cluster := cloud.store.get(DatabaseCluster, cluster_id):
        cluster.status = status
        cloud.store.put(cluster)


async def create(cloud: Cloud, action: Action) -> None:
    """Boot the node behind its trusted sources and start the server."""
    cluster = _cluster(cloud, action)
    if cluster is None:
        return
    cloud.network.changed()
    await cloud.network.in_force()
    await cloud.backend.create_machine(_node(cloud, cluster))
    await cloud.backend.apply_database(cluster.node, _server(cloud, cluster, action))
    _set_status(cloud, cluster.id, "online")


async def apply(cloud: Cloud, action: Action) -> None:
    """Make the server what the record says."""
    if cluster := _cluster(cloud, action):
        await cloud.backend.apply_database(cluster.node, _server(cloud, cluster, action))


async def resize(cloud: Cloud, action: Action) -> None:
    """Give the node another size, and the server the limits that belong to it."""
    cluster = _cluster(cloud, action)
    if cluster is None:
        return
    cluster.size, cluster.storage_size_mib = action.params["size"], action.params["storage_size_mib"]
    size = SIZES[cluster.size]
    await cloud.backend.resize_machine(cluster.node, size.vcpus, size.memory, cluster.storage_size_mib // 1024)
    await cloud.backend.apply_database(cluster.node, _server(cloud, cluster, action))
    if found := cloud.store.get(DatabaseCluster, cluster.id):
        found.size, found.storage_size_mib, found.status = cluster.size, cluster.storage_size_mib, "online"
        cloud.store.put(found)


async def destroy(cloud: Cloud, action: Action) -> None:
    """End the node with everything on it, then forget the cluster."""
    cluster = _cluster(cloud, action)
    if cluster is None:
        return
    await cloud.backend.destroy_machine(cluster.node)
    with cloud.store.transaction():
        addresses.release(cloud.store, cluster.urn)
        leave_projects(cloud, cluster.urn)
        cloud.store.delete(cluster)
    cloud.network.changed()
    await cloud.network.in_force()


HANDLERS: dict[str, Handler] = {
    "database.create": create,
    "database.apply": apply,
    "database.resize": resize,
    "database.destroy": destroy,
}
