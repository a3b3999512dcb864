"""What the machinery must remember to restore everything after a restart.

One JSON file of mode 0600 (user data may contain secrets), replaced as a whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from tests.sandbox.digitalocean.state.backend import MachineSpec, NetworkPicture, VolumeSpec


@dataclass
class MachineRecord:
    """A machine and whether it should be on."""

    spec: MachineSpec
    on: bool = True


@dataclass
class VolumeRecord:
    """A volume, and the machine and device name it is attached to."""

    spec: VolumeSpec
    machine_id: int | None = None
    device: str = ""


@dataclass
class Records:
    """Everything that exists, and the last network picture."""

    machines: dict[int, MachineRecord] = field(default_factory=dict)
    volumes: dict[str, VolumeRecord] = field(default_factory=dict)
    picture: NetworkPicture = field(default_factory=NetworkPicture)

    def attached(self, machine_id: int) -> list[VolumeRecord]:
        """Volumes of a machine, in the order of their device names."""
        found = (v for v in self.volumes.values() if v.machine_id == machine_id)
        return sorted(found, key=lambda v: v.device)


_ADAPTER = TypeAdapter(Records)


class RecordFile:
    """Keeps `Records` on disk. The owner calls `save` after each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records = _ADAPTER.validate_json(path.read_bytes()) if path.exists() else Records()

    def save(self) -> None:
        """Replace the file; a crash leaves the old or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".new")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_ADAPTER.dump_json(self.records, indent=1))
        unfinished.replace(self._path)
