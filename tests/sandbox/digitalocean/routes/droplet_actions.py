"""/v2/droplets/{id}/actions: power, resize, rebuild and rename a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Action, Droplet, now
from tests.sandbox.digitalocean.routes.actions import list_for, show_for
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, gap
from tests.sandbox.digitalocean.routes.droplets import check_image, check_name, check_size
from tests.sandbox.digitalocean.routes.views import action_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import PendingEvent, SizeNotInRegion, Unprocessable

#: Real types of actions that the emulator lacks.
LACKING = frozenset(
    {
        "enable_backups",
        "disable_backups",
        "change_backup_policy",
        "restore",
        "password_reset",
        "change_kernel",
        "enable_private_networking",
    }
)


class NewAction(Body):
    type: str | None = None
    size: str | None = None
    disk: bool = False
    name: str | None = None
    image: str | int | None = None


def _must_be_on(droplet: Droplet) -> None:
    if droplet.status != "active":
        raise Unprocessable("Droplet is currently powered off. Please power it on to run this event.")


def _power_on(_: Cloud, droplet: Droplet, __: NewAction) -> dict[str, Any]:
    if droplet.status == "active":
        raise Unprocessable("Droplet is already powered on.")
    return {}


def _power_off(_: Cloud, droplet: Droplet, __: NewAction) -> dict[str, Any]:
    if droplet.status == "off":
        raise Unprocessable("Droplet is already powered off.")
    return {}


def _running(_: Cloud, droplet: Droplet, __: NewAction) -> dict[str, Any]:
    _must_be_on(droplet)
    return {}


def _any_state(_: Cloud, __: Droplet, ___: NewAction) -> dict[str, Any]:
    return {}


def _resize(cloud: Cloud, droplet: Droplet, body: NewAction) -> dict[str, Any]:
    size = check_size(cloud, body.size)
    if droplet.region not in size.regions:
        raise SizeNotInRegion
    if droplet.status != "off":
        raise Unprocessable("Droplet must be powered off to be resized.")
    if size.slug == droplet.size and not (body.disk and size.disk > droplet.disk):
        raise Unprocessable("Droplet is already this size.")
    if size.disk < droplet.disk:
        raise Unprocessable("This size is not available because it has a smaller disk.")
    return {"size": size.slug, "disk": body.disk}


def _rename(_: Cloud, __: Droplet, body: NewAction) -> dict[str, Any]:
    return {"name": check_name(body.name or "")}


def _rebuild(cloud: Cloud, droplet: Droplet, body: NewAction) -> dict[str, Any]:
    image = check_image(cloud, body.image, droplet.region)
    return {"image": image.slug or str(image.id)}


def _snapshot(cloud: Cloud, droplet: Droplet, body: NewAction) -> dict[str, Any]:
    """Also of one that runs; what it has not written by then is missing."""
    number = cloud.store.next_number("image", 210_000_001)
    return {"id": number, "name": body.name or f"{droplet.name} {now()}"}


def _enable_ipv6(_: Cloud, droplet: Droplet, __: NewAction) -> dict[str, Any]:
    if droplet.public_ipv6 is not None:
        raise Unprocessable("IPv6 is already enabled on this Droplet.")
    return {}


#: Checks of the state and of what the action needs; each returns what the work needs to know.
CHECKS: dict[str, Callable[[Cloud, Droplet, NewAction], dict[str, Any]]] = {
    "power_on": _power_on,
    "power_off": _power_off,
    # Accepted for one that is off already, unlike power_off: the official provider relies on that.
    "shutdown": _any_state,
    "reboot": _running,
    "power_cycle": _any_state,
    "resize": _resize,
    "rename": _rename,
    "rebuild": _rebuild,
    "snapshot": _snapshot,
    "enable_ipv6": _enable_ipv6,
}


def _begin(request: Request, droplet: Droplet, body: NewAction) -> Action:
    cloud = cloud_of(request)
    kind = body.type or ""
    if kind in LACKING:
        raise gap(request, f"droplet action {kind}")
    check = CHECKS.get(kind)
    if check is None:
        raise Unprocessable("You specified an invalid action type.")
    if cloud.pending(droplet):
        raise PendingEvent
    params = check(cloud, droplet, body)
    return cloud.act(
        f"droplet.{kind}", droplet, type_=kind, region=droplet.region, droplet_id=droplet.id, params=params
    )


async def create_action(request: Request) -> Response:
    droplet = find(request, Droplet, request.path_params["droplet_id"])
    body = await body_of(request, NewAction)
    return answer({"action": action_json(cloud_of(request), _begin(request, droplet, body))}, 201)


async def create_actions_by_tag(request: Request) -> Response:
    cloud = cloud_of(request)
    tag = request.query_params.get("tag_name", "").lower()
    body = await body_of(request, NewAction)
    chosen = [d for d in cloud.store.all(Droplet) if tag in {name.lower() for name in d.tags}]
    actions = [_begin(request, droplet, body) for droplet in chosen if not cloud.pending(droplet)]
    return answer({"actions": [action_json(cloud, action) for action in actions]}, 201)


async def list_actions(request: Request) -> Response:
    return list_for(request, find(request, Droplet, request.path_params["droplet_id"]))


async def show_action(request: Request) -> Response:
    return show_for(request, find(request, Droplet, request.path_params["droplet_id"]))


ROUTES = [
    Route("/v2/droplets/actions", create_actions_by_tag, methods=["POST"]),
    Route("/v2/droplets/{droplet_id:int}/actions", list_actions, methods=["GET"]),
    Route("/v2/droplets/{droplet_id:int}/actions", create_action, methods=["POST"]),
    Route("/v2/droplets/{droplet_id:int}/actions/{action_id:int}", show_action, methods=["GET"]),
]
