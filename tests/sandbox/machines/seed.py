"""The data for cloud-init at a machine's first boot: a NoCloud seed directory.

The DigitalOcean data source checks the vendor in the firmware and so refuses to work in a container; the content is the
same.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.sandbox.digitalocean.state.backend import MachineSpec


def write_seed(directory: Path, machine: MachineSpec) -> None:
    """Write the seed of `machine`, readable by root only: user data may hold secrets."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    metadata = {
        "instance-id": str(machine.id),
        "local-hostname": machine.name,
        "public-keys": list(machine.ssh_keys),
        "region": machine.region,
    }
    for name, content in (("meta-data", json.dumps(metadata, indent=1)), ("user-data", machine.user_data)):
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(content)


def remove_seed(directory: Path) -> None:
    """Remove a seed and the machine's directory around it."""
    shutil.rmtree(directory.parent, ignore_errors=True)
