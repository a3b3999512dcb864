"""Probes a server from outside while it is being created: which ports answer, and what they serve first."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from tests.e2e.sampling import Sampler


@dataclass
class PortSampler(Sampler):
    """Connects to ports of a host.

    `opened` lists the ports in the order in which they first answered, grouped by sample. `sign_up` is the first
    response of the sign-up page once port 443 is open: status code and redirect target.
    """

    host: str
    ports: Sequence[int]
    opened: list[set[int]] = field(default_factory=list)
    sign_up: tuple[int, str] | None = None

    def sample(self) -> None:
        """Probe the ports that have not answered yet."""
        known = set().union(*self.opened)
        if found := {port for port in self.ports if port not in known and self._answers(port)}:
            self.opened.append(found)
        if 443 in known | found and self.sign_up is None:
            self._request_sign_up()

    def _answers(self, port: int) -> bool:
        try:
            socket.create_connection((self.host, port), timeout=0.5).close()
        except OSError:
            return False
        return True

    def _request_sign_up(self) -> None:
        try:
            answer = httpx.get(f"https://{self.host}/users/sign_up", timeout=30)
        except httpx.TransportError:
            # The port is open, but nothing serves behind it yet: retry with the next sample.
            return
        if answer.is_server_error:
            # The reverse proxy is up before its application.
            return
        self.sign_up = (answer.status_code, answer.headers.get("location", ""))
