"""/v2/reserved_ips and their actions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Action, Droplet, Project, ReservedIp
from tests.sandbox.digitalocean.routes.actions import list_for, show_for
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, no_content, page
from tests.sandbox.digitalocean.routes.views import action_json, reserved_ip_json
from tests.sandbox.digitalocean.state import addresses
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import NotFound, PendingEvent, Unprocessable
from tests.sandbox.digitalocean.state.projects import default_project, join_project, leave_projects


class NewReservedIp(Body):
    droplet_id: int | None = None
    region: str | None = None
    project_id: str | None = None


class NewAction(Body):
    type: str | None = None
    droplet_id: int | None = None


def _assignable(cloud: Cloud, droplet_id: int | None, region: str | None) -> Droplet:
    """The droplet that an address can be pointed to."""
    droplet = cloud.store.get(Droplet, droplet_id or 0)
    if droplet is None:
        raise Unprocessable("The Droplet could not be found.")
    if region is not None and droplet.region != region:
        raise Unprocessable("The reserved IP and the Droplet must be in the same region.")
    # A droplet has one anchor address, so it can have one reserved IP.
    if cloud.store.where(ReservedIp, droplet_id=droplet.id):
        raise Unprocessable("Droplet already has a reserved IP.")
    if droplet.status == "new" or cloud.pending(droplet):
        raise PendingEvent
    return droplet


def _region(cloud: Cloud, slug: str | None) -> str:
    region = cloud.catalog.regions.get(slug or "")
    if region is None or not region.available:
        raise Unprocessable("You specified an invalid region.")
    return region.slug


async def create(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewReservedIp)
    droplet = _assignable(cloud, body.droplet_id, None) if body.droplet_id is not None else None
    region = droplet.region if droplet else _region(cloud, body.region)
    if len(cloud.store.all(ReservedIp)) >= cloud.config.reserved_ip_limit:
        raise Unprocessable("creating this reserved IP will exceed your reserved IP limit")
    project = cloud.store.get(Project, body.project_id) if body.project_id else default_project(cloud)
    if project is None:
        raise NotFound
    with cloud.store.transaction():
        address = addresses.lease(cloud.store, "reserved", "reserved")
        ip = ReservedIp(ip=address, region=region)
        cloud.store.put(ip)
        join_project(cloud, ip.urn, project.id)
        action = _assign(cloud, ip, droplet) if droplet else None
    content: dict[str, object] = {"reserved_ip": reserved_ip_json(cloud, ip)}
    if droplet and action:
        base = str(request.base_url).rstrip("/")
        content["links"] = {
            "droplets": [{"id": droplet.id, "rel": "droplet", "href": f"{base}/v2/droplets/{droplet.id}"}],
            "actions": [{"id": action.id, "rel": "assign_ip", "href": f"{base}/v2/actions/{action.id}"}],
        }
    return answer(content, 202)


def _assign(cloud: Cloud, ip: ReservedIp, droplet: Droplet) -> Action:
    return cloud.act(
        "reserved_ip.assign",
        ip,
        type_="assign_ip",
        region=ip.region,
        droplet_id=droplet.id,
        params={"droplet_id": droplet.id},
    )


async def list_all(request: Request) -> Response:
    cloud = cloud_of(request)
    return page(request, "reserved_ips", cloud.store.all(ReservedIp), lambda ip: reserved_ip_json(cloud, ip))


async def show(request: Request) -> Response:
    return answer({"reserved_ip": reserved_ip_json(cloud_of(request), _find(request))})


def _find(request: Request) -> ReservedIp:
    return find(request, ReservedIp, request.path_params["ip"])


async def delete(request: Request) -> Response:
    cloud = cloud_of(request)
    ip = _find(request)
    if cloud.pending_for(ip):
        raise PendingEvent("The reserved IP already has a pending event.")
    with cloud.store.transaction():
        for lease in addresses.leases(cloud.store, "reserved", ip.ip):
            cloud.store.delete(lease)
        leave_projects(cloud, ip.urn)
        cloud.store.delete(ip)
    cloud.network.changed()
    await cloud.network.in_force()
    return no_content()


async def create_action(request: Request) -> Response:
    cloud = cloud_of(request)
    ip = _find(request)
    body = await body_of(request, NewAction)
    if cloud.pending_for(ip):
        raise PendingEvent("The reserved IP already has a pending event.")
    if body.type == "assign":
        if ip.droplet_id is not None:
            raise Unprocessable("The reserved IP is already assigned.")
        action = _assign(cloud, ip, _assignable(cloud, body.droplet_id, ip.region))
    elif body.type == "unassign":
        if ip.droplet_id is None:
            raise Unprocessable("The reserved IP is not assigned to a Droplet.")
        action = cloud.act("reserved_ip.unassign", ip, type_="unassign_ip", region=ip.region, droplet_id=ip.droplet_id)
    else:
        raise Unprocessable("type must be assign or unassign")
    return answer({"action": action_json(cloud, action)}, 201)


async def list_actions(request: Request) -> Response:
    return list_for(request, _find(request))


async def show_action(request: Request) -> Response:
    return show_for(request, _find(request))


ROUTES = [
    Route("/v2/reserved_ips", list_all, methods=["GET"]),
    Route("/v2/reserved_ips", create, methods=["POST"]),
    Route("/v2/reserved_ips/{ip}", show, methods=["GET"]),
    Route("/v2/reserved_ips/{ip}", delete, methods=["DELETE"]),
    Route("/v2/reserved_ips/{ip}/actions", list_actions, methods=["GET"]),
    Route("/v2/reserved_ips/{ip}/actions", create_action, methods=["POST"]),
    Route("/v2/reserved_ips/{ip}/actions/{action_id:int}", show_action, methods=["GET"]),
]
