"""Keeps clusters as their pools say: replaces nodes whose droplet is gone, and scales."""

from __future__ import annotations

import logging

from tests.sandbox.digitalocean.kubernetes import autoscaler, nodes, seeds
from tests.sandbox.digitalocean.models import Droplet, KubernetesCluster, Node
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.clusters import ClusterError
from tests.sandbox.digitalocean.state.errors import ApiError
from tests.sandbox.digitalocean.state.rounds import Rounds

log = logging.getLogger(__name__)


class Keeper(Rounds):
    """The rounds over the clusters of one account."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud.config.cluster_seconds)
        self._cloud = cloud

    async def round(self) -> None:
        """Look at every cluster once."""
        for cluster in self._cloud.store.where(KubernetesCluster, status="running"):
            self._replace(cluster)
            if any(pool.auto_scale for pool in nodes.pools_of(self._cloud, cluster)):
                try:
                    load = await self._cloud.backend.clusters.load(seeds.access(cluster))
                except ClusterError as error:
                    log.warning("cluster %s: %s", cluster.name, error)
                    continue
                current = self._cloud.store.get(KubernetesCluster, cluster.id)
                if current and current.status == "running":
                    autoscaler.scale(self._cloud, current, load)

    def _replace(self, cluster: KubernetesCluster) -> None:
        """A node without its droplet leaves the cluster, and its pool gets another."""
        for node in self._cloud.store.where(Node, cluster_id=cluster.id):
            if self._cloud.store.get(Droplet, node.droplet_id) is None:
                nodes.remove_node(self._cloud, node, drain=False)
        for pool in nodes.pools_of(self._cloud, cluster):
            try:
                nodes.check_room(self._cloud, pool.count - len(nodes.staying(self._cloud, pool)))
            except ApiError:
                continue
            nodes.adjust(self._cloud, cluster, pool)
