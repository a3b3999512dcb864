"""Machines as containers of a private Docker engine.

Owns containers and their Docker data volumes; knows nothing of networks and block devices. The client library blocks,
so every call runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
from docker.models.containers import Container
from docker.types import LogConfig

from tests.sandbox.digitalocean.state.backend import MachineSpec
from tests.sandbox.layout import DNS_ADDRESS, Layout
from tests.sandbox.machines.image.build import image_name
from tests.sandbox.machines.process import CommandError

#: How a container ends when its init system reboots or powers off (signal numbers of the kernel's reboot call).
EXIT_REBOOT = 129

_INIT = Path(__file__).parent / "files" / "init.sh"
#: systemd skips mounts of block devices from /etc/fstab where /sys is read-only, unless told otherwise.
_ENVIRONMENT = {"SYSTEMD_SYSFS_CHECK": "0"}
_STOP_SIGNAL = "SIGRTMIN+3"
_CPU_PERIOD = 100_000

_T = TypeVar("_T")


@dataclass(frozen=True)
class State:
    """What the engine says of a container."""

    running: bool
    pid: int
    exit_code: int


class Engine:
    """The containers of one sandbox."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.client = docker.DockerClient(base_url=f"unix://{layout.engine_socket}", timeout=180)

    def close(self) -> None:
        """Close the connections to the engine; machines go on."""
        self.client.close()

    def name(self, machine_id: int) -> str:
        """The container of a machine."""
        return f"{self._layout.name}-machine-{machine_id}"

    def machine_id(self, container_name: str) -> int | None:
        """The machine of a container, or None when it is not one of ours."""
        prefix, _, number = container_name.rpartition("-machine-")
        return int(number) if prefix == self._layout.name and number.isdigit() else None

    async def create(self, machine: MachineSpec, seed: Path) -> None:
        """Make the container of a machine, off. The seed directory must exist."""
        await self._call(self._create, machine, seed)

    def _create(self, machine: MachineSpec, seed: Path) -> None:
        name, api = self.name(machine.id), self.client.api
        volumes: dict[str, Mapping[str, str]] = {
            str(_INIT): {"bind": "/sbin/machine-init", "mode": "ro"},
            str(seed): {"bind": "/var/lib/cloud/seed/nocloud", "mode": "ro"},
            f"{name}-docker": {"bind": "/var/lib/docker", "mode": "rw"},
        }
        host = api.create_host_config(
            network_mode="none",
            dns=[str(DNS_ADDRESS)],
            cap_add=["ALL"],
            # Some hosts lack the first themselves; the others would reach the host's kernel and clock.
            cap_drop=["SYS_RESOURCE", "SYS_MODULE", "SYS_TIME"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            # All at once, not by kind: only then may a machine give all to a privileged container of its own.
            device_cgroup_rules=["a *:* rwm"],
            cgroupns="private",
            tmpfs={"/run": "rw,exec,mode=755", "/run/lock": "", "/tmp": "rw,exec,mode=1777"},  # noqa: S108
            binds=volumes,
            log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"}),
            shm_size=machine.memory_mb * 2**19,
            **_limits(machine.vcpus, machine.memory_mb),
        )
        # What Docker's command line calls systempaths=unconfined; the library has no word for it.
        host.update(MaskedPaths=[], ReadonlyPaths=[])
        api.create_container(
            image_name(machine.image),
            ["/bin/sh", "/sbin/machine-init"],
            name=name,
            hostname=machine.name,
            environment=_ENVIRONMENT,
            stop_signal=_STOP_SIGNAL,
            volumes=[volume["bind"] for volume in volumes.values()],
            host_config=host,
        )

    async def start(self, machine_id: int) -> int:
        """Start a container and return the process number of its first process."""
        container = await self._call(self.client.containers.get, self.name(machine_id))
        if container.status != "running":
            await self._call(_remove_control_groups, str(container.id))
        await self._call(container.start)
        await self._call(container.reload)
        return int(container.attrs["State"]["Pid"])

    async def stop(self, machine_id: int, *, patience: int) -> None:
        """Ask a machine to shut down; after `patience` seconds it is killed. 0 kills at once."""
        container = await self._find(machine_id)
        if container is None:
            return
        if patience:
            await self._call(container.stop, timeout=patience)
            return
        try:
            await self._call(container.kill)
        except docker.errors.APIError as error:
            # Conflict: not running, which is what was wanted.
            if error.status_code != 409:
                raise
        else:
            await self._call(container.wait)

    async def remove(self, machine_id: int) -> None:
        """Remove a container and its Docker data, running or not."""
        container = await self._find(machine_id)
        if container is not None:
            await self._call(container.remove, force=True, v=True)
        try:
            volume = await self._call(self.client.volumes.get, f"{self.name(machine_id)}-docker")
        except docker.errors.NotFound:
            return
        await self._call(volume.remove, force=True)

    async def resize(self, machine_id: int, vcpus: int, memory_mb: int) -> None:
        """Change the limits of a container."""
        container = await self._call(self.client.containers.get, self.name(machine_id))
        await self._call(container.update, **_limits(vcpus, memory_mb))

    async def keep(self, machine_id: int, image: str) -> float:
        """Keep the root disk as an image, as it is now; answer its size in GB. Docker's own data is not on it."""
        container = await self._call(self.client.containers.get, self.name(machine_id))
        kept = await self._call(container.commit, *image_name(image).split(":"))
        return round(float(kept.attrs["Size"]) / 10**9, 2)

    async def discard(self, image: str) -> None:
        """Remove an image that was kept. The engine keeps what machines still use of it."""
        with contextlib.suppress(docker.errors.ImageNotFound):
            await self._call(self.client.images.remove, image_name(image), force=True)

    async def kept(self) -> list[str]:
        """The images that were kept: those with numbers for names."""
        found = await self._call(self.client.images.list, "slipway/*")
        names = [tag.partition("/")[2].partition(":")[0] for one in found for tag in one.tags]
        return [name for name in names if name.isdigit()]

    async def state(self, machine_id: int) -> State | None:
        """The state of a container, or None without one."""
        container = await self._find(machine_id)
        if container is None:
            return None
        state = container.attrs["State"]
        return State(bool(state["Running"]), int(state["Pid"]), int(state["ExitCode"]))

    async def execute(self, machine_id: int, script: str, environment: Mapping[str, str]) -> None:
        """Run a script as root on a machine that runs, with values that no command line shows.

        Raises:
            CommandError: it failed; its last words are in the message.
        """
        container = await self._call(self.client.containers.get, self.name(machine_id))
        command = ["bash", "-c", script]
        code, output = await self._call(container.exec_run, command, environment=dict(environment))
        if code:
            words = output.decode(errors="replace")[-800:] if isinstance(output, bytes) else ""
            raise CommandError(f"a script on machine {machine_id} failed: {words}")

    async def _find(self, machine_id: int) -> Container | None:
        try:
            return await self._call(self.client.containers.get, self.name(machine_id))
        except docker.errors.NotFound:
            return None

    async def _call(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        return await asyncio.to_thread(function, *args, **kwargs)


def _remove_control_groups(container_id: str) -> None:
    """Remove what a crash left of a container: with groups below its own, the kernel refuses to set it up again."""
    root = Path("/sys/fs/cgroup")
    left = [group for depth in ("*", "*/*", "*/*/*") for group in root.glob(f"{depth}/{container_id}")]
    for group in left:
        for below in (*sorted(group.rglob("*/"), reverse=True), group):
            # The engine may be removing the same one; if one that is in use stays, the start says so.
            with contextlib.suppress(OSError):
                below.rmdir()


def _limits(vcpus: int, memory_mb: int) -> dict[str, Any]:
    cpus = min(vcpus, os.cpu_count() or 1)
    memory = memory_mb * 2**20
    return {
        "mem_limit": memory,
        "memswap_limit": memory,
        "cpu_period": _CPU_PERIOD,
        "cpu_quota": cpus * _CPU_PERIOD,
    }
