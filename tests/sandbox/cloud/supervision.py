"""The process supervisor of a running sandbox."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any, cast

from tests.sandbox.cloud.namespaces import Init
from tests.sandbox.layout import Layout


def configuration_file(layout: Layout) -> Path:
    """The supervisor's configuration (mode 0600)."""
    return layout.state / "supervisord.conf"


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        """Connect to the socket, whatever host the address names."""
        del host
        return SocketConnection(self._path)


class Supervisor:
    """The supervisor of a running sandbox, reached from the machine."""

    def __init__(self, init: Init, layout: Layout) -> None:
        transport = _SocketTransport(init.path(layout.run / "supervisor.sock"))
        self._server = xmlrpc.client.ServerProxy("http://sandbox", transport=transport)

    def states(self) -> dict[str, str]:
        """Name of each service -> `RUNNING`, `STARTING`, `BACKOFF`, `FATAL`, … `OSError` while it does not answer."""
        answer = cast("list[dict[str, Any]]", self._server.supervisor.getAllProcessInfo())
        return {entry["name"]: entry["statename"] for entry in answer}

    def restart(self, name: str) -> None:
        """End a service and start it again."""
        self._server.supervisor.stopProcess(name, True)
        self._server.supervisor.startProcess(name, False)

    def start(self, name: str) -> None:
        """Start a service that was given up."""
        self._server.supervisor.startProcess(name, False)
