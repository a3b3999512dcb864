"""`MachineBackend`: the machinery that the emulated API drives.

Owns the records of what exists and the order of steps. The other modules know how to do each: `engine` (containers),
`network`, `firewall`, `volumes`, `spaces`. One lock per machine serializes calls and events on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tenacity

from tests.sandbox import versions
from tests.sandbox.digitalocean.state.backend import (
    Backend,
    DatabaseServer,
    Grant,
    MachineSpec,
    NetworkPicture,
    VolumeSpec,
)
from tests.sandbox.layout import Layout
from tests.sandbox.machines import databases, firewall, network
from tests.sandbox.machines.clusters import KubernetesClusters
from tests.sandbox.machines.engine import EXIT_REBOOT, Engine
from tests.sandbox.machines.image.build import load
from tests.sandbox.machines.kubernetes import build as kubernetes
from tests.sandbox.machines.records import MachineRecord, RecordFile, VolumeRecord
from tests.sandbox.machines.seed import remove_seed, write_seed
from tests.sandbox.machines.spaces import Spaces
from tests.sandbox.machines.volumes import Volumes, free_device
from tests.sandbox.machines.watch import Watcher

#: How long a machine may take to shut down before its plug is pulled, and to hand over to its init system.
_SHUTDOWN_S = 60
_BOOT_S = 30


class UnknownMachineError(LookupError):
    """No such machine."""


class UnknownVolumeError(LookupError):
    """No such volume."""


class MachineBackend(Backend):
    """Implements `tests.sandbox.digitalocean.state.backend.Backend` with containers, links, files and S3 servers.

    Use it as an asynchronous context manager, in the process that stands in the cloud's network namespace (after
    `network.prepare_cloud_network`), with the engine running and the images loaded. Entering brings back every
    machine that was on; leaving lets the machines run on. `mirror_keyring` goes into images that are loaded later.
    """

    def __init__(self, layout: Layout, mirror_keyring: Path | None = None) -> None:
        self._state = layout.state / "machines"
        self._file = RecordFile(self._state / "records.json")
        self._records = self._file.records
        self._layout = layout
        self._mirror_keyring = mirror_keyring
        self._engine = Engine(layout)
        self._clusters = KubernetesClusters()
        self._volumes = Volumes(layout.state / "volumes")
        #: Object storage, for the fronts that stand before its servers.
        self.spaces = Spaces(layout)
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._network_lock = asyncio.Lock()
        self._image_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watcher: Watcher | None = None
        # In the sandbox's own /run, so gone when the sandbox is: tells a restart of this process from one of the whole.
        self._mark = layout.run / "machines-started"

    async def __aenter__(self) -> MachineBackend:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Bring back what was on, watch what goes off."""
        self._watcher = Watcher(self._engine, self._ended, self._engine_is_back)
        self._watcher.start()
        await self._apply()
        same_tree = self._mark.exists()
        async with asyncio.TaskGroup() as group:
            for machine_id in list(self._records.machines):
                group.create_task(self._bring_back(machine_id, same_tree=same_tree))
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()

    async def stop(self) -> None:
        """Stop watching and let go of devices that no machine has mounted. Machines run on."""
        if self._watcher is not None:
            await self._watcher.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._volumes.close_all()
        self._engine.close()

    # Kubernetes

    @property
    def clusters(self) -> KubernetesClusters:
        """See `Backend`."""
        return self._clusters

    @property
    def kubernetes_versions(self) -> tuple[str, ...]:
        """See `Backend`: what `prepare --kubernetes` has built."""
        return (versions.KUBERNETES,) if kubernetes.is_built(versions.KUBERNETES, self._layout.cache) else ()

    async def prepare_kubernetes(self, version: str) -> None:
        """See `Backend`. The image is loaded with the first cluster: it is as large as all others together."""
        if self._mirror_keyring is None:
            raise ValueError("images cannot be loaded without the key of the package mirror")
        async with self._image_lock:
            await asyncio.to_thread(
                load,
                self._engine.client,
                kubernetes.slug(version),
                cache=self._layout.cache,
                ca_certificate=self._layout.ca_certificate,
                mirror_keyring=self._mirror_keyring,
            )

    # Machines

    async def create_machine(self, machine: MachineSpec) -> None:
        """See `Backend`."""
        async with self._locks[machine.id]:
            if machine.id not in self._records.machines:
                self._records.machines[machine.id] = MachineRecord(machine)
                self._file.save()
            if await self._engine.state(machine.id) is None:
                await self._engine.create(machine, self._write_seed(machine))
            await self._apply()
            await self._boot(machine.id)

    async def destroy_machine(self, machine_id: int) -> None:
        """See `Backend`."""
        async with self._locks[machine_id]:
            for volume in self._records.attached(machine_id):
                await self._take_away(volume)
            self._records.machines.pop(machine_id, None)
            self._file.save()
            await self._engine.remove(machine_id)
            await network.unplug(machine_id)
            remove_seed(self._seed(machine_id))
            await self._apply()
        self._locks.pop(machine_id, None)

    async def power_on(self, machine_id: int) -> None:
        """See `Backend`."""
        async with self._locked(machine_id) as record:
            self._want(record, on=True)
            await self._boot(machine_id)

    async def power_off(self, machine_id: int) -> None:
        """See `Backend`."""
        async with self._locked(machine_id) as record:
            self._want(record, on=False)
            await self._halt(machine_id, patience=0)

    async def shut_down(self, machine_id: int) -> None:
        """See `Backend`."""
        async with self._locked(machine_id) as record:
            self._want(record, on=False)
            await self._halt(machine_id, patience=_SHUTDOWN_S)

    async def reboot(self, machine_id: int) -> None:
        """See `Backend`."""
        async with self._locked(machine_id) as record:
            self._want(record, on=True)
            await self._halt(machine_id, patience=_SHUTDOWN_S)
            await self._boot(machine_id)

    async def resize_machine(self, machine_id: int, vcpus: int, memory_mb: int, disk_gb: int) -> None:
        """See `Backend`. The root disk is the host's: its size is recorded, not enforced."""
        async with self._locked(machine_id) as record:
            record.spec = replace(record.spec, vcpus=vcpus, memory_mb=memory_mb, disk_gb=disk_gb)
            await self._engine.resize(machine_id, vcpus, memory_mb)
            self._file.save()

    async def rename_machine(self, machine_id: int, name: str) -> None:
        """See `Backend`. As with the real service, the machine itself does not learn its new name."""
        async with self._locked(machine_id) as record:
            record.spec = replace(record.spec, name=name)
            self._file.save()

    async def rebuild_machine(self, machine: MachineSpec) -> None:
        """See `Backend`. Links and attached volumes stay."""
        async with self._locked(machine.id) as record:
            await self._engine.remove(machine.id)
            await network.unplug(machine.id)
            record.spec = machine
            self._want(record, on=True)
            await self._engine.create(machine, self._write_seed(machine))
            await self._apply()
            await self._boot(machine.id)

    async def create_snapshot(self, machine_id: int, snapshot_id: int) -> float:
        """See `Backend`."""
        async with self._locked(machine_id):
            return await self._engine.keep(machine_id, str(snapshot_id))

    async def delete_snapshot(self, snapshot_id: int) -> None:
        """See `Backend`."""
        await self._engine.discard(str(snapshot_id))

    async def running(self, machine_id: int) -> bool:
        """See `Backend`."""
        state = await self._engine.state(machine_id)
        return state is not None and state.running

    # Volumes

    async def create_volume(self, volume: VolumeSpec) -> None:
        """See `Backend`."""
        await self._volumes.create(volume)
        self._records.volumes.setdefault(volume.id, VolumeRecord(volume))
        self._file.save()

    async def delete_volume(self, volume_id: str) -> None:
        """See `Backend`. The API refuses attached ones; here they are detached first."""
        volume = self._records.volumes.get(volume_id)
        if volume is None:
            return
        if volume.machine_id is not None:
            await self.detach_volume(volume_id, volume.machine_id)
        await self._volumes.delete(volume_id)
        self._records.volumes.pop(volume_id, None)
        self._file.save()

    async def resize_volume(self, volume_id: str, size_gb: int) -> None:
        """See `Backend`."""
        volume = self._volume(volume_id)
        await self._volumes.resize(volume_id, size_gb)
        volume.spec = replace(volume.spec, size_gb=size_gb)
        self._file.save()

    async def attach_volume(self, volume_id: str, machine_id: int) -> None:
        """See `Backend`. A machine that is off gets it at its next boot."""
        volume = self._volume(volume_id)
        async with self._locked(machine_id):
            if volume.machine_id is None:
                volume.device = free_device(v.device for v in self._records.attached(machine_id))
                volume.machine_id = machine_id
                self._file.save()
            state = await self._engine.state(machine_id)
            if state is not None and state.running and volume.machine_id == machine_id:
                await self._volumes.show(volume.spec, volume.device, state.pid)

    async def detach_volume(self, volume_id: str, machine_id: int) -> None:
        """See `Backend`. A mounted volume is unmounted by force."""
        volume = self._records.volumes.get(volume_id)
        async with self._locks[machine_id]:
            if volume is not None and volume.machine_id == machine_id:
                await self._take_away(volume)

    # Network and object storage

    async def apply_network(self, picture: NetworkPicture) -> None:
        """See `Backend`."""
        self._records.picture = picture
        self._file.save()
        await self._apply()

    async def apply_database(self, machine_id: int, server: DatabaseServer) -> None:
        """See `Backend`."""
        async with self._locked(machine_id):
            await databases.apply(self._engine, machine_id, server)

    async def put_spaces_key(self, access_key: str, secret_key: str, grants: Sequence[Grant]) -> None:
        """See `Backend`."""
        await self.spaces.put_key(access_key, secret_key, grants)

    async def delete_spaces_key(self, access_key: str) -> None:
        """See `Backend`."""
        await self.spaces.delete_key(access_key)

    async def spaces_buckets(self) -> dict[str, str]:
        """See `Backend`."""
        return await self.spaces.buckets()

    async def reset(self) -> None:
        """See `Backend`."""
        await asyncio.gather(*(self.destroy_machine(machine_id) for machine_id in list(self._records.machines)))
        for volume_id in list(self._records.volumes):
            await self.delete_volume(volume_id)
        for image in await self._engine.kept():
            await self._engine.discard(image)
        await self.spaces.reset()
        await self.apply_network(NetworkPicture())

    # How

    @contextlib.asynccontextmanager
    async def _locked(self, machine_id: int) -> AsyncIterator[MachineRecord]:
        async with self._locks[machine_id]:
            try:
                yield self._records.machines[machine_id]
            except KeyError:
                raise UnknownMachineError(machine_id) from None

    def _volume(self, volume_id: str) -> VolumeRecord:
        try:
            return self._records.volumes[volume_id]
        except KeyError:
            raise UnknownVolumeError(volume_id) from None

    def _want(self, record: MachineRecord, *, on: bool) -> None:
        record.on = on
        self._file.save()

    def _seed(self, machine_id: int) -> Path:
        return self._state / str(machine_id) / "seed"

    def _write_seed(self, machine: MachineSpec) -> Path:
        directory = self._seed(machine.id)
        write_seed(directory, machine)
        return directory

    async def _apply(self) -> None:
        async with self._network_lock:
            machines = {machine_id: record.spec for machine_id, record in self._records.machines.items()}
            await firewall.apply(machines, self._records.picture)

    async def _boot(self, machine_id: int) -> None:
        """Start, plug, attach, release, and see the init system take over. Nothing to do for one that runs."""
        state = await self._engine.state(machine_id)
        if state is not None and state.running:
            return
        pid = await self._engine.start(machine_id)
        await network.plug(self._records.machines[machine_id].spec, pid)
        for volume in self._records.attached(machine_id):
            await self._volumes.show(volume.spec, volume.device, pid)
        await network.release(pid)
        await _init_runs(pid)

    async def _halt(self, machine_id: int, *, patience: int) -> None:
        await self._engine.stop(machine_id, patience=patience)
        await network.unplug(machine_id)
        for volume in self._records.attached(machine_id):
            self._volumes.close(volume.spec.id)

    async def _take_away(self, volume: VolumeRecord) -> None:
        """Detach a volume from its machine; the machine's lock is held."""
        assert volume.machine_id is not None
        state = await self._engine.state(volume.machine_id)
        if state is not None and state.running:
            await self._volumes.hide(volume.spec, volume.device, state.pid)
        self._volumes.close(volume.spec.id)
        volume.machine_id, volume.device = None, ""
        self._file.save()

    # Machines that go off by themselves

    def _ended(self, machine_id: int, exit_code: int, killed: bool) -> None:
        self._spawn(self._after_end(machine_id, exit_code, killed=killed))

    def _engine_is_back(self) -> None:
        for machine_id in list(self._records.machines):
            self._spawn(self._bring_back(machine_id, same_tree=False))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _after_end(self, machine_id: int, exit_code: int, *, killed: bool) -> None:
        async with self._locks[machine_id]:
            record = self._records.machines.get(machine_id)
            state = await self._engine.state(machine_id)
            if record is None or not record.on or state is None or state.running:
                return
            if exit_code == EXIT_REBOOT:
                await self._boot(machine_id)
            elif not killed:
                self._want(record, on=False)
                await self._halt(machine_id, patience=0)

    async def _bring_back(self, machine_id: int, *, same_tree: bool) -> None:
        """Make a machine what its record says. In the same tree, one that ended did so itself: it stays off."""
        async with self._locks[machine_id]:
            record = self._records.machines.get(machine_id)
            if record is None:
                return
            state = await self._engine.state(machine_id)
            if state is None:
                await self._engine.create(record.spec, self._write_seed(record.spec))
            elif state.running:
                for volume in self._records.attached(machine_id):
                    await self._volumes.show(volume.spec, volume.device, state.pid)
                return
            elif same_tree and state.exit_code != EXIT_REBOOT:
                self._want(record, on=False)
            if record.on:
                await self._boot(machine_id)


async def _init_runs(pid: int) -> None:
    """Return when process `pid` is an init system that listens: an earlier signal to shut down would be lost."""
    async for attempt in tenacity.AsyncRetrying(
        wait=tenacity.wait_fixed(0.02), stop=tenacity.stop_after_delay(_BOOT_S), reraise=True
    ):
        with attempt:
            _require_init(pid)


def _require_init(pid: int) -> None:
    process = Path(f"/proc/{pid}")
    if process.joinpath("exe").readlink().name == "systemd":
        # systemd takes its signals from a descriptor, for which it blocks them. Bit 0 is signal 1.
        (blocked,) = (
            line for line in process.joinpath("status").read_text().splitlines() if line.startswith("SigBlk:")
        )
        if int(blocked.split()[1], 16) >> (signal.SIGRTMIN + 3 - 1) & 1:
            return
    raise TimeoutError("the machine's init system did not start")
