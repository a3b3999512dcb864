"""Looks for secrets, by value, in every place where they must not be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.e2e.sampling import Watch
from tools.clients import Outputs, run


def secret_values(outputs: Outputs) -> dict[str, str]:
    """Every secret of a stack, by name. Of a private key, its longest line: it survives any re-wrapping."""
    values = {
        "admin password": outputs.password,
        "api token": str(outputs.values["gitlab_api_token"]),
        "admin private key": _longest_line(str(outputs.values["server_ssh_private_key"])),
        "host private key": _longest_line(outputs.ssh("sudo cat /etc/ssh/ssh_host_ed25519_key")),
    }
    if outputs.storage:
        values["registry secret key"] = outputs.storage["secret_key"]
    return values


def found_in(text: str, values: dict[str, str]) -> list[str]:
    """Names of the secrets that `text` holds."""
    return [name for name, value in values.items() if value in text]


def _longest_line(pem: str) -> str:
    return str(max(re.findall(r"^[A-Za-z0-9+/=]{40,}$", pem, re.MULTILINE), key=len))


@dataclass
class ProcessWatch(Watch):
    """Command lines and environments of processes, collected while something runs.

    The workstation sees the processes of all machines of the sandbox beside its own.
    """

    seen: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        """All that was seen."""
        return "\n".join(self.seen)

    def look(self) -> None:
        """Collect those that there are now."""
        self.seen.update(run("ps", "axeww").splitlines())
