"""Helpers for all handlers: request bodies, pages, lookups, unsupported operations."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.sandbox.digitalocean.models import Action, Record
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import BadRequest, Gap, NotFound, ServerError, Unprocessable

DEFAULT_PAGE = 20
LARGEST_PAGE = 200

T = TypeVar("T")
B = TypeVar("B", bound="Body")
R = TypeVar("R", bound=Record)


class Body(BaseModel):
    """What a request may hold. The API ignores fields that it does not know."""

    model_config = ConfigDict(extra="ignore")


def cloud_of(request: Request) -> Cloud:
    """The account that a request is about."""
    cloud: Cloud = request.app.state.cloud
    return cloud


async def json_of(request: Request) -> dict[str, Any]:
    """The request's body. Raises BadRequest if it is no JSON object."""
    try:
        content = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise BadRequest from error
    if not isinstance(content, dict):
        raise BadRequest
    return content


async def body_of(request: Request, model: type[B]) -> B:
    """The request's body. Raises BadRequest if it is no JSON object, Unprocessable if a field is wrong."""
    content = await json_of(request)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise Unprocessable(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    """What is wrong with the first wrong field; never its value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{field} is required" if first["type"] == "missing" else f"{field}: {first['msg']}"


def find(request: Request, model: type[R], key: str | int) -> R:
    """The record of a path. Raises NotFound."""
    record = cloud_of(request).store.get(model, key)
    if record is None:
        raise NotFound
    return record


def gap(request: Request, detail: str) -> Gap:
    """Note that something is lacking and make the error to raise."""
    cloud_of(request).store.note_gap(request.method, request.url.path, detail)
    return Gap(f"The emulated API does not have this: {detail}.")


async def refuse(detail: str, request: Request) -> Response:
    """Answer 501: the real API has this operation."""
    raise gap(request, detail)


def unsupported(detail: str) -> Callable[[Request], Awaitable[Response]]:
    """The handler of an operation that only the real API has, on a path that the emulator has: 501 instead of 405."""
    return partial(refuse, detail)


def succeeded(action: Action) -> None:
    """Raise ServerError unless an action ended well."""
    if action.status != "completed":
        raise ServerError


def answer(content: dict[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return JSONResponse(content, status_code=status)


def no_content() -> Response:
    """Success with nothing to say; the real service states a content type all the same."""
    return Response(status_code=204, media_type="application/json")


def page(request: Request, root: str, items: Sequence[T], view: Callable[[T], Any]) -> Response:
    """The page of a list that was asked for, with links to its neighbours and the total."""
    number = _positive(request, "page", 1)
    size = min(_positive(request, "per_page", DEFAULT_PAGE), LARGEST_PAGE)
    last = max(1, -(-len(items) // size))
    shown = items[(number - 1) * size : number * size]
    pages: dict[str, str] = {}
    if number > 1:
        pages["first"] = _page_url(request, 1)
        pages["prev"] = _page_url(request, min(number - 1, last))
    if number < last:
        pages["next"] = _page_url(request, number + 1)
        pages["last"] = _page_url(request, last)
    links = {"pages": pages} if pages else {}
    return answer({root: [view(item) for item in shown], "links": links, "meta": {"total": len(items)}})


def _page_url(request: Request, number: int) -> str:
    return str(request.url.include_query_params(page=number))


def _positive(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdigit() or int(text) < 1:
        raise BadRequest(f"invalid {name}")
    return int(text)
