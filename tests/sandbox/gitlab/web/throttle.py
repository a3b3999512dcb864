"""Limits of requests, as GitLab has them: `Gitlab::RackAttack`, with its answer and its headers.

Those of an address that has not signed in, and those of a user, for pages and for the API each. Limits of single paths
are left out.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter
from email.utils import formatdate
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from . import sessions
from .core import auth, db, settings
from .core.config import Config
from .core.errors import ApiError

#: Health checks, what the registry and GitLab's own parts report, git, and runners with their jobs.
_FREE = re.compile(
    r"/-/(health|readiness|liveness)$|/api/v4/(internal|container_registry_event|jobs/|runners\b)|"
    r"/.+/(info/refs|git-upload-pack|git-receive-pack)$"
)
_MINUTE = 60


class Throttle:
    """Refuses a client that asks too often."""

    def __init__(self, app: ASGIApp, config: Config) -> None:
        self._app, self._config = app, config
        self._lock = threading.Lock()
        self._window: dict[str, int] = {}
        self._counts: dict[str, Counter[str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and not _FREE.match(scope["path"]):
            refusal = await run_in_threadpool(self._refusal, Request(scope))
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        with db.connect(self._config.database) as connection:
            values = settings.read(connection)
            if not any(values[f"throttle_{name}_enabled"] for name in (*_NAMES[False], *_NAMES[True])):
                return None
            user = _user(connection, self._config, request)
        name = _NAMES[user is not None][request.url.path.startswith("/api/")]
        if not values[f"throttle_{name}_enabled"]:
            return None
        client = f"user:{user}" if user is not None else auth.client_address(request)
        return self._counted(name, client, values)

    def _counted(self, name: str, client: str, values: dict[str, Any]) -> Response | None:
        limit = int(values[f"throttle_{name}_requests_per_period"])
        period = int(values[f"throttle_{name}_period_in_seconds"])
        now = int(time.time())
        with self._lock:
            if self._window.get(name) != now // period:
                self._window[name], self._counts[name] = now // period, Counter()
            self._counts[name][client] += 1
            observed = self._counts[name][client]
        if observed <= limit:
            return None
        wait = period - now % period
        headers = {
            "RateLimit-Name": f"throttle_{name}",
            "RateLimit-Limit": str(math.ceil(limit * _MINUTE / period)),
            "RateLimit-Observed": str(observed),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(now + wait),
            "RateLimit-ResetTime": formatdate(now + wait, usegmt=True),
            "Retry-After": str(wait),
        }
        return PlainTextResponse("Retry later\n", 429, headers=headers)


#: By whether somebody is known: for pages, and for the API.
_NAMES = {
    False: ("unauthenticated", "unauthenticated_api"),
    True: ("authenticated_web", "authenticated_api"),
}


def _user(connection: db.Connection, config: Config, request: Request) -> int | None:
    """Who asks, by a token or by a session; a token that is no good is nobody's."""
    try:
        found = auth.identify(connection, config, request)
        job = auth.job_of(connection, config, request)
    except ApiError:
        return None
    who = found or sessions.read(connection, config, request).who
    if who is not None:
        return int(who.user["id"])
    return int(job.user["id"]) if job is not None else None
