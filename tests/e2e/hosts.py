"""SSH access to machines of a stack other than the server, as their administrator has it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.e2e.stack import Stack
from tools.clients import run, try_run


@dataclass(frozen=True)
class Host:
    """One machine, reached over SSH with its host key pinned to the one in the stack's state."""

    droplet: int
    address: str
    host_key: str
    user: str
    # Not in the message of a test that fails.
    private_key: str = field(repr=False)

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
        with self.login() as login:
            return run("ssh", *login, "sudo bash -seuo pipefail", stdin=script, timeout=timeout)

    def forwarded(self, address: str) -> subprocess.CompletedProcess[str]:
        """Try to reach an address, `host:port`, through the machine."""
        with self.login() as login:
            return try_run("ssh", "-W", address, *login)

    @contextmanager
    def login(self) -> Iterator[list[str]]:
        """The words of `ssh` that lead to the machine, until the end of the block."""
        with tempfile.TemporaryDirectory() as folder:
            identity, known = Path(folder, "id"), Path(folder, "known_hosts")
            identity.touch(mode=0o600)
            identity.write_text(self.private_key)
            known.write_text(f"{self.address} {self.host_key}\n")
            yield [
                *("-F", "none", "-i", str(identity), "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes"),
                *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
                f"{self.user}@{self.address}",
            ]
