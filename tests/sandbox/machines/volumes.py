"""Block devices: sparse files, attached through the host's loop devices.

Loop devices are the one thing that a sandbox shares with the host and with other sandboxes. So each is marked to detach
when the last user closes it: this process holds it open, and so does a machine that has it mounted. When a sandbox is
killed, nothing stays on the host.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.digitalocean.state.backend import VolumeSpec
from tests.sandbox.machines.process import run

_FILES = Path(__file__).parent / "files"
_GIB = 2**30


class VolumeError(Exception):
    """A volume cannot be what was asked for."""


@dataclass(frozen=True)
class Loop:
    """A loop device that this process holds open."""

    path: str
    descriptor: int

    @property
    def numbers(self) -> tuple[str, str]:
        """Major and minor number."""
        device = os.fstat(self.descriptor).st_rdev
        return str(os.major(device)), str(os.minor(device))


class Volumes:
    """The volumes of one sandbox, as files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loops: dict[str, Loop] = {}

    def path(self, volume_id: str) -> Path:
        """The file that holds a volume's content."""
        return self._directory / f"{volume_id}.img"

    async def create(self, volume: VolumeSpec) -> None:
        """Make an empty volume with its filesystem. Leaves an existing one alone."""
        path = self.path(volume.id)
        if path.exists():
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        with unfinished.open("wb") as file:
            file.truncate(volume.size_gb * _GIB)
        label = ["-L", volume.label] if volume.label else []
        match volume.filesystem:
            case "ext4":
                await run("mkfs.ext4", "-q", "-F", *label, str(unfinished))
            case "xfs":
                await run("mkfs.xfs", "-q", "-f", *label, str(unfinished))
            case "":
                pass
            case other:
                raise VolumeError(f"there is no file system {other!r}; there are ext4 and xfs")
        unfinished.replace(path)

    async def delete(self, volume_id: str) -> None:
        """Remove a volume and its content."""
        self.close(volume_id)
        self.path(volume_id).unlink(missing_ok=True)

    async def resize(self, volume_id: str, size_gb: int) -> None:
        """Let a volume grow, also while it is attached. Refuses to shrink it."""
        path = self.path(volume_id)
        if path.stat().st_size > size_gb * _GIB:
            raise VolumeError(f"volume {volume_id} can only grow")
        os.truncate(path, size_gb * _GIB)
        if loop := self._loops.get(volume_id):
            await run("losetup", "--set-capacity", loop.path)

    async def open(self, volume_id: str) -> Loop:
        """The loop device of a volume, which this process holds from now on."""
        if volume_id in self._loops:
            return self._loops[volume_id]
        file = str(self.path(volume_id))
        path = await self._device(file)
        if not path:
            path = (await run("losetup", "--find", "--show", file)).strip()
        loop = Loop(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))
        self._loops[volume_id] = loop
        # Detaching a device that is open only marks it: the kernel detaches it when the last one closes it.
        await run("losetup", "--detach", path)
        return loop

    def close(self, volume_id: str) -> None:
        """Let go of a volume's device; it is gone when no machine has it mounted either."""
        if loop := self._loops.pop(volume_id, None):
            os.close(loop.descriptor)

    def close_all(self) -> None:
        """Let go of all devices."""
        for volume_id in list(self._loops):
            self.close(volume_id)

    async def show(self, volume: VolumeSpec, device: str, pid: int) -> None:
        """Show a volume in the machine whose first process is `pid`."""
        loop = await self.open(volume.id)
        await _inside(pid, "attach-volume.sh", device, *loop.numbers, volume.name)

    async def hide(self, volume: VolumeSpec, device: str, pid: int) -> None:
        """Take a volume away from a machine, unmounting it by force."""
        loop = await self.open(volume.id)
        await _inside(pid, "detach-volume.sh", device, *loop.numbers, volume.name)

    async def _device(self, file: str) -> str:
        listing = await run("losetup", "--noheadings", "--output", "NAME", "--associated", file)
        return listing.strip().split("\n")[0].strip()


def free_device(taken: Iterable[str]) -> str:
    """The next device name of a machine: sda, sdb, ... A machine takes at most seven volumes on DigitalOcean."""
    used = set(taken)
    return next(name for letter in "abcdefghijklmnop" if (name := f"sd{letter}") not in used)


async def _inside(pid: int, script: str, *arguments: str) -> None:
    """Run one of our scripts by a machine's own shell. The process namespace is for /proc/self, which umount reads."""
    text = (_FILES / script).read_text()
    enter = ("nsenter", "--target", str(pid), "--mount", "--pid", "--root", "--wd")
    await run(*enter, "sh", "-s", "--", *arguments, stdin=text)
