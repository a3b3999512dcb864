"""Nodes of a pool: which there should be, and the droplets that they are."""

from __future__ import annotations

import secrets
import uuid
from ipaddress import IPv4Network

from tests.sandbox.digitalocean.kubernetes import seeds
from tests.sandbox.digitalocean.models import Droplet, KubernetesCluster, Node, NodePool, Vpc, now
from tests.sandbox.digitalocean.state import addresses
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.clusters import NodeMarks
from tests.sandbox.digitalocean.state.errors import DropletLimit, Unprocessable
from tests.sandbox.digitalocean.state.projects import join_default_project
from tests.sandbox.digitalocean.state.tagging import ensure_tags

#: Every node has so many addresses for pods.
_POD_PREFIX = 25
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
#: States in which a node counts for its pool.
STAYING = ("provisioning", "running")


def image(cluster: KubernetesCluster) -> str:
    """What the machines of a cluster are made from."""
    return f"kubernetes-{kubernetes_version(cluster.version)}"


def kubernetes_version(slug: str) -> str:
    """The version of Kubernetes in a version of the service."""
    return slug.partition("-")[0]


def pools_of(cloud: Cloud, cluster: KubernetesCluster) -> list[NodePool]:
    """The pools of a cluster, the oldest first."""
    return cloud.store.where(NodePool, cluster_id=cluster.id)


def nodes_of(cloud: Cloud, pool: NodePool) -> list[Node]:
    """The nodes of a pool, the oldest first; those on their way out, too."""
    return cloud.store.where(Node, pool_id=pool.id)


def staying(cloud: Cloud, pool: NodePool) -> list[Node]:
    """The nodes that count for their pool."""
    return [node for node in nodes_of(cloud, pool) if node.status in STAYING]


def check_room(cloud: Cloud, more: int) -> None:
    """Raise DropletLimit if the account may not have so many more droplets."""
    if more > 0 and len(cloud.store.all(Droplet)) + more > cloud.droplet_limit:
        raise DropletLimit


def marks_of(cloud: Cloud, cluster: KubernetesCluster, node: Node) -> NodeMarks | None:
    """Labels and taints of a node; None for one whose droplet or pool is gone."""
    pool, droplet = cloud.store.get(NodePool, node.pool_id), cloud.store.get(Droplet, node.droplet_id)
    return seeds.marks(cluster, pool, node.id, droplet) if pool and droplet else None


def adjust(cloud: Cloud, cluster: KubernetesCluster, pool: NodePool) -> None:
    """Start making the nodes that a pool lacks, and removing those that it has too many of."""
    have = staying(cloud, pool)
    for node in have[pool.count :]:
        remove_node(cloud, node, drain=True)
    for _ in range(pool.count - len(have)):
        add_node(cloud, cluster, pool)


def add_node(cloud: Cloud, cluster: KubernetesCluster, pool: NodePool) -> Node:
    """Make a node with its droplet, and start to provision it."""
    size, vpc = cloud.catalog.sizes[pool.size], cloud.store.get(Vpc, cluster.vpc_uuid)
    assert vpc is not None
    with cloud.store.transaction():
        number = cloud.store.next_number("droplet", 510_000_001)
        owner = f"do:droplet:{number}"
        droplet = Droplet(
            id=number,
            name=f"{pool.name}-{''.join(secrets.choice(_LETTERS) for _ in range(6))}",
            region=cluster.region,
            size=size.slug,
            image=image(cluster),
            vcpus=size.vcpus,
            memory=size.memory,
            disk=size.disk,
            created_at=now(),
            features=["private_networking"],
            tags=ensure_tags(cloud, ["k8s", f"k8s:{cluster.id}", "k8s:worker", *cluster.tags, *pool.tags]),
            vpc_uuid=vpc.id,
            public_ipv4=addresses.lease(cloud.store, "public", owner),
            anchor_ipv4=addresses.lease(cloud.store, "anchor", owner),
            private_ipv4=addresses.lease_private(cloud.store, vpc, owner),
            pod_cidr=_free_range(cloud, cluster),
        )
        node = Node(
            id=str(uuid.uuid4()),
            cluster_id=cluster.id,
            pool_id=pool.id,
            name=droplet.name,
            droplet_id=number,
            created_at=now(),
            updated_at=now(),
        )
        droplet.user_data = seeds.worker(cluster, pool, node.id, droplet, vpc)
        cloud.store.put(droplet)
        cloud.store.put(node)
        join_default_project(cloud, droplet.urn)
        cloud.act("kubernetes_node.create", node, type_="create", droplet_id=number, public=False)
    return node


def remove_node(cloud: Cloud, node: Node, *, drain: bool) -> None:
    """Start to take a node away. One that is on its way out already is left alone."""
    if node.status == "deleting":
        return
    with cloud.store.transaction():
        set_status(cloud, node, "deleting")
        cloud.act("kubernetes_node.delete", node, type_="destroy", public=False, params={"drain": drain})


def set_status(cloud: Cloud, node: Node, status: str, message: str = "") -> None:
    """Change what a node is doing, if it is still there."""
    if current := cloud.store.get(Node, node.id):
        current.status, current.message, current.updated_at = status, message, now()
        cloud.store.put(current)
    node.status = status


def _free_range(cloud: Cloud, cluster: KubernetesCluster) -> str:
    nodes = {node.droplet_id for node in cloud.store.where(Node, cluster_id=cluster.id)}
    taken = {droplet.pod_cidr for droplet in cloud.store.all(Droplet) if droplet.id in nodes}
    for candidate in IPv4Network(cluster.cluster_subnet).subnets(new_prefix=_POD_PREFIX):
        if str(candidate) not in taken:
            return str(candidate)
    raise Unprocessable("the cluster subnet has no room for another node")
