"""The interface between the emulated API and the Kubernetes clusters behind it, as `backend` is that to machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Access:
    """How the service itself reaches a cluster: as its administrator."""

    address: str
    authority: str
    certificate: str = field(repr=False)
    key: str = field(repr=False)


@dataclass(frozen=True)
class NodeMarks:
    """What the service says about a node, in the cluster's own words."""

    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]
    pod_cidr: str


@dataclass(frozen=True)
class PodView:
    """What the autoscaler looks at. `cpu` in thousandths, `memory` in bytes: what the pod's containers request."""

    name: str
    cpu: int = 0
    memory: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, str]] = ()
    #: Kind of the controller that would make it again; empty for none.
    controller: str = ""
    #: The annotation `cluster-autoscaler.kubernetes.io/safe-to-evict`.
    safe_to_evict: bool | None = None
    #: Whether it has data on its node that would be lost.
    has_local_storage: bool = False
    is_system: bool = False


@dataclass(frozen=True)
class NodeView:
    """A node as its cluster has it; `cpu` and `memory` are what pods may have of it."""

    name: str
    is_ready: bool
    cpu: int
    memory: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    pods: Sequence[PodView] = ()
    is_unschedulable: bool = False


@dataclass(frozen=True)
class Load:
    """What runs where, the pods that no node has room for, and those that will be on each node that they may be on."""

    nodes: Sequence[NodeView] = ()
    pending: Sequence[PodView] = ()
    daemons: Sequence[PodView] = ()


class ClusterError(Exception):
    """A cluster did not do what it was asked to."""


class Clusters(Protocol):
    """Real clusters. Every call can be repeated."""

    async def answered(self, access: Access) -> None:
        """Wait until the API server answers. Raises ClusterError."""

    async def node_ready(self, access: Access, name: str, marks: NodeMarks) -> None:
        """Wait until a node is there and ready, and mark it. Raises ClusterError."""

    async def mark_node(self, access: Access, name: str, marks: NodeMarks) -> None:
        """Set labels and taints of a node. One that is not there is left alone."""

    async def remove_node(self, access: Access, name: str, *, drain: bool) -> None:
        """Evict the pods of a node, if asked to, and forget it. Unknown names are fine."""

    async def load(self, access: Access) -> Load:
        """What the autoscaler decides by. Raises ClusterError."""
