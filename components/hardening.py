"""What every machine of the stack is hardened with: files for its `hardening.sh`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pulumi

from components.rendering import script

#: The libraries that a script needs to call the functions of `hardening.sh`.
LIBRARIES: Final = ("apt.sh", "ports.sh", "hardening.sh")
_FILES: Final = {
    "APT_CONF": "apt.conf",
    "BANNER": "issue.net",
    "COREDUMP_CONF": "coredump.conf",
    "FAIL2BAN_CONF": "fail2ban.conf",
    "LIMITS_CONF": "limits.conf",
    "MODPROBE_CONF": "modprobe.conf",
    "SSHD_CONF": "sshd.conf",
    "SYSCTL_CONF": "sysctl.conf",
}


def hardening(user: str, login_keys: pulumi.Input[str], public_ports: Sequence[int]) -> Mapping[str, pulumi.Input[str]]:
    """Return the values that `hardening.sh` reads.

    `user` is the administrator's name, `login_keys` are the lines of the file authorized_keys. `public_ports` are the
    TCP ports that the machine's own firewall opens besides SSH; the cloud firewall is not configured here.
    """
    files = {name: script(f"hardening/{file}").strip() for name, file in _FILES.items()}
    ports = " ".join(str(port) for port in public_ports)
    return {"ADMIN_USER": user, "AUTHORIZED_KEYS": login_keys, "PUBLIC_PORTS": ports, **files}
