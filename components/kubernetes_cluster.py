"""A cluster of DigitalOcean Kubernetes whose nodes come and go with the jobs of a runner.

Imported only for a runner that has one: the SDK of Kubernetes is large, and not installed where no runner needs it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_digitalocean as digitalocean
import pulumi_kubernetes as kubernetes

from components.component import Component
from components.kubernetes_offer import ClusterVersion, cluster_name, pool_name
from components.lost_answers import NODE_POOL, once, once_for_a_cluster
from components.rendering import script
from components.settings import RunnerSettings
from components.site import Site

#: The label and the taint of nodes for jobs: only jobs ask for the one and tolerate the other, so that nothing else
#: keeps such a node from being removed.
JOBS: Final = ("slipway-jobs", "true")
#: A cluster takes minutes to create, and one with many nodes to delete.
_PATIENCE: Final = "30m"


@dataclass(frozen=True)
class KubernetesClusterArgs:
    """Inputs of `KubernetesCluster`."""

    site: Site
    settings: RunnerSettings
    version: ClusterVersion


class KubernetesCluster(Component):
    """A cluster with one node that is always there, and a pool of nodes for jobs, which DigitalOcean scales.

    Owns the cluster, the pool, and a provider for what is inside. Two pools, because Kubernetes itself and the manager
    of a runner need a node at all times, and a pool whose nodes all run something never shrinks to none. Refuses to own
    anything inside the cluster, and to use the credential that DigitalOcean's resource has in the state: it expires,
    and the provider runs `files/kubernetes/credential.py` instead.
    """

    provider: kubernetes.Provider
    #: Everything inside is deleted with it.
    cluster: digitalocean.KubernetesCluster

    def __init__(self, name: str, args: KubernetesClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the cluster and its pools."""
        super().__init__("KubernetesCluster", name, opts)
        self._args = args
        self.cluster = self._cluster()
        self._pool()
        self.provider = self._access()
        self.register_outputs({"clusterId": self.cluster.id})

    def _cluster(self) -> digitalocean.KubernetesCluster:
        site, settings = self._args.site, self._args.settings
        return digitalocean.KubernetesCluster(
            self.child_name("cluster"),
            name=cluster_name(site.prefix, settings.name),
            region=site.region,
            version=self._args.version.slug,
            vpc_uuid=site.network.vpc_id,
            # DigitalOcean's own default depends on the version, and it cannot be turned off.
            ha=settings.cluster.high_availability,
            # Patches only, in DigitalOcean's hours of maintenance. A new node takes over before an old one goes.
            auto_upgrade=True,
            surge_upgrade=True,
            # What pods could have created in the account, such as volumes, goes with the cluster.
            destroy_all_associated_resources=True,
            node_pool=digitalocean.KubernetesClusterNodePoolArgs(
                name=pool_name(site.prefix, settings.name, "manager"),
                size=settings.cluster.manager_size,
                node_count=1,
                auto_scale=False,
            ),
            opts=self.child_options(
                # Its name is taken until the old one is gone.
                delete_before_replace=True,
                # The state may be older than a patch that DigitalOcean has installed, which an update with --refresh
                # finds out later than the program: the older version would replace the cluster.
                ignore_changes=["version"] if self._args.version.is_kept else [],
                custom_timeouts=pulumi.CustomTimeouts(create=_PATIENCE, update="60m", delete=_PATIENCE),
                hooks=once_for_a_cluster(self.child_name("cluster")),
            ),
        )

    def _pool(self) -> None:
        settings = self._args.settings
        key, value = JOBS
        digitalocean.KubernetesNodePool(
            self.child_name("jobs"),
            cluster_id=self.cluster.id,
            name=pool_name(self._args.site.prefix, settings.name),
            size=settings.size,
            auto_scale=True,
            min_nodes=settings.cluster.min_nodes,
            max_nodes=settings.cluster.max_nodes,
            labels={key: value},
            taints=[digitalocean.KubernetesNodePoolTaintArgs(key=key, value=value, effect="NoSchedule")],
            opts=self.child_options(
                deleted_with=self.cluster,
                delete_before_replace=True,
                custom_timeouts=pulumi.CustomTimeouts(create=_PATIENCE, delete=_PATIENCE),
                hooks=once(NODE_POOL, self.child_name("jobs")),
            ),
        )

    def _access(self) -> kubernetes.Provider:
        authority = self.cluster.kube_configs.apply(lambda found: found[0].cluster_ca_certificate)
        known = pulumi.Output.all(
            cluster=self.cluster.id,
            server=self.cluster.endpoint,
            authority=authority,
            token=pulumi.Config("digitalocean").get_secret("token"),
        )
        return kubernetes.Provider(
            self.child_name("kubernetes"),
            kubeconfig=known.apply(lambda values: _kubeconfig(**values)),
            # Otherwise a changed configuration would be another Secret, which is missing in between.
            enable_secret_mutable=True,
            enable_config_map_mutable=True,
            opts=self.child_options(),
        )


def _kubeconfig(cluster: str, server: str, authority: str, token: str | None) -> str:
    """A configuration that stays the same: clients ask a program for the credential, whenever they need one."""
    variables = {"env": [{"name": "DIGITALOCEAN_TOKEN", "value": token}]} if token else {}
    credential: dict[str, Any] = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "python3",
        "args": ["-c", script("kubernetes/credential.py"), cluster],
        "interactiveMode": "Never",
        **variables,
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "cluster", "cluster": {"server": server, "certificate-authority-data": authority}},
            ],
            "users": [{"name": "user", "user": {"exec": credential}}],
            "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "context",
        }
    )
