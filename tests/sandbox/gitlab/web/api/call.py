"""One request to the API (its parameters, caller and database connection), and the kinds of responses."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from email import message_from_bytes
from email.policy import HTTP
from math import ceil
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..core import auth, db
from ..core.config import Config
from ..core.errors import ApiError, invalid, missing
from ..core.job_tokens import JobToken

MAXIMUM_PER_PAGE = 100


@dataclass(frozen=True)
class Call:
    """What a handler gets. Parameters come from the query and from a body in JSON or form encoding."""

    request: Request
    config: Config
    connection: db.Connection
    who: auth.Principal | None
    params: dict[str, Any]

    def path(self, name: str) -> str:
        """A part of the path, decoded: `root%2Fdemo` is one part."""
        return unquote(str(self.request.path_params[name]))

    def user(self, *scopes: str) -> auth.Principal:
        """The user; refuses without one, or with a token that is not for this."""
        return auth.require(self.who, self.request, *scopes)

    def job(self) -> JobToken | None:
        """The running job that asks, by its token; for the few calls that jobs may make."""
        return auth.job_of(self.connection, self.config, self.request)

    def admin(self) -> auth.Principal:
        """The user, who has to be an administrator."""
        principal = self.user()
        auth.require_admin(principal)
        return principal

    def require(self, *names: str) -> None:
        """Refuse when a parameter was not given."""
        absent = [name for name in names if name not in self.params]
        if absent:
            raise missing(*absent)

    def text(self, name: str, default: str | None = None) -> str | None:
        """A parameter that is a text."""
        value = self.params.get(name, default)
        if value is not None and not isinstance(value, str | int | float):
            raise invalid(name)
        return None if value is None else str(value)

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A parameter that is a number."""
        value = self.params.get(name, default)
        try:
            return None if value is None or value == "" else int(value)
        except (TypeError, ValueError):
            raise invalid(name) from None

    def flag(self, name: str, default: bool | None = None) -> bool | None:
        """A parameter that is true or false."""
        value = self.params.get(name, default)
        if value is None or isinstance(value, bool):
            return value
        lower = str(value).lower()
        if lower not in ("true", "false", "1", "0", "t", "f"):
            raise invalid(name)
        return lower in ("true", "1", "t")

    def choice(self, name: str, values: tuple[str, ...], default: str | None = None) -> str | None:
        """A parameter that is one of a few words."""
        value = self.text(name, default)
        if value is not None and value not in values:
            raise invalid(name, "does not have a valid value")
        return value

    def day(self, name: str) -> date | None:
        """A parameter that is a date."""
        value = self.text(name)
        try:
            return date.fromisoformat(value[:10]) if value else None
        except ValueError:
            raise invalid(name) from None

    def words(self, name: str) -> list[str] | None:
        """A parameter that is a list of words, or words with commas between."""
        value = self.params.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            return [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list):
            raise invalid(name)
        return [str(word) for word in value]


Handler = Callable[[Call], Any]
Endpoint = Callable[[Request], Awaitable[Response]]


def created(body: Any, background: BackgroundTask | None = None) -> Response:
    """201 with what was made; `background` is done after the response was sent."""
    return JSONResponse(body, 201, background=background)


def accepted() -> Response:
    """202: it will be done."""
    return JSONResponse({"message": "202 Accepted"}, 202)


def no_content() -> Response:
    """204: done."""
    return Response(status_code=204)


def page(call: Call, items: list[Any]) -> Response:
    """One page of a list, with the headers that say where in it one is."""
    number = max(call.integer("page", 1) or 1, 1)
    size = min(max(call.integer("per_page", 20) or 20, 1), MAXIMUM_PER_PAGE)
    pages = ceil(len(items) / size)
    following = number + 1 if number < pages else None
    headers = {
        "X-Page": str(number),
        "X-Per-Page": str(size),
        "X-Total": str(len(items)),
        "X-Total-Pages": str(max(pages, 1)),
        "X-Next-Page": str(following or ""),
        "X-Prev-Page": str(number - 1 if number > 1 else ""),
        "Link": ", ".join(_links(call, size, {"next": following, "first": 1, "last": max(pages, 1)})),
    }
    return JSONResponse(items[(number - 1) * size : number * size], headers=headers)


def _links(call: Call, size: int, relations: dict[str, int | None]) -> list[str]:
    base = f"{call.config.external_url}{call.request.url.path}"
    others = [
        (key, value)
        for key, value in call.request.query_params.multi_items()
        if key not in ("page", "per_page", "private_token", "access_token")
    ]
    return [
        f'<{base}?{urlencode([*others, ("page", number), ("per_page", size)])}>; rel="{relation}"'
        for relation, number in relations.items()
        if number
    ]


def route(path: str, **handlers: Handler) -> list[Route]:
    """Routes of one path below /api/v4; the names of the handlers are the methods."""
    return [Route(f"/api/v4{path}", _endpoint(handler), methods=[method]) for method, handler in handlers.items()]


def open_route(path: str, **handlers: Handler) -> list[Route]:
    """Routes for those who come with a token that is no user's, in whichever header: the handlers look at it."""
    return [
        Route(f"/api/v4{path}", _endpoint(handler, identify=False), methods=[method])
        for method, handler in handlers.items()
    ]


def _endpoint(handler: Handler, identify: bool = True) -> Endpoint:
    async def answer(request: Request) -> Response:
        config: Config = request.app.state.config
        params = await read_params(request)
        return await run_in_threadpool(_run, handler, request, config, params, identify)

    return answer


def _run(handler: Handler, request: Request, config: Config, params: dict[str, Any], identify: bool) -> Response:
    with db.connect(config.database) as connection:
        who = auth.identify(connection, config, request) if identify else None
        connection.commit()  # When the token was used stays known, also when the rest is refused.
        result = handler(Call(request, config, connection, who, params))
    return result if isinstance(result, Response) else JSONResponse(result)


async def read_params(request: Request) -> dict[str, Any]:
    """Parameters of query and body; `name[]` is a list, `name[key]` a hash of one level."""
    params = _nest(list(request.query_params.multi_items()))
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        return params
    if kind == "application/json":
        try:
            document = json.loads(body)
        except ValueError:
            raise ApiError(400, {"error": "The request body is not valid JSON"}) from None
        return params | document if isinstance(document, dict) else params
    if kind == "application/x-www-form-urlencoded":
        return params | _nest(parse_qsl(body.decode(), keep_blank_values=True))
    if kind == "multipart/form-data":
        return params | _nest(_parts(request.headers["content-type"], body))
    raise ApiError(415, {"error": "The provided content-type is not supported."})


def _parts(content_type: str, body: bytes) -> list[tuple[str, str]]:
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
    found = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found.append((name, content.decode()))
    return found


def _nest(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in pairs:
        name, _, inner = key.partition("[")
        if not inner:
            nested[name] = value
        elif inner == "]":
            nested.setdefault(name, []).append(value)
        else:
            nested.setdefault(name, {})[inner.rstrip("]")] = value
    return nested
