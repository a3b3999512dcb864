"""Checks whether the services of a sandbox respond, from the machine it runs on."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable
from pathlib import Path

from tests.sandbox.cloud.namespaces import Init
from tests.sandbox.cloud.supervision import SocketConnection, Supervisor
from tests.sandbox.layout import Layout


def failures(init: Init, layout: Layout) -> dict[str, str]:
    """What does not answer -> why. Empty when all is well.

    The cloud process speaks for DNS, API, metadata, ACME, Spaces and package files: it answers only when all of these
    are served. The supervisor speaks for the rest.
    """
    checks: dict[str, Callable[[], None]] = {
        "engine": lambda: _get(init, layout.engine_socket, "/_ping"),
        "workstation-engine": lambda: _get(init, layout.workstation_docker_socket, "/_ping"),
        "cloud": lambda: _get(init, layout.control_socket, "/health"),
        "services": lambda: _supervised(init, layout),
    }
    found = {}
    for name, check in checks.items():
        try:
            check()
        except (OSError, http.client.HTTPException) as error:
            found[name] = str(error) or type(error).__name__
    return found


def _get(init: Init, endpoint: Path, path: str) -> None:
    with contextlib.closing(SocketConnection(init.path(endpoint))) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{path} answers {answer.status}: {answer.read(500)!r}")


def _supervised(init: Init, layout: Layout) -> None:
    states = Supervisor(init, layout).states()
    waiting = sorted(name for name, state in states.items() if state != "RUNNING")
    if waiting:
        raise ConnectionError(", ".join(waiting))
