"""Faults that a test injects into one of the sandbox's services, and the gate that carries them out.

Each fault has a pattern for the path, a method or `*`, and a number of requests to affect. In a pattern, `*` matches
anything, including slashes, or `{}` one part. The first fault that matches a request applies: it may wait, answer with
a status, or cut the connection; before the request is carried out, or after that.

GitLab, the DigitalOcean API and Spaces have the same faults. The module is here because this package is all that a
machine has of the checkout.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The service of a fault that names none.
API = "api"
LONGEST_DELAY = 600
#: In a path, any text without a slash; a path with it has no other patterns.
ONE_PART = "{}"
#: Requests that are remembered.
LOG_LENGTH = 20_000
_PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass
class Fault:
    """One fault. With neither `status` nor `drop`, the request is only delayed.

    Raises:
        ValueError: a value that makes no sense; the message names it.
    """

    path: str
    method: str = "*"
    #: How many requests; None means every one.
    count: int | None = 1
    #: Seconds.
    delay: float = 0
    status: int | None = None
    message: str = "injected fault"
    #: The header `Retry-After`, in seconds.
    retry_after: int | None = None
    #: Answer with an error page, as the nginx in front of a service does, not in the form of the service.
    page: bool = False
    drop: bool = False
    #: Whether the request is carried out first, and then the answer is lost, late or another one.
    after: bool = False
    service: str = API
    id: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        checks = {
            "path": isinstance(self.path, str) and bool(self.path),
            "count": self.count is None or (isinstance(self.count, int) and self.count >= 0),
            "delay": isinstance(self.delay, int | float) and 0 <= self.delay <= LONGEST_DELAY,
            "status": self.status is None or (isinstance(self.status, int) and 400 <= self.status <= 599),
            "retry_after": self.retry_after is None or isinstance(self.retry_after, int),
        }
        if wrong := [name for name, right in checks.items() if not right]:
            raise ValueError(f"{', '.join(wrong)}: not a possible value")

    @property
    def kind(self) -> str:
        """What it does, in a word."""
        return "drop" if self.drop else "status" if self.status else "delay"

    def hits(self, service: str, method: str, target: str) -> bool:
        """Whether it affects this request. `target` is a path, with or without a query."""
        if self.service != service or not fnmatchcase(method, self.method.upper()):
            return False
        if ONE_PART in self.path:
            pattern = "[^/?]+".join(re.escape(text) for text in self.path.split(ONE_PART))
            return re.fullmatch(rf"{pattern}([?=&].*)?", target) is not None
        return any(fnmatchcase(part, self.path) for part in (target, target.partition("?")[0]))


def read_fault(given: Any) -> Fault:
    """The fault that JSON describes.

    Raises:
        ValueError: it describes none.
    """
    known = {one.name for one in fields(Fault)}
    if not isinstance(given, dict) or "path" not in given or given.keys() - known:
        raise ValueError(f"a fault has a path, and may have: {', '.join(sorted(known))}")
    return Fault(**given)


class Shelf:
    """Where faults are kept: in a file, which survives a restart, or in memory without one."""

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._memory = file, "{}"

    def read(self) -> dict[str, Any]:
        """What was written last."""
        text = self._file.read_text() if self._file and self._file.exists() else self._memory
        found: dict[str, Any] = json.loads(text)
        return found

    def write(self, content: dict[str, Any]) -> None:
        """Keep this instead."""
        self._memory = json.dumps(content)
        if self._file:
            self._file.write_text(self._memory)


class Faults:
    """The faults in force, and the requests that the gates have let in, newest last."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf or Shelf()
        self.requests: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)

    def all(self) -> list[Fault]:
        """What is waiting to hit."""
        return [Fault(**item) for item in self._shelf.read().get("faults", [])]

    def add(self, fault: Fault) -> Fault:
        """Put a fault at the end of the list."""
        fault.id = self._shelf.read().get("last", 0) + 1
        self._shelf.write({"last": fault.id, "faults": [asdict(one) for one in (*self.all(), fault)]})
        return fault

    def clear(self, number: int | None = None) -> None:
        """Take away one fault or all."""
        self._keep([fault for fault in self.all() if number is not None and fault.id != number])

    def take(self, service: str, method: str, target: str) -> Fault | None:
        """The fault that hits this request, used up by one."""
        faults = self.all()
        for fault in faults:
            if fault.hits(service, method, target):
                if fault.count is not None:
                    fault.count -= 1
                    self._keep([other for other in faults if other.count != 0])
                return fault
        return None

    def _keep(self, faults: list[Fault]) -> None:
        self._shelf.write({**self._shelf.read(), "faults": [asdict(one) for one in faults]})


Answer = Callable[[Fault, Scope], Response]


class Gate:
    """What every request to a service passes first. It must see the server's own `send`, so nothing is in front of it.

    `answer` makes the answer of a fault with a status, in the form of the service; `target` is the path and the query
    that faults are matched with.
    """

    def __init__(
        self,
        app: ASGIApp,
        faults: Faults,
        answer: Answer,
        service: str = API,
        target: Callable[[Scope], str] | None = None,
    ) -> None:
        self._app, self._faults, self._service = app, faults, service
        self._answer, self._target = answer, target or path_and_query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        remember_connection(scope, send)
        target = self._target(scope)
        fault = self._faults.take(self._service, scope["method"], target)
        path, _, query = target.partition("?")
        # Values can be secret, names are not: with S3 they say what is asked for.
        names = "&".join(part.partition("=")[0] for part in query.split("&") if part)
        note = {
            "method": scope["method"],
            "path": path,
            "query": names,
            "status": 0,
            "fault": fault.kind if fault else None,
        }
        self._faults.requests.append(note)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                note["status"] = message["status"]
            await send(message)

        await affected(fault, self._app, self._answer)(scope, receive, watched)


def path_and_query(scope: Scope) -> str:
    """The path of a request as it was sent, and its query."""
    path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    query: bytes = scope["query_string"]
    return str((path + (b"?" + query if query else b"")).decode("latin-1"))


def remember_connection(scope: Scope, send: Send) -> None:
    """Note how to cut the connection of a request."""
    # uvicorn's `send` is a method of the object that holds the transport; nothing in ASGI leads there.
    transport: Any = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        scope["abort_connection"] = transport.abort


def affected(fault: Fault | None, app: ASGIApp, answer: Answer) -> ASGIApp:
    """The application as a request finds it that a fault hits; without one, the application itself.

    `cut_status` in the scope is the status that makes the proxy in front of the service cut its client's connection.
    """

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        assert fault is not None
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        if fault.after:
            await app(scope, receive, hold)
            await _pause(fault.delay, receive)
        else:
            await asyncio.sleep(fault.delay)
        if fault.drop and "cut_status" not in scope:
            await _cut(scope, receive)
        elif fault.drop or fault.status is not None:
            response = _response(fault, scope, answer)
            await response(scope, receive, send)
        elif fault.after:
            for message in held:
                await send(message)
        else:
            await app(scope, receive, send)

    return app if fault is None else handle


def _response(fault: Fault, scope: Scope, answer: Answer) -> Response:
    if fault.drop or fault.status is None:
        return Response(status_code=scope["cut_status"])
    response = error_page(fault.status) if fault.page else answer(fault, scope)
    if fault.retry_after is not None:
        response.headers["retry-after"] = str(fault.retry_after)
    return response


def error_page(status: int) -> Response:
    """The page that nginx shows if the service behind it does not answer."""
    return Response(_PAGE.format(f"{status} {HTTPStatus(status).phrase}"), status, media_type="text/html")


async def _pause(seconds: float, receive: Receive) -> None:
    """Wait, but not for a client that has gone. The request has been read by then."""
    gone = asyncio.ensure_future(receive())
    await asyncio.wait({gone}, timeout=seconds)
    gone.cancel()


async def _cut(scope: Scope, receive: Receive) -> None:
    abort = scope.get("abort_connection")
    if abort is None:
        raise ConnectionResetError("an injected fault cut the connection")
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass


# The control interface.


def _faults(request: Request) -> Faults:
    faults: Faults = request.app.state.faults
    return faults


async def list_faults(request: Request) -> Response:
    """Faults that still wait for a request."""
    return JSONResponse([asdict(fault) for fault in _faults(request).all()])


async def add_fault(request: Request) -> Response:
    """Let something go wrong."""
    try:
        fault = read_fault(await request.json())
    except (TypeError, ValueError) as error:
        return JSONResponse({"errors": str(error)}, status_code=422)
    return JSONResponse(asdict(_faults(request).add(fault)), status_code=201)


async def clear_faults(request: Request) -> Response:
    """Let nothing go wrong any more, or one thing less."""
    _faults(request).clear(request.path_params.get("number"))
    return Response(status_code=204)


async def list_requests(request: Request) -> Response:
    """The last requests since the service started: never their headers or bodies. Status 0 is no answer."""
    return JSONResponse(list(_faults(request).requests))


#: For an application whose `state.faults` is set.
FAULT_ROUTES = [
    Route("/faults", list_faults, methods=["GET"]),
    Route("/faults", add_fault, methods=["POST"]),
    Route("/faults", clear_faults, methods=["DELETE"]),
    Route("/faults/{number:int}", clear_faults, methods=["DELETE"]),
]


def create_fault_control(faults: Faults) -> Starlette:
    """The control interface of a service that has no other."""
    app = Starlette(routes=[*FAULT_ROUTES, Route("/requests", list_requests, methods=["GET"])])
    app.state.faults = faults
    return app
