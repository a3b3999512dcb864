"""/v2/snapshots. The emulator makes none, neither of droplets nor of volumes: the list is empty."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.routes.common import page
from tests.sandbox.digitalocean.state.errors import NotFound, Unprocessable

_KINDS = ("droplet", "volume")


async def list_snapshots(request: Request) -> Response:
    kind = request.query_params.get("resource_type")
    if kind is not None and kind not in _KINDS:
        raise Unprocessable("invalid resource type")
    nothing: list[dict[str, Any]] = []
    return page(request, "snapshots", nothing, lambda item: item)


async def find_snapshot(request: Request) -> Response:
    del request
    raise NotFound


ROUTES = [
    Route("/v2/snapshots", list_snapshots, methods=["GET"]),
    Route("/v2/snapshots/{snapshot_id}", find_snapshot, methods=["GET", "DELETE"]),
]
