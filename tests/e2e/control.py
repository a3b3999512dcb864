"""Client for the sandbox's control interface: what exists in the cloud, and which requests it received."""

from __future__ import annotations

from typing import Any

import httpx

from tests.sandbox.hub.pulls import ANONYMOUS_PULLS
from tests.sandbox.layout import current

_READS = {"GET", "HEAD", "OPTIONS"}


class Control:
    """Reads the state of the cloud without going through the emulated API."""

    def __init__(self) -> None:
        transport = httpx.HTTPTransport(uds=str(current().control_socket))
        self._client = httpx.Client(transport=transport, base_url="http://control", timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def resources(self) -> dict[str, Any]:
        """Everything that exists now, by type of resource."""
        return dict(self._client.get("/resources").raise_for_status().json())

    def requests(self) -> list[dict[str, Any]]:
        """API requests so far, oldest first."""
        return list(self._client.get("/requests").raise_for_status().json())

    def gaps(self) -> list[Any]:
        """Requests for routes that the emulator does not implement."""
        return list(self._client.get("/gaps").raise_for_status().json())

    def mail(self) -> list[dict[str, str]]:
        """Headers and body of what the mail server has taken so far, oldest first."""
        return list(self._client.get("/mail").raise_for_status().json())

    def notifications(self) -> dict[str, list[dict[str, Any]]]:
        """What alerts have sent so far, oldest first: `mail`, and messages in `slack`."""
        return dict(self._client.get("/notifications").raise_for_status().json())

    def hub_requests(self) -> list[dict[str, Any]]:
        """Requests for manifests and blobs that Docker Hub, its mirror and Quay received, oldest first."""
        return list(self._client.get("/hub").raise_for_status().json()["requests"])

    def taken_from_hub(self, count: int = 0) -> list[dict[str, Any]]:
        """The manifests and blobs that machines took from Docker Hub itself after the first `count` requests."""
        return [
            one
            for one in self.hub_requests()[count:]
            if (one["host"], one["method"]) == ("registry-1.docker.io", "GET") and one["status"] != 401
        ]

    def limit_pulls(self, limit: int = ANONYMOUS_PULLS) -> None:
        """Change how many pulls Docker Hub grants an address, and forget what was requested before."""
        self._client.put("/hub", json={"limit": limit}).raise_for_status()

    def change_account(self, **account: Any) -> None:
        """Replace what the account is like: its limit, its standing, the scopes of its token."""
        self._client.put("/account", json=account).raise_for_status()

    def writes_since(self, count: int) -> list[str]:
        """Method and path of the requests after the first `count` that can change something."""
        return [f"{one['method']} {one['path']}" for one in self.requests()[count:] if one["method"] not in _READS]
