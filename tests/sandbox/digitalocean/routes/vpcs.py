"""/v2/vpcs."""

from __future__ import annotations

import re
import uuid
from ipaddress import IPv4Network, ip_network

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import DatabaseCluster, Droplet, KubernetesCluster, Record, Vpc, now
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, no_content, page
from tests.sandbox.digitalocean.routes.views import vpc_json
from tests.sandbox.digitalocean.state import addresses
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import (
    DefaultVpcStays,
    Forbidden,
    Unprocessable,
    VpcHasMembers,
    VpcRangeOverlaps,
)

_NAME = re.compile(r"[A-Za-z0-9.-]{1,255}")
PRIVATE = tuple(IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
#: Ranges that the service keeps for itself in all regions.
KEPT = tuple(IPv4Network(net) for net in ("10.229.0.0/16", "10.244.0.0/16", "10.245.0.0/16", "10.246.0.0/24"))
LARGEST, SMALLEST = 16, 28
MEMBERS: tuple[type[Record], ...] = (Droplet, DatabaseCluster, KubernetesCluster)


class NewVpc(Body):
    name: str | None = None
    description: str = ""
    region: str | None = None
    ip_range: str | None = None


class ChangedVpc(Body):
    name: str | None = None
    description: str | None = None
    default: bool | None = None


def default_vpc(cloud: Cloud, region: str) -> Vpc:
    """The network of droplets that ask for none; made with the first droplet of a region that has none."""
    if vpc := _default_of(cloud, region):
        return vpc
    vpc = Vpc(
        id=str(uuid.uuid4()),
        name=f"default-{region}",
        region=region,
        ip_range=addresses.free_vpc_range(cloud.store),
        default=True,
        created_at=now(),
    )
    cloud.store.put(vpc)
    return vpc


def _default_of(cloud: Cloud, region: str) -> Vpc | None:
    return next((vpc for vpc in cloud.store.where(Vpc, region=region) if vpc.default), None)


def _check_name(cloud: Cloud, name: str | None, own_id: str | None = None) -> str:
    if not name:
        raise Unprocessable("Name can't be blank")
    if not _NAME.fullmatch(name):
        raise Unprocessable("Name may only contain alphanumeric characters, dashes, and periods")
    if any(vpc.id != own_id for vpc in cloud.store.where(Vpc, name=name)):
        raise Unprocessable("Name must be unique")
    return name


def _check_range(cloud: Cloud, text: str) -> str:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise Unprocessable("IP range is not a valid network in CIDR notation") from error
    if not isinstance(network, IPv4Network) or not any(network.subnet_of(private) for private in PRIVATE):
        raise Unprocessable("IP range must be in range of private addresses as defined in RFC1918")
    if not LARGEST <= network.prefixlen <= SMALLEST:
        raise Unprocessable(f"IP range may not be smaller than /{SMALLEST} nor larger than /{LARGEST}")
    others = [*KEPT, *(IPv4Network(vpc.ip_range) for vpc in cloud.store.all(Vpc))]
    if any(network.overlaps(other) for other in others):
        raise VpcRangeOverlaps
    return str(network)


def _check_description(text: str) -> str:
    if len(text) > 255:
        raise Unprocessable("Description is too long (maximum is 255 characters)")
    return text


async def list_vpcs(request: Request) -> Response:
    return page(request, "vpcs", cloud_of(request).store.all(Vpc), vpc_json)


async def create_vpc(request: Request) -> Response:
    cloud = cloud_of(request)
    body = await body_of(request, NewVpc)
    region = cloud.catalog.regions.get(body.region or "")
    if region is None or not region.available:
        raise Unprocessable("invalid region")
    name, description = _check_name(cloud, body.name), _check_description(body.description)
    asked = _check_range(cloud, body.ip_range) if body.ip_range else None
    vpc = Vpc(
        id=str(uuid.uuid4()),
        name=name,
        region=region.slug,
        ip_range=asked or addresses.free_vpc_range(cloud.store),
        description=description,
        # The first network of a region is its default, and stays it until another one is made the default.
        default=_default_of(cloud, region.slug) is None,
        created_at=now(),
    )
    cloud.store.put(vpc)
    return answer({"vpc": vpc_json(vpc)}, 201)


async def show_vpc(request: Request) -> Response:
    return answer({"vpc": vpc_json(find(request, Vpc, request.path_params["vpc_id"]))})


async def change_vpc(request: Request) -> Response:
    """PUT must name the VPC, PATCH may leave out everything."""
    cloud = cloud_of(request)
    vpc = find(request, Vpc, request.path_params["vpc_id"])
    body = await body_of(request, ChangedVpc)
    if request.method == "PUT" or body.name is not None:
        vpc.name = _check_name(cloud, body.name, vpc.id)
    if body.description is not None:
        vpc.description = _check_description(body.description)
    if body.default is False and vpc.default:
        raise Forbidden("Can not unset default VPCs")
    with cloud.store.transaction():
        if body.default and not vpc.default:
            for other in cloud.store.where(Vpc, region=vpc.region):
                other.default = False
                cloud.store.put(other)
            vpc.default = True
        cloud.store.put(vpc)
    return answer({"vpc": vpc_json(vpc)})


async def delete_vpc(request: Request) -> Response:
    cloud = cloud_of(request)
    vpc = find(request, Vpc, request.path_params["vpc_id"])
    if vpc.default:
        raise DefaultVpcStays
    if any(cloud.store.where(kind, vpc_uuid=vpc.id) for kind in MEMBERS):
        raise VpcHasMembers
    cloud.store.delete(vpc)
    return no_content()


async def list_members(request: Request) -> Response:
    vpc = find(request, Vpc, request.path_params["vpc_id"])
    store, wanted = cloud_of(request).store, request.query_params.get("resource_type")
    found: list[tuple[str, Droplet | DatabaseCluster | KubernetesCluster]] = [
        *(("droplet", droplet) for droplet in store.where(Droplet, vpc_uuid=vpc.id)),
        *(("database", cluster) for cluster in store.where(DatabaseCluster, vpc_uuid=vpc.id)),
        *(("kubernetes", cluster) for cluster in store.where(KubernetesCluster, vpc_uuid=vpc.id)),
    ]
    members = [member for kind, member in found if wanted in (None, kind)]
    return page(request, "members", members, lambda d: {"name": d.name, "urn": d.urn, "created_at": d.created_at})


ROUTES = [
    Route("/v2/vpcs", list_vpcs, methods=["GET"]),
    Route("/v2/vpcs", create_vpc, methods=["POST"]),
    Route("/v2/vpcs/{vpc_id}", show_vpc, methods=["GET"]),
    Route("/v2/vpcs/{vpc_id}", change_vpc, methods=["PUT", "PATCH"]),
    Route("/v2/vpcs/{vpc_id}", delete_vpc, methods=["DELETE"]),
    Route("/v2/vpcs/{vpc_id}/members", list_members, methods=["GET"]),
]
