"""Searches for secrets, by value, in places where they must not appear."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.sampling import Sampler
from tools.clients import Outputs, run

#: A file that every search for a secret has to find.
PLANTED = "/var/lib/misc/control"


def secret_values(outputs: Outputs) -> dict[str, str]:
    """Every secret of a stack by name; for a private key its longest line, which survives re-wrapping."""
    values = {
        "admin password": outputs.password,
        "api token": str(outputs.values["gitlab_api_token"]),
        "admin private key": _longest_line(str(outputs.values["server_ssh_private_key"])),
        "host private key": _longest_line(outputs.ssh("sudo cat /etc/ssh/ssh_host_ed25519_key")),
    }
    if outputs.storage:
        values["registry secret key"] = outputs.storage["secret_key"]
    return values


def world_readable_files_with(outputs: Outputs, value: str) -> list[str]:
    """World-readable files on the server that contain `value`, including `PLANTED`."""
    script = (Path(__file__).parent / "files/world-readable.sh").read_text()
    with outputs.ssh_files() as options:
        target = f"{outputs.values['server_ssh_user']}@{outputs.address}"
        found = run("ssh", *options, target, f"sudo bash -c {shlex.quote(script)} - {PLANTED}", stdin=f"{value}\n")
    return found.splitlines()


def readable_by_nobody(outputs: Outputs, files: list[str]) -> list[str]:
    """Those of the files on the server that a user without any rights can read, for all the folders above them."""
    tried = " ".join(shlex.quote(file) for file in files)
    script = f'for file in {tried}; do if runuser -u nobody -- test -r "$file"; then echo "$file"; fi; done'
    return outputs.ssh(f"sudo bash -c {shlex.quote(script)}").splitlines()


def leaked(text: str, values: dict[str, str]) -> list[str]:
    """Names of the secrets that `text` contains."""
    return [name for name, value in values.items() if value in text]


def _longest_line(pem: str) -> str:
    return str(max(re.findall(r"^[A-Za-z0-9+/=]{40,}$", pem, re.MULTILINE), key=len))


@dataclass
class ProcessSampler(Sampler):
    """Collects command lines and environments of processes.

    The workstation sees the processes of all machines in the sandbox as well as its own.
    """

    seen: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        """Everything collected so far."""
        return "\n".join(self.seen)

    def sample(self) -> None:
        """Collect the current processes."""
        self.seen.update(run("ps", "axeww").splitlines())
