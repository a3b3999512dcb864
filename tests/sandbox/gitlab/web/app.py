"""The ASGI application: all routes, and the errors of the API."""

from __future__ import annotations

import threading
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from . import api, cable, git_http, graphql_api, health, jwt_auth, pages
from .core.config import Config
from .core.errors import ApiError
from .faults import Fault, Faults, Gate
from .long_polling import LongPolling
from .throttle import Throttle

NOT_FOUND, NOT_ALLOWED, TOO_MANY = 404, 405, 429
#: Makes nginx cut the connection of its client.
CUT = 599


async def _api_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _absent(request: Request, _: Exception) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": "404 Not Found"}, NOT_FOUND)
    return PlainTextResponse("404: not found, or not supported by this stand-in", NOT_FOUND)


async def _wrong_method(request: Request, _: Exception) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": "405 Not Allowed"}, NOT_ALLOWED)
    return PlainTextResponse("404: not found", NOT_FOUND)


async def _broken(_: Request, __: Exception) -> Response:
    return JSONResponse({"message": "500 Internal Server Error"}, 500)


class EncodedPaths:
    """Routes by the path as it was sent: in `projects/root%2Fdemo` the project is one part."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the raw path in the place of the decoded one."""
        raw = scope.get("raw_path")
        if scope["type"] == "http" and raw:
            scope = {**scope, "path": raw.partition(b"?")[0].decode("ascii")}
        await self._app(scope, receive, send)


def _injected(fault: Fault, scope: Scope) -> Response:
    """An error as GitLab has it; to requests that are too many it says so in plain text."""
    status = fault.status or 500
    if status == TOO_MANY:
        return PlainTextResponse("Retry later\n", status)
    words = f"{status} {HTTPStatus(status).phrase}"
    if not scope["path"].startswith("/api/"):
        return PlainTextResponse(words, status)
    return JSONResponse({"message": words}, status)


class _BehindNginx(Gate):
    """The gate; to lose an answer, the nginx in front of it has to cut the connection: see its configuration."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and "x-real-ip" in Headers(scope=scope):
            scope["cut_status"] = CUT
        await super().__call__(scope, receive, send)


def create_app(config: Config, faults: Faults | None = None, ending: threading.Event | None = None) -> ASGIApp:
    """The application for one configuration, behind the gate where `faults` hit. `ending` lets go of runners' polls.

    Raises:
        ValueError: the configuration has a value with which GitLab would not start.
    """
    app = Starlette(
        routes=[
            *health.routes,
            *jwt_auth.routes,
            *cable.routes,
            *git_http.routes,
            *pages.routes,
            *graphql_api.routes,
            *api.routes,
        ],
        exception_handlers={
            ApiError: _api_error,
            NOT_FOUND: _absent,
            NOT_ALLOWED: _wrong_method,
            Exception: _broken,
        },
    )
    app.state.config = config
    rails = Throttle(EncodedPaths(app), config)
    workhorse = LongPolling(rails, config, ending or threading.Event())
    return _BehindNginx(workhorse, faults or Faults(), _injected)
