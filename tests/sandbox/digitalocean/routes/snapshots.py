"""/v2/snapshots: those of droplets. The emulator makes none of volumes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Snapshot
from tests.sandbox.digitalocean.routes.common import answer, cloud_of, no_content, page
from tests.sandbox.digitalocean.routes.views import snapshot_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import NotFound, Unprocessable

_KINDS = ("droplet", "volume")


def find_snapshot(request: Request, number: str) -> Snapshot:
    """The snapshot of a number. Raises NotFound, also for one that was deleted."""
    snapshot = cloud_of(request).store.get(Snapshot, number)
    if snapshot is None or snapshot.status != "available":
        raise NotFound
    return snapshot


def remove_snapshot(cloud: Cloud, snapshot: Snapshot) -> None:
    """Delete one. It is gone from all lists at once."""
    snapshot.status = "deleted"
    with cloud.store.transaction():
        cloud.store.put(snapshot)
        cloud.act("snapshot.delete", snapshot, type_="image_destroy", region=snapshot.region, public=False)


async def list_snapshots(request: Request) -> Response:
    kind = request.query_params.get("resource_type")
    if kind is not None and kind not in _KINDS:
        raise Unprocessable("invalid resource type")
    found = [] if kind == "volume" else cloud_of(request).store.where(Snapshot, status="available")
    return page(request, "snapshots", found, snapshot_json)


async def show_snapshot(request: Request) -> Response:
    return answer({"snapshot": snapshot_json(find_snapshot(request, request.path_params["snapshot_id"]))})


async def delete_snapshot(request: Request) -> Response:
    remove_snapshot(cloud_of(request), find_snapshot(request, request.path_params["snapshot_id"]))
    return no_content()


ROUTES = [
    Route("/v2/snapshots", list_snapshots, methods=["GET"]),
    Route("/v2/snapshots/{snapshot_id}", show_snapshot, methods=["GET"]),
    Route("/v2/snapshots/{snapshot_id}", delete_snapshot, methods=["DELETE"]),
]
