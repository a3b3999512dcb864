"""Kubernetes clusters, their node pools and nodes, and the tokens of kubeconfigs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from tests.sandbox.digitalocean.models.base import Record

#: The zone of the clusters' endpoints.
ENDPOINTS = "k8s.ondigitalocean.com"
#: What a token needs to get credentials of clusters, and to be used at their API servers itself.
ACCESS_SCOPE = "kubernetes:access_cluster"


class MaintenancePolicy(BaseModel):
    """When a cluster is upgraded."""

    start_time: str = "00:00"
    day: str = "any"
    duration: str = "4h0m0s"


class ControlPlaneFirewall(BaseModel):
    """Who reaches the API server; everybody unless it is enabled."""

    enabled: bool = False
    allowed_addresses: list[str] = Field(default_factory=list)


class AutoscalerConfiguration(BaseModel):
    """How the autoscaler decides that a node is not needed; times as Go writes them."""

    scale_down_utilization_threshold: float = 0.5
    scale_down_unneeded_time: str = "10m0s"
    expanders: list[str] = Field(default_factory=list)


class Taint(BaseModel):
    """A taint of all nodes of a pool."""

    key: str
    value: str = ""
    effect: str


class KubernetesCluster(Record):
    """A cluster. Its control plane is a machine of the service, which the account does not see."""

    kind: ClassVar[str] = "kubernetes"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"secrets"})
    id: str
    name: str
    region: str
    version: str
    vpc_uuid: str
    cluster_subnet: str
    service_subnet: str
    machine_id: int
    public_ipv4: str
    anchor_ipv4: str
    private_ipv4: str
    tags: list[str] = Field(default_factory=list)
    maintenance_policy: MaintenancePolicy = Field(default_factory=MaintenancePolicy)
    auto_upgrade: bool = False
    surge_upgrade: bool = False
    ha: bool = False
    firewall: ControlPlaneFirewall = Field(default_factory=ControlPlaneFirewall)
    autoscaler: AutoscalerConfiguration = Field(default_factory=AutoscalerConfiguration)
    status: str = "provisioning"
    message: str = ""
    created_at: str
    updated_at: str
    #: Key and certificate of the cluster's authority, and the key that signs the tokens of service accounts (PEM).
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        return self.id

    @property
    def urn(self) -> str:
        """The name that projects and VPCs know the cluster by."""
        return f"do:kubernetes:{self.id}"

    @property
    def host(self) -> str:
        """The name of the API server."""
        return f"{self.id}.{ENDPOINTS}"


class NodePool(Record):
    """Nodes of one size. `count` is how many there should be."""

    kind: ClassVar[str] = "kubernetes_pool"
    id: str
    cluster_id: str
    name: str
    size: str
    count: int
    tags: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    taints: list[Taint] = Field(default_factory=list)
    auto_scale: bool = False
    min_nodes: int = 0
    max_nodes: int = 0

    @property
    def key(self) -> str:
        return self.id


class Node(Record):
    """A node, which is a droplet of the account."""

    kind: ClassVar[str] = "kubernetes_node"
    id: str
    cluster_id: str
    pool_id: str
    name: str
    droplet_id: int
    status: str = "provisioning"
    message: str = ""
    #: Since when the autoscaler could do without it, in seconds of the epoch.
    unneeded_since: float | None = None
    created_at: str
    updated_at: str

    @property
    def key(self) -> str:
        return self.id


class KubernetesToken(Record):
    """A token of a kubeconfig, by its digest; `expires_at` in seconds of the epoch."""

    kind: ClassVar[str] = "kubernetes_token"
    digest: str
    cluster_id: str
    expires_at: float

    @property
    def key(self) -> str:
        return self.digest
