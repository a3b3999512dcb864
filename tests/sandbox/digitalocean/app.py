"""The API as an ASGI application: authentication, rate limit, injected faults, routes, errors."""

from __future__ import annotations

import hmac
import itertools
import math
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.sandbox.digitalocean.kubernetes.keeper import Keeper
from tests.sandbox.digitalocean.kubernetes.work import HANDLERS as KUBERNETES
from tests.sandbox.digitalocean.probe import Outside
from tests.sandbox.digitalocean.routes import ROUTES
from tests.sandbox.digitalocean.routes.token_info import TOKEN_INFO
from tests.sandbox.digitalocean.scopes import allowed
from tests.sandbox.digitalocean.state.backend import Backend
from tests.sandbox.digitalocean.state.cloud import Cloud, Config
from tests.sandbox.digitalocean.state.errors import (
    ApiError,
    Forbidden,
    Gap,
    MethodNotAllowed,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from tests.sandbox.digitalocean.state.store import Store
from tests.sandbox.digitalocean.state.watching import Watch
from tests.sandbox.digitalocean.state.work import HANDLERS
from tests.sandbox.gitlab.web.faults import API, Fault, Faults, Shelf, affected, path_and_query, remember_connection

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
HOUR, MINUTE = 3600, 60


def error_answer(error: ApiError, request_id: str | None = None) -> Response:
    """An error in the API's shape."""
    content = {"id": error.id, "message": error.message}
    return JSONResponse(content | ({"request_id": request_id} if request_id else {}), status_code=error.status)


def _answer_api_error(request: Request, error: Exception) -> Response:
    return error_answer(error if isinstance(error, ApiError) else ServerError(), request.scope.get("request_id"))


def _answer_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    wrong = MethodNotAllowed() if status == HTTPStatus.METHOD_NOT_ALLOWED else NotFound()
    return error_answer(wrong, request.scope.get("request_id"))


async def _lacking(request: Request) -> Response:
    """Everything below /v2 that no route takes: wrong methods are refused, the rest is a gap."""
    cloud: Cloud = request.app.state.cloud
    allowed: set[str] = set()
    for route in ROUTES:
        if route.matches(request.scope)[0] is Match.PARTIAL:
            allowed |= route.methods or set()
    if allowed:
        response = error_answer(MethodNotAllowed(), request.scope.get("request_id"))
        response.headers["allow"] = ", ".join(sorted(allowed))
        return response
    cloud.store.note_gap(request.method, request.url.path, "path")
    raise Gap(f"The emulated API does not have {request.method} {request.url.path}.")


class RateLimit:
    """Requests an hour and a minute, each of them forgotten when its time is over. Refused ones are not counted.

    They are counted in memory: a restart forgets them, a clock that is set does not.
    """

    def __init__(self, limit: int, burst: int) -> None:
        self.limit = limit
        self._limits = {HOUR: limit, MINUTE: burst}
        self._times: deque[float] = deque()

    def take(self) -> bool:
        """Count a request, unless it is beyond a limit; whether it is within both."""
        now = self._forget()
        if any(self._since(now - period) >= limit for period, limit in self._limits.items()):
            return False
        self._times.append(now)
        return True

    def headers(self) -> dict[str, str]:
        """The headers about it in every response."""
        now = self._forget()
        oldest = self._times[0] if self._times else now
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(max(0, self.limit - len(self._times))),
            "ratelimit-reset": str(math.ceil(time.time() + oldest + HOUR - now)),
        }

    def retry_after(self) -> int | None:
        """Seconds until there is room in the minute again; only its limit is announced so, not that of the hour."""
        now, burst = self._forget(), self._limits[MINUTE]
        if len(self._times) >= self.limit or self._since(now - MINUTE) < burst:
            return None
        return max(1, math.ceil(self._times[-burst] + MINUTE - now))

    def _since(self, moment: float) -> int:
        return sum(1 for _ in itertools.takewhile(lambda at: at > moment, reversed(self._times)))

    def _forget(self) -> float:
        now = time.monotonic()
        while self._times and self._times[0] <= now - HOUR:
            self._times.popleft()
        return now


class Gate:
    """What every request passes: the log, injected faults, the token, the rate limit."""

    def __init__(self, app: ASGIApp, cloud: Cloud, faults: Faults) -> None:
        self._app = app
        self._cloud = cloud
        self._faults = faults
        self._limit = RateLimit(cloud.config.rate_limit, cloud.config.burst_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        scope["request_id"] = str(uuid.uuid4())
        status = 0
        fault = self._faults.take(API, scope["method"], path_and_query(scope))

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = {"x-request-id": scope["request_id"], **self._limit.headers()}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        try:
            await affected(fault, self._handle, _injected)(scope, await _buffered(receive), watched)
        finally:
            elapsed = (time.monotonic() - started) * 1000
            self._cloud.store.log_request(
                scope["method"], scope["path"], status, elapsed, fault.kind if fault else None
            )

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = error_answer(refusal, scope["request_id"])
        if isinstance(refusal, TooManyRequests) and (seconds := self._limit.retry_after()) is not None:
            response.headers["retry-after"] = str(seconds)
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        given = Request(scope).headers.get("authorization", "")
        kind, _, token = given.partition(" ")
        account = self._cloud.account
        tokens = {self._cloud.config.token: account.scopes, **account.tokens}
        known = [one for one in tokens if hmac.compare_digest(token.strip().encode(), one.encode())]
        if kind.lower() != "bearer" or not known:
            return Unauthorized()
        if not self._limit.take():
            return TooManyRequests()
        return self._lacks_permission(scope["method"], scope["path"], tokens[known[0]])

    def _lacks_permission(self, method: str, path: str, scopes: list[str] | None) -> ApiError | None:
        account = self._cloud.account
        if scopes is not None and not allowed(method, path, scopes):
            return Forbidden("You are not authorized to perform this operation.")
        # The words for an account that may not create anything are not documented.
        usable = account.email_verified and account.status != "locked"
        return None if usable or method in ("GET", "HEAD", "DELETE") else Forbidden()


async def _buffered(receive: Receive) -> Receive:
    """Read the whole body first, so that reading it later suspends nothing.

    Handlers can then look up a record, read the body and store the record without another request coming in between.
    """
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _injected(fault: Fault, scope: Scope) -> Response:
    status = fault.status or HTTPStatus.INTERNAL_SERVER_ERROR
    error = ServerError(fault.message)
    known = {kind.status: kind.id for kind in _kinds(ApiError) if "id" in vars(kind) and "status" in vars(kind)}
    vars(error).update(status=status, id=known.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_")))
    return error_answer(error, scope["request_id"])


def _kinds(parent: type[ApiError]) -> list[type[ApiError]]:
    return [kind for child in parent.__subclasses__() for kind in (child, *_kinds(child))]


class Api(Starlette):
    """The application, which can also cut a connection when it is served by uvicorn."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event."""
        remember_connection(scope, send)
        await super().__call__(scope, receive, send)


class _StoreShelf(Shelf):
    """Faults are settings of the account's store."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = self._store.setting("injected_faults", {})
        return found

    def write(self, content: dict[str, Any]) -> None:
        self._store.set_setting("injected_faults", content)


def create_app(store: Store, backend: Backend, config: Config, outside: Outside | None = None) -> Starlette:
    """The API over a store and a backend; checks and webhooks go `outside`.

    Metadata service, name server and control interface share `app.state.cloud`. Starting the application starts the
    work that a former process left unfinished; stopping it leaves unfinished work for the next.
    """
    cloud = Cloud(store, backend, config, HANDLERS | KUBERNETES)
    faults = Faults(_StoreShelf(store))
    outside = outside or Outside()
    watch, keeper = Watch(cloud, outside.probe, outside.post), Keeper(cloud)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await cloud.start()
        watch.start()
        keeper.start()
        yield
        await keeper.stop()
        await watch.stop()
        await cloud.stop()

    app = Api(
        routes=[TOKEN_INFO, *ROUTES, Route("/v2/{rest:path}", _lacking, methods=METHODS)],
        exception_handlers={ApiError: _answer_api_error, HTTPException: _answer_http_error, 500: _answer_api_error},
        lifespan=lifespan,
    )
    app.add_middleware(Gate, cloud=cloud, faults=faults)
    app.state.cloud = cloud
    app.state.faults = faults
    return app
