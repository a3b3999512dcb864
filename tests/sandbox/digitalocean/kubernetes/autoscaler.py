"""The cluster autoscaler: nodes for pods that have no room, none for those that could do with fewer.

Decides by what pods request, as the real one does (FAQ of cluster-autoscaler in github.com/kubernetes/autoscaler).
It knows node selectors, taints, processors and memory; affinities between pods and nodes are not its affair here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.sandbox.digitalocean.kubernetes import nodes, seeds
from tests.sandbox.digitalocean.models import KubernetesCluster, Node, NodePool
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.clusters import Load, NodeView, PodView
from tests.sandbox.digitalocean.state.errors import ApiError

_MB = 2**20
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_REPELLING = ("NoSchedule", "NoExecute")


def seconds_of(duration: str) -> float | None:
    """A duration as Go writes it, such as `1h2m3s`; None if it is none."""
    found = _DURATION.fullmatch(duration)
    if not duration or found is None:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


@dataclass
class _Room:
    """What is left of a node."""

    cpu: int
    memory: int
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]
    pods: list[PodView] = field(default_factory=list)

    def take(self, pod: PodView) -> bool:
        """Put a pod here, if it fits and may be here."""
        chosen = all(self.labels.get(name) == value for name, value in pod.node_selector.items())
        if not chosen or not all(_tolerates(pod, taint) for taint in self.taints):
            return False
        if pod.cpu > self.cpu or pod.memory > self.memory:
            return False
        self.cpu, self.memory = self.cpu - pod.cpu, self.memory - pod.memory
        self.pods.append(pod)
        return True


def _tolerates(pod: PodView, taint: Mapping[str, str]) -> bool:
    if taint.get("effect") not in _REPELLING:
        return True
    return any(
        one.get("effect") in (None, "", taint["effect"])
        and (
            (one.get("operator") == "Exists" and one.get("key") in (None, "", taint["key"]))
            or (one.get("key") == taint["key"] and one.get("value", "") == taint.get("value", ""))
        )
        for one in pod.tolerations
    )


def scale(cloud: Cloud, cluster: KubernetesCluster, load: Load) -> None:
    """One decision: more nodes while pods wait for room; else none that has not been needed for long enough."""
    pools = [pool for pool in nodes.pools_of(cloud, cluster) if pool.auto_scale]
    coming = _coming(cloud, cluster, load)
    grown = _grow(cloud, cluster, pools, load, _without_room(load, coming))
    for pool in pools:
        _shrink(cloud, cluster, pool, load, is_calm=not coming and not grown)


def _new_room(cloud: Cloud, cluster: KubernetesCluster, pool: NodePool, load: Load) -> _Room:
    """What a node of a pool has for pods once those are there that are on every node."""
    size = cloud.catalog.sizes[pool.size]
    cpu, memory_mb = seeds.allocatable(min(size.vcpus, cloud.config.host_processors or size.vcpus), size.memory)
    labels = pool.labels | {
        "doks.digitalocean.com/node-pool": pool.name,
        "doks.digitalocean.com/node-pool-id": pool.id,
        "doks.digitalocean.com/version": cluster.version,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": pool.size,
        "topology.kubernetes.io/region": cluster.region,
    }
    room = _Room(cpu, memory_mb * _MB, labels, [taint.model_dump() for taint in pool.taints])
    for daemon in load.daemons:
        room.take(daemon)
    return room


def _coming(cloud: Cloud, cluster: KubernetesCluster, load: Load) -> list[_Room]:
    """The nodes that are on their way."""
    return [
        _new_room(cloud, cluster, pool, load)
        for pool in nodes.pools_of(cloud, cluster)
        for node in nodes.staying(cloud, pool)
        if node.status == "provisioning"
    ]


def _rooms(load: Load, *, without: str = "") -> list[_Room]:
    """What is left of the nodes that take pods."""
    return [
        _Room(
            view.cpu - sum(pod.cpu for pod in view.pods),
            view.memory - sum(pod.memory for pod in view.pods),
            view.labels,
            view.taints,
        )
        for view in load.nodes
        if view.name != without and view.is_ready and not view.is_unschedulable
    ]


def _without_room(load: Load, coming: Sequence[_Room]) -> list[PodView]:
    """The pods that fit on no node, those on their way included: a scheduler may not have seen yet what has come."""
    rooms = [*_rooms(load), *coming]
    return [pod for pod in load.pending if not any(room.take(pod) for room in rooms)]


def _grow(
    cloud: Cloud, cluster: KubernetesCluster, pools: Sequence[NodePool], load: Load, waiting: Iterable[PodView]
) -> bool:
    """Add nodes for these pods, where a pool has any that they fit on; whether it did."""
    made: list[_Room] = []
    for pod in waiting:
        if any(room.take(pod) for room in made):
            continue
        for pool in pools:
            room = _new_room(cloud, cluster, pool, load)
            if pool.count < pool.max_nodes and room.take(pod):
                try:
                    nodes.check_room(cloud, 1)
                except ApiError:
                    # The account's limit: the pod waits, as it does in a cluster whose pools are full.
                    return bool(made)
                pool.count += 1
                cloud.store.put(pool)
                nodes.add_node(cloud, cluster, pool)
                made.append(room)
                break
    return bool(made)


def _shrink(cloud: Cloud, cluster: KubernetesCluster, pool: NodePool, load: Load, *, is_calm: bool) -> None:
    views = {view.name: view for view in load.nodes}
    patience = seconds_of(cluster.autoscaler.scale_down_unneeded_time) or 0
    for node in nodes.staying(cloud, pool):
        view = views.get(node.name)
        idle = is_calm and node.status == "running" and view is not None and _is_idle(cluster, view, load)
        if not idle or pool.count <= pool.min_nodes:
            _note(cloud, node, None)
        elif node.unneeded_since is None:
            _note(cloud, node, time.time())
        elif time.time() - node.unneeded_since >= patience:
            pool.count -= 1
            cloud.store.put(pool)
            nodes.remove_node(cloud, node, drain=True)
            # One at a time: where its pods go decides about the others.
            return


def _note(cloud: Cloud, node: Node, since: float | None) -> None:
    if node.unneeded_since != since:
        node.unneeded_since = since
        cloud.store.put(node)


def _is_idle(cluster: KubernetesCluster, view: NodeView, load: Load) -> bool:
    """Whether a node is used little enough, and everything on it may and can go elsewhere."""
    used = max(
        sum(pod.cpu for pod in view.pods) / max(view.cpu, 1), sum(pod.memory for pod in view.pods) / max(view.memory, 1)
    )
    if used >= cluster.autoscaler.scale_down_utilization_threshold and view.pods:
        return False
    others = _rooms(load, without=view.name)
    return all(_may_go(pod) and any(room.take(pod) for room in others) for pod in view.pods)


def _may_go(pod: PodView) -> bool:
    if pod.safe_to_evict is not None:
        return pod.safe_to_evict
    # A system pod may go where a disruption budget says so; those that clusters bring along have one.
    return bool(pod.controller) and not pod.has_local_storage
