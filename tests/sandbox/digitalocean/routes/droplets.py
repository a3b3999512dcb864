"""/v2/droplets: create, find and destroy machines. Actions on them are in `droplet_actions.py`."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Action, Droplet, Image, Size, Snapshot, SshKey, Volume, Vpc, now
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, gap, no_content, page
from tests.sandbox.digitalocean.routes.firewalls import all_firewalls
from tests.sandbox.digitalocean.routes.views import droplet_json, firewall_json, private_image_json
from tests.sandbox.digitalocean.routes.vpcs import default_vpc
from tests.sandbox.digitalocean.state import addresses
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import (
    DropletLimit,
    InvalidHostname,
    NotFound,
    PendingEvent,
    RegionUnavailable,
    SizeNotInRegion,
    Unprocessable,
)
from tests.sandbox.digitalocean.state.network import covers
from tests.sandbox.digitalocean.state.projects import join_default_project
from tests.sandbox.digitalocean.state.tagging import ensure_tags, note_tagged, uri_of

USER_DATA_LIMIT = 64 * 1024
MOST_AT_ONCE = 10
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")


class NewDroplet(Body):
    name: str | None = None
    names: list[str] | None = None
    region: str | None = None
    size: str | None = None
    image: str | int | None = None
    ssh_keys: list[str | int] = Field(default_factory=list)
    backups: bool = False
    ipv6: bool = False
    monitoring: bool = False
    tags: list[str] | None = None
    user_data: str | None = None
    volumes: list[str] = Field(default_factory=list)
    vpc_uuid: str | None = None
    with_droplet_agent: bool | None = None
    public_networking: bool = True


def check_name(name: str) -> str:
    """A droplet's name, if it is one. Raises Unprocessable."""
    if not name:
        raise Unprocessable("Name can't be blank")
    if len(name) > 255 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise InvalidHostname
    return name


def check_size(cloud: Cloud, slug: str | None) -> Size:
    size = cloud.catalog.sizes.get(slug or "")
    if size is None:
        raise Unprocessable("You specified an invalid size for Droplet creation.")
    return size


def check_image(cloud: Cloud, wanted: str | int | None, region: str) -> Image:
    """A public image by slug or number, or a snapshot by number: names are refused, and other regions than its own."""
    image = cloud.catalog.image(wanted) if wanted not in (None, "") else None
    snapshot = cloud.store.get(Snapshot, wanted) if image is None and wanted else None
    if snapshot is not None and snapshot.status == "available" and region == snapshot.region:
        image = snapshot.as_image()
    if image is None:
        raise Unprocessable("You specified an invalid image for Droplet creation.")
    return image


def check_region(cloud: Cloud, slug: str | None, size: Size) -> str:
    """The region to use. A prefix such as `nyc` stands for any of its regions, nothing for any at all."""
    wanted = slug or ""
    closed = cloud.config.closed_regions
    exact = cloud.catalog.regions.get(wanted)
    if exact is None:
        fitting = [
            region.slug
            for region in cloud.catalog.regions.values()
            if region.slug.rstrip("0123456789") == wanted or not wanted
        ]
        chosen = next((slug for slug in fitting if slug in size.regions and slug not in closed), None)
        if chosen is None:
            raise Unprocessable("You specified an invalid region for Droplet creation.")
        return chosen
    if not exact.available or exact.slug in closed:
        raise RegionUnavailable
    if exact.slug not in size.regions:
        raise SizeNotInRegion
    return exact.slug


def _check_keys(cloud: Cloud, wanted: list[str | int]) -> list[str]:
    keys = cloud.store.all(SshKey)
    named = {str(key.id): key.public_key for key in keys} | {key.fingerprint: key.public_key for key in keys}
    if unknown := [str(key) for key in wanted if str(key) not in named]:
        raise Unprocessable(f"{', '.join(unknown)} are invalid key identifiers for Droplet creation.")
    return list(dict.fromkeys(named[str(key)] for key in wanted))


def _check_volumes(cloud: Cloud, wanted: list[str], region: str) -> list[Volume]:
    volumes = [cloud.store.get(Volume, volume_id) for volume_id in wanted]
    found = [volume for volume in volumes if volume and volume.region == region and volume.droplet_id is None]
    if len(found) != len(wanted):
        raise Unprocessable("Invalid volume allocations")
    return found


def _check_vpc(cloud: Cloud, uuid: str | None, region: str) -> Vpc:
    if uuid is None or not uuid:
        return default_vpc(cloud, region)
    vpc = cloud.store.get(Vpc, uuid)
    if vpc is None or vpc.region != region:
        raise Unprocessable(f"VPC {uuid} was not found in region {region}")
    return vpc


async def create_droplets(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewDroplet)
    names = body.names if body.names is not None else [body.name or ""]
    if not names or len(names) > MOST_AT_ONCE or (body.names and body.volumes):
        raise Unprocessable(f"between 1 and {MOST_AT_ONCE} names are allowed, and volumes for one Droplet only")
    for name in names:
        check_name(name)
    size = check_size(cloud, body.size)
    region = check_region(cloud, body.region, size)
    image = check_image(cloud, body.image, region)
    if size.disk < image.min_disk_size:
        # As seen in rancher/rancher#17795.
        raise Unprocessable(
            f"Cannot create a droplet with a smaller disk ({size.disk}GB) than the image ({image.min_disk_size}GB)"
        )
    keys = _check_keys(cloud, body.ssh_keys)
    if len((body.user_data or "").encode()) > USER_DATA_LIMIT:
        raise Unprocessable("User data is too long (maximum is 64 KiB)")
    if not body.public_networking:
        raise gap(request, "droplets without public networking")
    if body.backups:
        raise gap(request, "backups of droplets")
    if len(cloud.store.all(Droplet)) + len(names) > cloud.droplet_limit:
        raise DropletLimit
    with cloud.store.transaction():
        volumes = _check_volumes(cloud, body.volumes, region)
        vpc = _check_vpc(cloud, body.vpc_uuid, region)
        tags = ensure_tags(cloud, body.tags or [])
        made = []
        for name in names:
            droplet = _make(cloud, body, name=name, size=size, image=image, vpc=vpc, tags=tags, keys=keys)
            plural, uri = uri_of(str(request.base_url).rstrip("/"), droplet)
            note_tagged(cloud, tags, plural, uri)
            for volume in volumes:
                volume.droplet_id = droplet.id
                cloud.store.put(volume)
            made.append((droplet, _start(cloud, droplet, volumes)))
    views = [droplet_json(cloud, droplet) for droplet, _ in made]
    links = {"actions": [_action_link(request, action, "create") for _, action in made]}
    if body.names is not None:
        return answer({"droplets": views, "links": links}, 202)
    return answer({"droplet": views[0], "links": links}, 202)


def _make(
    cloud: Cloud, body: NewDroplet, *, name: str, size: Size, image: Image, vpc: Vpc, tags: list[str], keys: list[str]
) -> Droplet:
    number = cloud.store.next_number("droplet", 510_000_001)
    owner = f"do:droplet:{number}"
    features = ["private_networking"]
    # By default the agent is installed where the image supports it, which all offered images do.
    features += ["droplet_agent"] if body.with_droplet_agent is not False else []
    features += ["monitoring"] if body.monitoring else []
    features += ["ipv6"] if body.ipv6 else []
    droplet = Droplet(
        id=number,
        name=name,
        region=vpc.region,
        size=size.slug,
        image=image.slug or str(image.id),
        vcpus=size.vcpus,
        memory=size.memory,
        disk=size.disk,
        created_at=now(),
        features=sorted(features),
        tags=tags,
        vpc_uuid=vpc.id,
        public_ipv4=addresses.lease(cloud.store, "public", owner),
        anchor_ipv4=addresses.lease(cloud.store, "anchor", owner),
        private_ipv4=addresses.lease_private(cloud.store, vpc, owner),
        public_ipv6=addresses.lease(cloud.store, "public6", owner) if body.ipv6 else None,
        user_data=body.user_data or "",
        ssh_keys=keys,
    )
    cloud.store.put(droplet)
    join_default_project(cloud, droplet.urn)
    return droplet


def _start(cloud: Cloud, droplet: Droplet, volumes: list[Volume]) -> Action:
    return cloud.act(
        "droplet.create",
        droplet,
        type_="create",
        region=droplet.region,
        droplet_id=droplet.id,
        params={"volumes": [volume.id for volume in volumes]},
    )


def _action_link(request: Request, action: Action, rel: str) -> dict[str, Any]:
    base = str(request.base_url).rstrip("/")
    return {"id": action.id, "rel": rel, "href": f"{base}/v2/actions/{action.id}"}


async def _observe(cloud: Cloud, droplet: Droplet) -> Droplet:
    """A droplet as it is: its owner may have switched it off from inside."""
    if droplet.status not in {"active", "off"} or cloud.pending(droplet):
        return droplet
    status = "active" if await cloud.backend.running(droplet.id) else "off"
    current = cloud.store.get(Droplet, droplet.id)
    if current is None:
        raise NotFound
    if current.status != status and not cloud.pending(current):
        current.status = status
        cloud.store.put(current)
    return current


async def list_droplets(request: Request) -> Response:
    cloud = cloud_of(request)
    droplets = list(reversed(cloud.store.all(Droplet)))
    query = request.query_params
    if (tag := query.get("tag_name")) is not None:
        droplets = [d for d in droplets if tag.lower() in {name.lower() for name in d.tags}]
    if (name := query.get("name")) is not None:
        droplets = [d for d in droplets if d.name.lower() == name.lower()]
    if query.get("type") == "gpus":
        droplets = []
    return page(request, "droplets", droplets, lambda droplet: droplet_json(cloud, droplet))


async def show_droplet(request: Request) -> Response:
    cloud = cloud_of(request)
    droplet = await _observe(cloud, find(request, Droplet, request.path_params["droplet_id"]))
    return answer({"droplet": droplet_json(cloud, droplet)})


def _destroy(cloud: Cloud, droplet: Droplet) -> None:
    if cloud.pending(droplet):
        raise PendingEvent
    cloud.act("droplet.destroy", droplet, type_="destroy", region=droplet.region, droplet_id=droplet.id)


async def destroy_droplet(request: Request) -> Response:
    _destroy(cloud_of(request), find(request, Droplet, request.path_params["droplet_id"]))
    return no_content()


async def destroy_by_tag(request: Request) -> Response:
    cloud = cloud_of(request)
    tag = request.query_params.get("tag_name")
    if not tag:
        raise Unprocessable("tag_name is required")
    chosen = [d for d in cloud.store.all(Droplet) if tag.lower() in {name.lower() for name in d.tags}]
    for droplet in chosen:
        if not cloud.pending(droplet):
            _destroy(cloud, droplet)
    return no_content()


async def list_firewalls_of(request: Request) -> Response:
    cloud = cloud_of(request)
    droplet = find(request, Droplet, request.path_params["droplet_id"])
    found = [firewall for firewall in await all_firewalls(cloud) if covers(firewall, droplet)]
    return page(request, "firewalls", found, firewall_json)


async def list_snapshots_of(request: Request) -> Response:
    droplet = find(request, Droplet, request.path_params["droplet_id"])
    found = cloud_of(request).store.where(Snapshot, droplet_id=droplet.id, status="available")
    return page(request, "snapshots", found, private_image_json)


async def list_nothing(request: Request) -> Response:
    """Backups and kernels: no droplet here has any."""
    find(request, Droplet, request.path_params["droplet_id"])
    root = request.url.path.rstrip("/").rsplit("/", 1)[-1]
    nothing: list[dict[str, Any]] = []
    return page(request, root, nothing, lambda item: item)


ROUTES = [
    Route("/v2/droplets", list_droplets, methods=["GET"]),
    Route("/v2/droplets", create_droplets, methods=["POST"]),
    Route("/v2/droplets", destroy_by_tag, methods=["DELETE"]),
    Route("/v2/droplets/{droplet_id:int}", show_droplet, methods=["GET"]),
    Route("/v2/droplets/{droplet_id:int}", destroy_droplet, methods=["DELETE"]),
    Route("/v2/droplets/{droplet_id:int}/firewalls", list_firewalls_of, methods=["GET"]),
    Route("/v2/droplets/{droplet_id:int}/snapshots", list_snapshots_of, methods=["GET"]),
    Route("/v2/droplets/{droplet_id:int}/backups", list_nothing, methods=["GET"]),
    Route("/v2/droplets/{droplet_id:int}/kernels", list_nothing, methods=["GET"]),
]
