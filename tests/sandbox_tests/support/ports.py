"""Ports for servers that tests start."""

import random
import socket
from contextlib import suppress
from pathlib import Path

_LOWEST = 20000


def free_port() -> int:
    """A port of loopback that nothing listens on, and that the kernel gives to no connection while its server starts.

    A port that `bind` chooses comes from the range of outgoing connections, so that a test beside this one can get it
    between the choice and the start of the server.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(_LOWEST, end), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port is free")
