"""A backend without machines, which records what it was asked to do.

For tests of the API and for experiments. Every call takes one turn of the event loop and, optionally, some time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.sandbox.digitalocean.state.backend import DatabaseServer, Grant, MachineSpec, NetworkPicture, VolumeSpec
from tests.sandbox.digitalocean.state.clusters import Access, ClusterError, Load, NodeMarks, NodeView, PodView


@dataclass
class MemoryClusters:
    """Clusters without machines: nodes are ready when they are asked for, and carry the pods that a test gives them."""

    nodes: dict[str, NodeView] = field(default_factory=dict)
    pending: list[PodView] = field(default_factory=list)
    #: Nodes that have been removed, and whether their pods were evicted first.
    removed: dict[str, bool] = field(default_factory=dict)
    #: What is on each node by itself.
    daemons: list[PodView] = field(default_factory=list)
    #: What pods may have of a new node: thousandths of processors, and bytes.
    allocatable: tuple[int, int] = (1900, 2560 * 2**20)
    broken: bool = False

    def _refuse(self, access: Access) -> None:
        if self.broken or not access.key:
            raise ClusterError("the cluster is broken")

    async def answered(self, access: Access) -> None:
        self._refuse(access)

    async def node_ready(self, access: Access, name: str, marks: NodeMarks) -> None:
        self._refuse(access)
        cpu, memory = self.allocatable
        self.nodes[name] = NodeView(name, True, cpu, memory, marks.labels, marks.taints)
        self.pending.clear()

    async def mark_node(self, access: Access, name: str, marks: NodeMarks) -> None:
        self._refuse(access)
        if node := self.nodes.get(name):
            self.nodes[name] = replace(node, labels=marks.labels, taints=marks.taints)

    async def remove_node(self, access: Access, name: str, *, drain: bool) -> None:
        self._refuse(access)
        self.nodes.pop(name, None)
        self.removed[name] = drain

    async def load(self, access: Access) -> Load:
        self._refuse(access)
        return Load(tuple(self.nodes.values()), tuple(self.pending), tuple(self.daemons))


@dataclass
class MemoryBackend:
    """Records what it was asked to do, for tests. `delay` is in seconds per call."""

    delay: float = 0
    machines: dict[int, MachineSpec] = field(default_factory=dict)
    powered: set[int] = field(default_factory=set)
    volumes: dict[str, VolumeSpec] = field(default_factory=dict)
    attached: dict[str, int] = field(default_factory=dict)
    databases: dict[int, DatabaseServer] = field(default_factory=dict, repr=False)
    picture: NetworkPicture = field(default_factory=NetworkPicture)
    keys: dict[str, tuple[str, tuple[Grant, ...]]] = field(default_factory=dict, repr=False)
    buckets: dict[str, str] = field(default_factory=dict)
    #: Machine by snapshot.
    snapshots: dict[int, int] = field(default_factory=dict)
    clusters: MemoryClusters = field(default_factory=MemoryClusters)
    kubernetes_versions: tuple[str, ...] = ("1.36.3", "1.35.7")
    #: Calls in the order of their arrival, as `name argument`.
    calls: list[str] = field(default_factory=list)
    #: Names of calls that fail from now on.
    broken: set[str] = field(default_factory=set)

    async def _call(self, name: str, argument: object = "") -> None:
        self.calls.append(f"{name} {argument}".strip())
        await asyncio.sleep(self.delay)
        if name in self.broken:
            raise RuntimeError(f"{name} is broken")

    async def prepare_kubernetes(self, version: str) -> None:
        await self._call("prepare_kubernetes", version)

    async def create_machine(self, machine: MachineSpec) -> None:
        await self._call("create_machine", machine.id)
        self.machines[machine.id] = machine
        self.powered.add(machine.id)

    async def destroy_machine(self, machine_id: int) -> None:
        await self._call("destroy_machine", machine_id)
        self.machines.pop(machine_id, None)
        self.databases.pop(machine_id, None)
        self.powered.discard(machine_id)

    async def power_on(self, machine_id: int) -> None:
        await self._call("power_on", machine_id)
        self.powered.add(machine_id)

    async def power_off(self, machine_id: int) -> None:
        await self._call("power_off", machine_id)
        self.powered.discard(machine_id)

    async def shut_down(self, machine_id: int) -> None:
        await self._call("shut_down", machine_id)
        self.powered.discard(machine_id)

    async def reboot(self, machine_id: int) -> None:
        await self._call("reboot", machine_id)

    async def resize_machine(self, machine_id: int, vcpus: int, memory_mb: int, disk_gb: int) -> None:
        await self._call("resize_machine", machine_id)
        machine = self.machines[machine_id]
        self.machines[machine_id] = replace(machine, vcpus=vcpus, memory_mb=memory_mb, disk_gb=disk_gb)

    async def rename_machine(self, machine_id: int, name: str) -> None:
        await self._call("rename_machine", machine_id)
        self.machines[machine_id] = replace(self.machines[machine_id], name=name)

    async def rebuild_machine(self, machine: MachineSpec) -> None:
        await self._call("rebuild_machine", machine.id)
        self.machines[machine.id] = machine
        self.powered.add(machine.id)

    async def create_snapshot(self, machine_id: int, snapshot_id: int) -> float:
        await self._call("create_snapshot", machine_id)
        self.snapshots[snapshot_id] = machine_id
        return 1.5

    async def delete_snapshot(self, snapshot_id: int) -> None:
        await self._call("delete_snapshot", snapshot_id)
        self.snapshots.pop(snapshot_id, None)

    async def running(self, machine_id: int) -> bool:
        return machine_id in self.powered

    async def create_volume(self, volume: VolumeSpec) -> None:
        await self._call("create_volume", volume.id)
        self.volumes[volume.id] = volume

    async def delete_volume(self, volume_id: str) -> None:
        await self._call("delete_volume", volume_id)
        self.volumes.pop(volume_id, None)

    async def resize_volume(self, volume_id: str, size_gb: int) -> None:
        await self._call("resize_volume", volume_id)
        self.volumes[volume_id] = replace(self.volumes[volume_id], size_gb=size_gb)

    async def attach_volume(self, volume_id: str, machine_id: int) -> None:
        await self._call("attach_volume", volume_id)
        self.attached[volume_id] = machine_id

    async def detach_volume(self, volume_id: str, machine_id: int) -> None:
        await self._call("detach_volume", volume_id)
        if self.attached.get(volume_id) == machine_id:
            del self.attached[volume_id]

    async def apply_network(self, picture: NetworkPicture) -> None:
        await self._call("apply_network")
        self.picture = picture

    async def apply_database(self, machine_id: int, server: DatabaseServer) -> None:
        await self._call("apply_database", machine_id)
        self.databases[machine_id] = server

    async def put_spaces_key(self, access_key: str, secret_key: str, grants: Sequence[Grant]) -> None:
        await self._call("put_spaces_key", access_key)
        self.keys[access_key] = (secret_key, tuple(grants))

    async def delete_spaces_key(self, access_key: str) -> None:
        await self._call("delete_spaces_key", access_key)
        self.keys.pop(access_key, None)

    async def spaces_buckets(self) -> dict[str, str]:
        return dict(self.buckets)

    async def reset(self) -> None:
        await self._call("reset")
        held = (self.machines, self.volumes, self.attached, self.keys, self.buckets, self.snapshots, self.databases)
        for kept in held:
            kept.clear()
        self.powered.clear()
        self.clusters = MemoryClusters()
        self.picture = NetworkPicture()
