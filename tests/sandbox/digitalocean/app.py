"""The API as an ASGI application: authentication, rate limit, injected faults, routes, errors."""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
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

from tests.sandbox.digitalocean.faults import Fault, Faults
from tests.sandbox.digitalocean.routes import ROUTES
from tests.sandbox.digitalocean.scopes import scope_of
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
from tests.sandbox.digitalocean.state.work import HANDLERS

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
HOUR = 3600


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
    """Requests an hour, counted in memory: a restart is a new hour, a clock that is set is not."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._start = time.monotonic()
        self._count = 0

    def take(self) -> bool:
        """Count a request; whether it is within the limit."""
        if time.monotonic() - self._start >= HOUR:
            self._start, self._count = time.monotonic(), 0
        self._count += 1
        return self._count <= self.limit

    def headers(self) -> dict[str, str]:
        """The headers about it in every response."""
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(max(0, self.limit - self._count)),
            "ratelimit-reset": str(int(time.time() + self._start + HOUR - time.monotonic())),
        }


class Gate:
    """What every request passes: the log, injected faults, the token, the rate limit."""

    def __init__(self, app: ASGIApp, cloud: Cloud, faults: Faults) -> None:
        self._app = app
        self._cloud = cloud
        self._faults = faults
        self._limit = RateLimit(cloud.config.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        scope["request_id"] = str(uuid.uuid4())
        status = 0
        fault = self._faults.take(scope["method"], scope["path"])

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = {"x-request-id": scope["request_id"], **self._limit.headers()}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        try:
            await self._handle(scope, receive, watched, fault)
        finally:
            kind = None if fault is None else "drop" if fault.drop else "status" if fault.status else "delay"
            elapsed = (time.monotonic() - started) * 1000
            self._cloud.store.log_request(scope["method"], scope["path"], status, elapsed, kind)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, fault: Fault | None) -> None:
        if fault is not None:
            await asyncio.sleep(fault.delay)
            if fault.drop:
                await self._drop(scope, await _buffered(receive), carry_out=fault.after)
                return
            if fault.status is not None:
                await error_answer(_injected(fault), scope["request_id"])(scope, receive, send)
                return
        receive = await _buffered(receive)
        refusal = self._refusal(scope)
        if refusal is not None:
            await error_answer(refusal, scope["request_id"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        given = Request(scope).headers.get("authorization", "")
        kind, _, token = given.partition(" ")
        expected = self._cloud.config.token
        if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), expected.encode()):
            return Unauthorized()
        if not self._limit.take():
            return TooManyRequests()
        return self._lacks_permission(scope["method"], scope["path"])

    def _lacks_permission(self, method: str, path: str) -> ApiError | None:
        account = self._cloud.account
        needed = scope_of(method, path)
        if account.scopes is not None and needed and needed not in account.scopes:
            return Forbidden("You are not authorized to perform this operation.")
        # The words for an account that may not create anything are not documented.
        usable = account.email_verified and account.status != "locked"
        return None if usable or method in ("GET", "HEAD", "DELETE") else Forbidden()

    async def _drop(self, scope: Scope, receive: Receive, *, carry_out: bool) -> None:
        """Cut the connection, before or after the request was carried out."""
        if carry_out:

            async def swallowed(message: Message) -> None:
                del message

            await self._app(scope, receive, swallowed)
        abort = scope.get("abort_connection")
        if abort is None:
            raise ConnectionResetError("an injected fault cut the connection")
        abort()
        while (await receive())["type"] != "http.disconnect":
            pass


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


def _injected(fault: Fault) -> ApiError:
    status = fault.status or HTTPStatus.INTERNAL_SERVER_ERROR
    error = ServerError(fault.message)
    known = {kind.status: kind.id for kind in _kinds(ApiError) if "id" in vars(kind) and "status" in vars(kind)}
    vars(error).update(status=status, id=known.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_")))
    return error


def _kinds(parent: type[ApiError]) -> list[type[ApiError]]:
    return [kind for child in parent.__subclasses__() for kind in (child, *_kinds(child))]


class Api(Starlette):
    """The application, which can also cut a connection when it is served by uvicorn."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event."""
        # uvicorn's `send` is a method of the object that holds the transport; nothing in ASGI leads there.
        transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
        if scope["type"] == "http" and transport is not None:
            scope["abort_connection"] = transport.abort
        await super().__call__(scope, receive, send)


def create_app(store: Store, backend: Backend, config: Config) -> Starlette:
    """The API over a store and a backend.

    Metadata service, name server and control interface share `app.state.cloud`. Starting the application starts the
    work that a former process left unfinished; stopping it leaves unfinished work for the next.
    """
    cloud = Cloud(store, backend, config, HANDLERS)
    faults = Faults(store)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await cloud.start()
        yield
        await cloud.stop()

    app = Api(
        routes=[*ROUTES, Route("/v2/{rest:path}", _lacking, methods=METHODS)],
        exception_handlers={ApiError: _answer_api_error, HTTPException: _answer_http_error, 500: _answer_api_error},
        lifespan=lifespan,
    )
    app.add_middleware(Gate, cloud=cloud, faults=faults)
    app.state.cloud = cloud
    app.state.faults = faults
    return app
