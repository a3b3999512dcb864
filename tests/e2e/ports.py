"""Watches a server from outside while it is made: which ports answer, and what is behind them when they first do."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.e2e.sampling import Watch


@dataclass
class DoorWatch(Watch):
    """Tries ports of a host.

    `opened` has the ports that have answered, those of one look together. `sign_up` is what the page for new accounts
    answered first, once port 443 did: a status, and where it leads.
    """

    host: str
    ports: Sequence[int]
    opened: list[set[int]] = field(default_factory=list)
    sign_up: tuple[int, str] | None = None

    def look(self) -> None:
        """Try those ports that have not answered yet."""
        known = set().union(*self.opened)
        if found := {port for port in self.ports if port not in known and self._answers(port)}:
            self.opened.append(found)
        if 443 in known | found and self.sign_up is None:
            self._ask()

    def _answers(self, port: int) -> bool:
        try:
            socket.create_connection((self.host, port), timeout=0.5).close()
        except OSError:
            return False
        return True

    def _ask(self) -> None:
        try:
            answer = httpx.get(f"https://{self.host}/users/sign_up", timeout=30)
        except httpx.TransportError:
            # Open, and nothing that serves behind it yet: asked again.
            return
        if answer.is_server_error:
            # A front without its application.
            return
        self.sign_up = (answer.status_code, answer.headers.get("location", ""))
