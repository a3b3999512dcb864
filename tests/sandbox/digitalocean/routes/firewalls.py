"""/v2/firewalls with their droplets, tags and rules."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import Droplet, Firewall, FirewallRule, RuleTarget, Tag, now
from tests.sandbox.digitalocean.routes.common import Body, answer, body_of, cloud_of, find, gap, no_content, page
from tests.sandbox.digitalocean.routes.views import firewall_json
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.errors import Conflict, Unprocessable

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,254}")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
HIGHEST_PORT = 65535
PROTOCOLS = ("tcp", "udp", "icmp")
DROPLETS_OF_A_FIREWALL = 10


class Target(Body):
    addresses: list[str] | None = None
    droplet_ids: list[int] | None = None
    tags: list[str] | None = None
    load_balancer_uids: list[str] | None = None
    kubernetes_ids: list[str] | None = None


class Rule(Body):
    protocol: str = ""
    ports: str | int | None = None
    sources: Target | None = None
    destinations: Target | None = None


class Rules(Body):
    inbound_rules: list[Rule] | None = None
    outbound_rules: list[Rule] | None = None


class WholeFirewall(Rules):
    name: str = ""
    droplet_ids: list[int] | None = None
    tags: list[str] | None = None


class Droplets(Body):
    droplet_ids: list[int] = Field(min_length=1)


class Tags(Body):
    tags: list[str] = Field(min_length=1)


def _check_ports(rule: Rule) -> str:
    """Ports as the API shows them: `0` for all of them."""
    if rule.protocol not in PROTOCOLS:
        raise Unprocessable("protocol must be one of tcp, udp or icmp")
    if rule.protocol == "icmp":
        return "0"
    text = str(rule.ports or ("0" if rule.ports == 0 else ""))
    if text in {"0", "all"}:
        return "0"
    match = _PORTS.fullmatch(text)
    if match is None:
        raise Unprocessable(f"ports {text!r} must be a single port, a range or 0 for all ports")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= HIGHEST_PORT:
        raise Unprocessable(f"ports {text!r} is not a valid port range")
    return text


def _check_address(text: str) -> str:
    """An address or a network, as it was written: the API does not rewrite it."""
    try:
        # Host bits may be set, as on the real service.
        _ = ip_network(text, strict=False) if "/" in text else ip_address(text)
    except ValueError as error:
        raise Unprocessable(f"{text!r} is not a valid address or CIDR") from error
    return text


def _check_droplets(cloud: Cloud, ids: Iterable[int]) -> list[int]:
    wanted = list(dict.fromkeys(ids))
    if unknown := [str(number) for number in wanted if cloud.store.get(Droplet, number) is None]:
        raise Unprocessable(f"droplet ids not found: {', '.join(unknown)}")
    return wanted


def _check_tags(cloud: Cloud, names: Iterable[str]) -> list[str]:
    found = []
    for name in dict.fromkeys(names):
        tag = cloud.store.get(Tag, name.lower())
        if tag is None:
            raise Unprocessable(f"tag {name!r} does not exist")
        found.append(tag.name)
    return found


def _check_rule(request: Request, rule: Rule, side: str) -> FirewallRule:
    cloud = cloud_of(request)
    target = rule.sources if side == "sources" else rule.destinations
    ports = _check_ports(rule)
    if target is None:
        raise Unprocessable(f"{side} is required")
    if target.load_balancer_uids or target.kubernetes_ids:
        raise gap(request, "load balancers and Kubernetes clusters in firewall rules")
    checked = RuleTarget(
        addresses=[_check_address(text) for text in target.addresses or []],
        droplet_ids=_check_droplets(cloud, target.droplet_ids or []),
        tags=_check_tags(cloud, target.tags or []),
    )
    if checked.empty:
        raise Unprocessable(f"a rule must have at least one of {side}")
    return FirewallRule(protocol=rule.protocol, ports=ports, target=checked)


def _check_rules(request: Request, body: Rules) -> tuple[list[FirewallRule], list[FirewallRule]]:
    inbound = [_check_rule(request, rule, "sources") for rule in body.inbound_rules or []]
    outbound = [_check_rule(request, rule, "destinations") for rule in body.outbound_rules or []]
    return inbound, outbound


def _fill(request: Request, firewall: Firewall, body: WholeFirewall) -> Firewall:
    """Make a firewall what the body says, all of it. Raises Unprocessable."""
    cloud = cloud_of(request)
    if not _NAME.fullmatch(body.name):
        raise Unprocessable("name must begin with an alphanumeric character and contain only those, '.' or '-'")
    if any(other.id != firewall.id for other in cloud.store.where(Firewall, name=body.name)):
        raise Conflict("duplicate name")
    firewall.name = body.name
    firewall.inbound, firewall.outbound = _check_rules(request, body)
    if not (firewall.inbound or firewall.outbound):
        raise Unprocessable("must have at least one rule specified")
    firewall.droplet_ids = _check_droplets(cloud, body.droplet_ids or [])
    if len(firewall.droplet_ids) > DROPLETS_OF_A_FIREWALL:
        raise Unprocessable(f"a firewall may have at most {DROPLETS_OF_A_FIREWALL} droplets")
    firewall.tags = _check_tags(cloud, body.tags or [])
    return firewall


def _store(cloud: Cloud, firewall: Firewall) -> None:
    firewall.status = "waiting"
    cloud.store.put(firewall)
    cloud.network.changed()


async def all_firewalls(cloud: Cloud) -> list[Firewall]:
    """All firewalls, with the status that they have by now.

    A client that has just made a firewall reads it back at once; it is told `succeeded` when that is so, and it need
    not find out by polling: unless a test holds the work, the answer waits for the little that is left of it.
    """
    if cloud.transitions.of("firewall.apply").mode == "work" and not cloud.network.failed:
        await cloud.network.attempted()
    settled = cloud.network.settled
    firewalls = cloud.store.all(Firewall)
    for firewall in firewalls:
        status = "succeeded" if settled else "failed" if cloud.network.failed else "waiting"
        if firewall.status != status:
            firewall.status = status
            cloud.store.put(firewall)
    return firewalls


async def list_firewalls(request: Request) -> Response:
    return page(request, "firewalls", await all_firewalls(cloud_of(request)), firewall_json)


async def create_firewall(request: Request) -> Response:
    empty = Firewall(id=str(uuid.uuid4()), name="", created_at=now())
    firewall = _fill(request, empty, await body_of(request, WholeFirewall))
    _store(cloud_of(request), firewall)
    return answer({"firewall": firewall_json(firewall)}, 202)


def _find(request: Request) -> Firewall:
    return find(request, Firewall, request.path_params["firewall_id"])


async def show_firewall(request: Request) -> Response:
    _find(request)
    await all_firewalls(cloud_of(request))
    return answer({"firewall": firewall_json(_find(request))})


async def change_firewall(request: Request) -> Response:
    firewall = _fill(request, _find(request), await body_of(request, WholeFirewall))
    _store(cloud_of(request), firewall)
    return answer({"firewall": firewall_json(firewall)})


async def delete_firewall(request: Request) -> Response:
    cloud = cloud_of(request)
    cloud.store.delete(_find(request))
    cloud.network.changed()
    return no_content()


async def change_droplets(request: Request) -> Response:
    """POST adds, DELETE removes."""
    cloud, firewall = cloud_of(request), _find(request)
    wanted = _check_droplets(cloud, (await body_of(request, Droplets)).droplet_ids)
    firewall.droplet_ids = _changed(request, firewall.droplet_ids, wanted)
    if len(firewall.droplet_ids) > DROPLETS_OF_A_FIREWALL:
        raise Unprocessable(f"a firewall may have at most {DROPLETS_OF_A_FIREWALL} droplets")
    _store(cloud, firewall)
    return no_content()


async def change_tags(request: Request) -> Response:
    """POST adds, DELETE removes."""
    cloud, firewall = cloud_of(request), _find(request)
    wanted = _check_tags(cloud, (await body_of(request, Tags)).tags)
    firewall.tags = _changed(request, firewall.tags, wanted)
    _store(cloud, firewall)
    return no_content()


async def change_rules(request: Request) -> Response:
    """POST adds, DELETE removes the rules that are just the same."""
    cloud, firewall = cloud_of(request), _find(request)
    inbound, outbound = _check_rules(request, await body_of(request, Rules))
    firewall.inbound = _changed(request, firewall.inbound, inbound)
    firewall.outbound = _changed(request, firewall.outbound, outbound)
    if not (firewall.inbound or firewall.outbound):
        raise Unprocessable("must have at least one rule specified")
    _store(cloud, firewall)
    return no_content()


def _changed(request: Request, present: list[Any], wanted: list[Any]) -> list[Any]:
    if request.method == "DELETE":
        return [item for item in present if item not in wanted]
    return present + [item for item in wanted if item not in present]


ROUTES = [
    Route("/v2/firewalls", list_firewalls, methods=["GET"]),
    Route("/v2/firewalls", create_firewall, methods=["POST"]),
    Route("/v2/firewalls/{firewall_id}", show_firewall, methods=["GET"]),
    Route("/v2/firewalls/{firewall_id}", change_firewall, methods=["PUT"]),
    Route("/v2/firewalls/{firewall_id}", delete_firewall, methods=["DELETE"]),
    Route("/v2/firewalls/{firewall_id}/droplets", change_droplets, methods=["POST", "DELETE"]),
    Route("/v2/firewalls/{firewall_id}/tags", change_tags, methods=["POST", "DELETE"]),
    Route("/v2/firewalls/{firewall_id}/rules", change_rules, methods=["POST", "DELETE"]),
]
