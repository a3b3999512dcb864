"""SSH access to machines of a stack other than the server, as their administrator has it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.e2e.stack import Stack
from tools.clients import run


@dataclass(frozen=True)
class Host:
    """One machine, reached over SSH with its host key pinned to the one in the stack's state."""

    droplet: int
    address: str
    host_key: str
    user: str
    private_key: str

    @classmethod
    def of(cls, stack: Stack, name: str) -> Self:
        """The machine whose droplet has the logical name `<name>-droplet` in the stack's state."""
        found = {urn.rsplit("::", 1)[1]: resource for urn, resource in stack.resources().items()}
        droplet, outputs = found[f"{name}-droplet"], stack.outputs()
        return cls(
            droplet=int(droplet["id"]),
            address=str(droplet["outputs"]["ipv4Address"]),
            host_key=str(found[f"{name}-host-keys-lasting"]["outputs"]["publicKeyOpenssh"]).strip(),
            user=str(outputs.values["server_ssh_user"]),
            private_key=str(outputs.values["server_ssh_private_key"]),
        )

    def sudo(self, script: str, timeout: float = 120) -> str:
        """Run a script as root and return its standard output. `timeout` is in seconds.

        Raises:
            CheckError: the script failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            identity, known = Path(folder, "id"), Path(folder, "known_hosts")
            identity.touch(mode=0o600)
            identity.write_text(self.private_key)
            known.write_text(f"{self.address} {self.host_key}\n")
            options = [
                *("-F", "none", "-i", str(identity), "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes"),
                *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
            ]
            target = f"{self.user}@{self.address}"
            return run("ssh", *options, target, "sudo bash -seuo pipefail", stdin=script, timeout=timeout)
