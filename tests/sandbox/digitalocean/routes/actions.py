"""/v2/actions: everything that happened, to any resource."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Action, Droplet, Record
from tests.sandbox.digitalocean.routes.common import answer, cloud_of, page
from tests.sandbox.digitalocean.routes.views import action_json
from tests.sandbox.digitalocean.state.errors import NotFound


def list_for(request: Request, owner: Record | None) -> Response:
    """Actions of one resource, or all that are shown; newest first."""
    cloud = cloud_of(request)
    if owner is None:
        found = cloud.store.all(Action)
    elif isinstance(owner, Droplet):
        # Everything that keeps the droplet busy: clients look here before they ask for something else.
        found = cloud.store.where(Action, droplet_id=owner.id)
    else:
        found = cloud.store.where(Action, owner_kind=owner.kind, owner_key=owner.key)
    shown = [action for action in reversed(found) if action.public]
    return page(request, "actions", shown, lambda action: action_json(cloud, action))


def show_for(request: Request, owner: Record | None) -> Response:
    """One action, which must be of that resource if one is given."""
    cloud = cloud_of(request)
    action = cloud.store.get(Action, request.path_params["action_id"])
    if action is None or not action.public:
        raise NotFound
    busy = isinstance(owner, Droplet) and action.droplet_id == owner.id
    if owner is not None and not busy and (action.owner_kind, action.owner_key) != (owner.kind, owner.key):
        raise NotFound
    return answer({"action": action_json(cloud, action)})


async def list_actions(request: Request) -> Response:
    return list_for(request, None)


async def show_action(request: Request) -> Response:
    return show_for(request, None)


ROUTES = [
    Route("/v2/actions", list_actions, methods=["GET"]),
    Route("/v2/actions/{action_id:int}", show_action, methods=["GET"]),
]
