"""Which TCP ports of a machine are open, as this machine sees it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable
from typing import Final

from tools.clients import CheckError, run

#: Ports that a server may listen on: the system's, Docker's, and those of the services inside GitLab.
SERVICES: Final = frozenset({
    *range(1, 1025), 2375, 2376, 3000, 3306, 3807, 5000, 5432, 6379, 6432, 8000, 8060, *range(8080, 8084),
    *range(8150, 8156), *range(9090, 9237),
})  # fmt: skip
#: Connections at a time: macOS lets a process have 256 files open.
_AT_ONCE: Final = 200
#: Seconds for a connection. The kernel repeats a lost packet after one.
_PATIENCE: Final = 2.0
#: How a port that is closed answers. Other errors are this machine's own, and say nothing about the port.
_CLOSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT})


def connect(address: str, ports: Iterable[int]) -> set[int]:
    """Return which of the ports accept a connection. Needs no rights and no other program.

    Raises:
        CheckError: this machine cannot make connections.
    """
    return asyncio.run(_connect(address, sorted(ports)))


async def _connect(address: str, ports: list[int]) -> set[int]:
    gate = asyncio.Semaphore(_AT_ONCE)
    found = await asyncio.gather(*(_accepts(address, port, gate) for port in ports))
    return {port for port, accepts in zip(ports, found, strict=True) if accepts}


async def _accepts(address: str, port: int, gate: asyncio.Semaphore) -> bool:
    async with gate:
        try:
            async with asyncio.timeout(_PATIENCE):
                _, writer = await asyncio.open_connection(address, port)
        except TimeoutError:
            return False
        except OSError as error:
            if error.errno in _CLOSED:
                return False
            raise CheckError(f"port {port} of {address} cannot be tried: {error.strerror or error}") from error
        writer.transport.abort()
        return True


def scan(address: str) -> set[int]:
    """Return which of all 65535 ports are open. It is quick enough only by half-open connections, through nmap.

    Raises:
        CheckError: this process may not send such packets, or nmap fails.
    """
    if not may_send_packets():
        raise CheckError(
            "a scan of all 65535 ports needs the rights of root, for packets of its own (CAP_NET_RAW). Run it with "
            "sudo; or leave out --all-ports, and the ports that services use are tried"
        )
    report = run(
        "nmap", "--privileged", "-Pn", "-n", "-sS", "-p-", "--min-rate=10000", "--max-retries=1", "--host-timeout=180s",
        "-oG", "-", address, timeout=240,
    )  # fmt: skip
    lines = [line for line in report.splitlines() if "Ports: " in line]
    entries = lines[0].split("Ports: ")[1].split("\t")[0].split(",") if lines else []
    fields = [entry.strip().split("/") for entry in entries]
    return {int(number) for number, state, *_ in fields if state == "open"}


def may_send_packets() -> bool:
    """Whether this process may send packets that it has made itself. In a container, root may not either."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()
    except PermissionError:
        return False
    return True
