"""The metadata service, which machines reach at 169.254.169.254.

It identifies machines by their source address; other callers get nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.sandbox import layout
from tests.sandbox.digitalocean.kubernetes import tokens
from tests.sandbox.digitalocean.models import Droplet, KubernetesCluster, ReservedIp, Vpc
from tests.sandbox.digitalocean.state.cloud import Cloud, Metrics

#: As alert policies name them.
METRICS = ("load_1", "load_5", "load_15", "memory_utilization_percent", "disk_utilization_percent")
Identify = Callable[[Request], str]


def _peer(request: Request) -> str:
    host = request.client.host if request.client else ""
    return host.removeprefix("::ffff:")


def mac_address(droplet_id: int, interface: str) -> str:
    """A locally administered hardware address that is always the same for one interface."""
    digest = hashlib.sha256(f"{droplet_id} {interface}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _interfaces(cloud: Cloud, droplet: Droplet) -> dict[str, list[dict[str, Any]]]:
    public: dict[str, Any] = {
        "ipv4": {
            "ip_address": droplet.public_ipv4,
            "netmask": str(layout.PUBLIC_NETWORK.netmask),
            "gateway": str(layout.PUBLIC_GATEWAY),
        },
        "anchor_ipv4": {
            "ip_address": droplet.anchor_ipv4,
            "netmask": str(layout.ANCHOR_NETWORK.netmask),
            "gateway": str(layout.ANCHOR_NETWORK[1]),
        },
        "mac": mac_address(droplet.id, "public"),
        "type": "public",
    }
    if droplet.public_ipv6:
        network = layout.PUBLIC_NETWORK6
        public["ipv6"] = {
            "ip_address": droplet.public_ipv6,
            "cidr": network.prefixlen,
            "gateway": str(network[1]),
        }
    found = {"public": [public]}
    vpc = cloud.store.get(Vpc, droplet.vpc_uuid)
    if vpc is not None:
        network4 = IPv4Network(vpc.ip_range)
        ipv4 = {"ip_address": droplet.private_ipv4, "netmask": str(network4.netmask), "gateway": str(network4[1])}
        found["private"] = [{"ipv4": ipv4, "mac": mac_address(droplet.id, "private"), "type": "private"}]
    return found


def document(cloud: Cloud, droplet: Droplet) -> dict[str, Any]:
    """All metadata of a machine."""
    reserved = cloud.store.where(ReservedIp, droplet_id=droplet.id)
    address: dict[str, Any] = {"active": bool(reserved)}
    if reserved:
        address["ip_address"] = reserved[0].ip
    return {
        "droplet_id": droplet.id,
        "hostname": droplet.name,
        "user_data": droplet.user_data,
        "vendor_data": "",
        "public_keys": droplet.ssh_keys,
        "region": droplet.region,
        "interfaces": _interfaces(cloud, droplet),
        "floating_ip": {"ipv4": address},
        "reserved_ip": {"ipv4": address},
        "dns": {"nameservers": list(cloud.config.resolvers)},
        "tags": droplet.tags,
        "features": {"dhcp_enabled": False},
    }


#: Names in the tree that differ from those in the document.
_TREE_NAMES = {
    "droplet_id": "id",
    "user_data": "user-data",
    "vendor_data": "vendor-data",
    "public_keys": "public-keys",
}
#: In the tree, interfaces have an `address`; a reserved IP keeps its `ip_address`.
_INTERFACE_NAMES = {"ip_address": "address"}


def tree(cloud: Cloud, droplet: Droplet) -> dict[str, Any]:
    """The same as nested paths: dicts are folders, lists of interfaces are numbered."""
    content = {_TREE_NAMES.get(name, name): value for name, value in document(cloud, droplet).items()}
    return {name: _branch(value, _INTERFACE_NAMES if name == "interfaces" else {}) for name, value in content.items()}


def _branch(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(name, name): _branch(item, names) for name, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {str(number): _branch(item, names) for number, item in enumerate(value)}
    return value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{name}/" if isinstance(item, dict) else name for name, item in value.items())
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def create_metadata_app(cloud: Cloud, identify: Identify = _peer) -> Starlette:
    """The service over a cloud. `identify` gives the address that a request comes from."""

    def asking(request: Request) -> Droplet:
        address = identify(request)
        for droplet in cloud.store.all(Droplet):
            if address in (droplet.public_ipv4, droplet.private_ipv4, droplet.anchor_ipv4, droplet.public_ipv6):
                return droplet
        raise HTTPException(404)

    async def show_json(request: Request) -> Response:
        return JSONResponse(document(cloud, asking(request)))

    async def show_path(request: Request) -> Response:
        node: Any = tree(cloud, asking(request))
        for part in filter(None, request.path_params.get("path", "").split("/")):
            if not isinstance(node, dict) or part not in node:
                raise HTTPException(404)
            node = node[part]
        return PlainTextResponse(_text(node))

    async def take_metrics(request: Request) -> Response:
        """What the stand-in for the metrics agent reports once a minute, in a format of its own."""
        droplet = asking(request)
        content = json.loads(await request.body())
        values = {name: float(content[name]) for name in METRICS}
        cloud.metrics[droplet.id] = Metrics(time.monotonic(), values)
        return Response(status_code=202)

    async def review_token(request: Request) -> Response:
        """What the control plane of a cluster asks about a token: whose it is. Nobody else gets an answer."""
        address = identify(request)
        for cluster in cloud.store.all(KubernetesCluster):
            if address in (cluster.public_ipv4, cluster.anchor_ipv4):
                asked = json.loads(await request.body())
                return JSONResponse(asked | {"status": tokens.review(cloud, cluster, asked["spec"]["token"])})
        raise HTTPException(404)

    return Starlette(
        routes=[
            Route("/v1/kubernetes/token-review", review_token, methods=["POST"]),
            Route("/v1/metrics", take_metrics, methods=["POST"]),
            Route("/metadata/v1.json", show_json, methods=["GET"]),
            Route("/metadata/v1", show_path, methods=["GET"]),
            Route("/metadata/v1/{path:path}", show_path, methods=["GET"]),
        ]
    )
