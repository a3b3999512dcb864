"""What becomes of clusters and nodes once they are accepted. Every handler can run again from its start."""

from __future__ import annotations

import asyncio
import logging

from tests.sandbox.digitalocean.kubernetes import nodes, seeds
from tests.sandbox.digitalocean.models import (
    Action,
    Droplet,
    Firewall,
    KubernetesCluster,
    KubernetesToken,
    Node,
    Vpc,
    now,
)
from tests.sandbox.digitalocean.state import addresses, work
from tests.sandbox.digitalocean.state.backend import MachineSpec
from tests.sandbox.digitalocean.state.cloud import Cloud, Handler
from tests.sandbox.digitalocean.state.clusters import ClusterError
from tests.sandbox.digitalocean.state.projects import leave_projects

log = logging.getLogger(__name__)

#: Size of a control plane: processors, memory in MB, disk in GB.
_CONTROL_PLANE = (2, 3072, 25)


def firewall_name(cluster: KubernetesCluster) -> str:
    """The firewall that the service keeps on the nodes of a cluster."""
    return f"k8s-{cluster.id}-worker"


def _set_status(cloud: Cloud, cluster_id: str, status: str, message: str = "") -> None:
    if cluster := cloud.store.get(KubernetesCluster, cluster_id):
        cluster.status, cluster.message, cluster.updated_at = status, message, now()
        cloud.store.put(cluster)


async def create_cluster(cloud: Cloud, action: Action) -> None:
    """Boot the control plane, then the first nodes; the cluster runs when they are ready."""
    cluster = cloud.store.get(KubernetesCluster, action.owner_key)
    if cluster is None:
        return
    try:
        await _boot_control_plane(cloud, cluster)
        if (current := cloud.store.get(KubernetesCluster, cluster.id)) and current.status == "provisioning":
            for pool in nodes.pools_of(cloud, cluster):
                nodes.adjust(cloud, cluster, pool)
            first = [one for one in cloud.store.where(Node, cluster_id=cluster.id) if one.status == "provisioning"]
            made = [act for node in first for act in cloud.pending_for(node)]
            await asyncio.gather(*(cloud.finished(one) for one in made))
            if (current := cloud.store.get(KubernetesCluster, cluster.id)) and current.status == "provisioning":
                _set_status(cloud, cluster.id, "running")
    except (ClusterError, RuntimeError, OSError) as error:
        log.exception("cluster %s", cluster.id)
        _set_status(cloud, cluster.id, "error", str(error))
        raise


async def _boot_control_plane(cloud: Cloud, cluster: KubernetesCluster) -> None:
    await cloud.backend.prepare_kubernetes(nodes.kubernetes_version(cluster.version))
    cloud.network.changed()
    await cloud.network.in_force()
    vpc = cloud.store.get(Vpc, cluster.vpc_uuid)
    vcpus, memory, disk = _CONTROL_PLANE
    await cloud.backend.create_machine(
        MachineSpec(
            id=cluster.machine_id,
            name=f"control-plane-{cluster.id[:8]}",
            image=nodes.image(cluster),
            vcpus=vcpus,
            memory_mb=memory,
            disk_gb=disk,
            public_ipv4=cluster.public_ipv4,
            anchor_ipv4=cluster.anchor_ipv4,
            private_ipv4=cluster.private_ipv4,
            vpc_cidr=vpc.ip_range if vpc else None,
            user_data=seeds.control_plane(cluster),
            region=cluster.region,
        )
    )
    # The firewall of a machine is in force once the machine is known.
    cloud.network.changed()
    await cloud.network.in_force()
    await cloud.backend.clusters.answered(seeds.access(cluster))


async def delete_cluster(cloud: Cloud, action: Action) -> None:
    """End all nodes, the control plane, and everything that the service keeps for them."""
    cluster = cloud.store.get(KubernetesCluster, action.owner_key)
    if cluster is None:
        return
    for other in cloud.pending_for(cluster):
        if other.id != action.id:
            await cloud.finished(other)
    for node in cloud.store.where(Node, cluster_id=cluster.id):
        nodes.remove_node(cloud, node, drain=False)
    pending = [one for node in cloud.store.where(Node, cluster_id=cluster.id) for one in cloud.pending_for(node)]
    await asyncio.gather(*(cloud.finished(one) for one in pending))
    await cloud.backend.destroy_machine(cluster.machine_id)
    with cloud.store.transaction():
        for record in (
            *cloud.store.where(Node, cluster_id=cluster.id),
            *nodes.pools_of(cloud, cluster),
            *cloud.store.where(KubernetesToken, cluster_id=cluster.id),
            *cloud.store.where(Firewall, name=firewall_name(cluster)),
        ):
            cloud.store.delete(record)
        addresses.release(cloud.store, cluster.urn)
        leave_projects(cloud, cluster.urn)
        cloud.store.delete(cluster)
    cloud.network.changed()
    await cloud.network.in_force()


async def create_node(cloud: Cloud, action: Action) -> None:
    """Boot the droplet of a node, and wait until the cluster has it."""
    node = cloud.store.get(Node, action.owner_key)
    droplet = cloud.store.get(Droplet, node.droplet_id) if node else None
    cluster = cloud.store.get(KubernetesCluster, node.cluster_id) if node else None
    if node is None or droplet is None or cluster is None:
        return
    cloud.network.changed()
    await cloud.network.in_force()
    await cloud.backend.create_machine(work.machine_spec(cloud, droplet))
    cloud.network.changed()
    await cloud.network.in_force()
    if current := cloud.store.get(Droplet, droplet.id):
        current.status = "active"
        cloud.store.put(current)
    marks = nodes.marks_of(cloud, cluster, node)
    if marks is None:
        return
    await cloud.backend.clusters.node_ready(seeds.access(cluster), node.name, marks)
    if (known := cloud.store.get(Node, node.id)) and known.status == "provisioning":
        nodes.set_status(cloud, node, "running")


async def delete_node(cloud: Cloud, action: Action) -> None:
    """Let the pods leave a node, forget it, end its droplet. A cluster that does not answer loses it all the same."""
    node = cloud.store.get(Node, action.owner_key)
    if node is None:
        return
    for other in cloud.pending_for(node):
        if other.id != action.id:
            await cloud.finished(other)
    cluster = cloud.store.get(KubernetesCluster, node.cluster_id)
    # A cluster that goes as a whole need not be told about each of its nodes.
    if cluster is not None and cluster.status != "deleting":
        drain = bool(action.params.get("drain")) and await cloud.backend.running(node.droplet_id)
        try:
            await cloud.backend.clusters.remove_node(seeds.access(cluster), node.name, drain=drain)
        except ClusterError:
            log.warning("node %s: its cluster does not answer", node.name)
    droplet = cloud.store.get(Droplet, node.droplet_id)
    if droplet is not None:
        ended = cloud.act("droplet.destroy", droplet, type_="destroy", region=droplet.region, droplet_id=droplet.id)
        await cloud.finished(ended)
    cloud.store.delete(node)


HANDLERS: dict[str, Handler] = {
    "kubernetes.create": create_cluster,
    "kubernetes.delete": delete_cluster,
    "kubernetes_node.create": create_node,
    "kubernetes_node.delete": delete_node,
}
