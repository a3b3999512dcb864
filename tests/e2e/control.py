"""The sandbox's control interface, for tests that ask what the cloud saw."""

from __future__ import annotations

from typing import Any

import httpx

from tests.sandbox.layout import current

READS = {"GET", "HEAD", "OPTIONS"}


class Control:
    """Reads what exists and what was asked, apart from the API that is emulated."""

    def __init__(self) -> None:
        transport = httpx.HTTPTransport(uds=str(current().control_socket))
        self._client = httpx.Client(transport=transport, base_url="http://control", timeout=30)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def resources(self) -> dict[str, Any]:
        """Everything that exists now, by kind."""
        return dict(self._client.get("/resources").raise_for_status().json())

    def requests(self) -> list[dict[str, Any]]:
        """Requests to the API so far, oldest first."""
        return list(self._client.get("/requests").raise_for_status().json())

    def gaps(self) -> list[Any]:
        """What was asked for and is not implemented."""
        return list(self._client.get("/gaps").raise_for_status().json())

    def writes_since(self, count: int) -> list[str]:
        """Requests after the first `count` that change something."""
        return [f"{one['method']} {one['path']}" for one in self.requests()[count:] if one["method"] not in READS]
