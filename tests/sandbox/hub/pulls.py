"""What Docker Hub counts: the pulls of each address, and the limit that it puts on them.

A pull is a GET of a manifest, by tag or by digest; HEAD requests and layers are not counted. Without a login, an
IPv4 address or a /64 of IPv6 has 100 pulls in six hours (docs.docker.com/docker-hub/usage/pulls). Headers and words are
those of answers that users report (docker/hub-feedback, issue 2464).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ANONYMOUS_PULLS = 100
WINDOW_SECONDS = 6 * 3600
TOO_MANY = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
#: Requests that are remembered.
_REMEMBERED = 10_000


@dataclass(frozen=True)
class HubRequest:
    """A request for a part of an image: `kind` is `manifests` or `blobs`, and `agent` the program that asks."""

    source: str
    host: str
    method: str
    repository: str
    kind: str
    reference: str
    status: int
    agent: str


class Pulls:
    """The pulls of each address in the last six hours, and the latest requests of all."""

    def __init__(self, limit: int = ANONYMOUS_PULLS, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._pulls: dict[str, deque[float]] = {}
        self._requests: deque[HubRequest] = deque(maxlen=_REMEMBERED)

    def refuse(self, request: Request) -> Response | None:
        """Count a request for a manifest; returns the refusal if its address had all its pulls."""
        source = source_of(request)
        known = self._in_window(source)
        if request.method != "GET":
            return None
        if len(known) < self.limit:
            known.append(self._clock())
            return None
        body = {"errors": [{"code": "TOOMANYREQUESTS", "message": TOO_MANY}]}
        # When the oldest pull is forgotten; at a limit of none, when a window has passed.
        wait = WINDOW_SECONDS - (self._clock() - known[0]) if known else WINDOW_SECONDS
        return JSONResponse(body, status_code=429, headers={**self.headers(request), "Retry-After": str(int(wait) + 1)})

    def headers(self, request: Request) -> dict[str, str]:
        """What every answer with a manifest says of the limit."""
        source = source_of(request)
        left = max(0, self.limit - len(self._in_window(source)))
        return {
            "RateLimit-Limit": f"{self.limit};w={WINDOW_SECONDS}",
            "RateLimit-Remaining": f"{left};w={WINDOW_SECONDS}",
            "Docker-RateLimit-Source": source,
        }

    def note(self, request: Request, kind: str, reference: str, status: int) -> None:
        """Remember a request."""
        repository, host = request.path_params["name"], request.url.hostname or ""
        agent, source = request.headers.get("user-agent", ""), source_of(request)
        self._requests.append(HubRequest(source, host, request.method, repository, kind, reference, status, agent))

    def routes(self) -> list[Route]:
        """For the sandbox's control interface: what was asked for, and the limit. Setting that forgets all requests."""
        return [Route("/hub", self._show), Route("/hub", self._change, methods=["PUT"])]

    async def _show(self, _: Request) -> Response:
        return JSONResponse({"limit": self.limit, "requests": [asdict(one) for one in self._requests]})

    async def _change(self, request: Request) -> Response:
        wanted: Any = await request.json()
        if not isinstance(wanted, dict) or wanted.keys() != {"limit"} or not isinstance(wanted["limit"], int):
            return JSONResponse({"errors": ['the body is not {"limit": number}']}, status_code=422)
        self.limit = wanted["limit"]
        self._pulls.clear()
        self._requests.clear()
        return JSONResponse({"limit": self.limit})

    def _in_window(self, source: str) -> deque[float]:
        known = self._pulls.setdefault(source, deque())
        while known and known[0] <= self._clock() - WINDOW_SECONDS:
            known.popleft()
        return known


def source_of(request: Request) -> str:
    """What the limit is for: an IPv4 address, or the /64 of one of IPv6."""
    host = request.client.host if request.client else "127.0.0.1"
    address = ip_address(host)
    return str(IPv6Network((address, 64), strict=False).network_address) if isinstance(address, IPv6Address) else host
