"""What a failed update has left in the account without a trace in the state: found before it is created a second time.

When an update is killed, or a response of the API is lost, a resource may exist that the state does not have. Only the
engine knows that it has to create a resource, so these checks are hooks for `before_create`. What they find is never
taken over: a name is not proof of whose it is. The message has the line that imports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial, update_wrapper
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

import pulumi

from components.api import every, request
from components.component import Component
from components.cost import IDLE_ADDRESS


def before_create(
    component: Component, suffix: str, check: Callable[[str, pulumi.ResourceHookArgs], Awaitable[None]]
) -> pulumi.ResourceHookBinding:
    """Bind `check` to a child of `component`: it runs before the child is created, and at preview as well."""
    hook = pulumi.ResourceHook(
        f"{component.child_name(suffix)}-before-create",
        # The SDK takes over its name.
        update_wrapper(partial(check, component.component_name), check),
        pulumi.ResourceHookOptions(on_dry_run=True),
    )
    return pulumi.ResourceHookBinding(before_create=[hook])


async def refuse_existing_volume(parent: str, args: pulumi.ResourceHookArgs) -> None:
    """Refuse to create a volume whose name is taken.

    Raises:
        RuntimeError: there is such a volume, or the API refuses to say.
    """
    inputs = args.new_inputs or {}
    query = urlencode({"name": inputs["name"], "region": inputs["region"]})
    found = await _every(f"/v2/volumes?{query}", "volumes")
    if found:
        raise RuntimeError(
            _unknown(args, parent, f"volume {inputs['name']} exists in {inputs['region']}", found[0]["id"])
        )


async def refuse_existing_droplet(args: pulumi.ResourceHookArgs) -> None:
    """Refuse to create a second droplet of the same name; names of droplets are not unique. Not for previews.

    At a preview, the droplet that is about to be replaced still exists.

    Raises:
        RuntimeError: there is such a droplet, or the API refuses to say.
    """
    name = (args.new_inputs or {})["name"]
    for droplet in await _every(f"/v2/droplets?{urlencode({'name': name})}", "droplets"):
        raise RuntimeError(
            f"droplet {name} (ID {droplet['id']}) exists, but this stack does not know it: an earlier update may have "
            "been interrupted while creating it. It holds nothing that is needed. Delete it, for example with doctl "
            f"compute droplet delete {droplet['id']}, then run pulumi up again"
        )


async def report_idle_addresses(parent: str, args: pulumi.ResourceHookArgs) -> None:
    """Name the reserved addresses of the region that point to no droplet, before another one is reserved.

    The provider loses an address if the API does not know it yet when it is read back. Addresses have neither names nor
    tags, so it cannot be said whose they are.

    Raises:
        RuntimeError: the account has as many addresses as it may have, three by default; or the API refuses to say.
    """
    region = (args.new_inputs or {})["region"]
    addresses = await _every("/v2/reserved_ips", "reserved_ips")
    # Left out for a token that may not read it.
    limit = (await _get("/v2/account"))["account"].get("reserved_ip_limit")
    for address in addresses:
        if address["droplet"] is None and address["region"]["slug"] == region:
            pulumi.log.warn(
                f"The reserved address {address['ip']} in {region} points to no droplet and costs "
                f"{IDLE_ADDRESS:.2f} US dollars per month. If an earlier update of this stack has reserved it and "
                "then failed, stop this one and take the address over with\n"
                f"{import_line(args, parent, address['ip'])}\n"
                "If nobody needs it, delete it under Networking in the control panel"
            )
    if limit and len(addresses) >= limit:
        raise RuntimeError(
            f"the account has {len(addresses)} reserved addresses and may have {limit}; another one cannot be "
            "reserved. Delete one under Networking in the control panel, or ask there for a higher limit"
        )


async def refuse_existing_firewall(parent: str, args: pulumi.ResourceHookArgs) -> None:
    """Refuse to create a firewall whose name is taken.

    Raises:
        RuntimeError: there is such a firewall, or the API refuses to say.
    """
    name = (args.new_inputs or {})["name"]
    for found in await _every("/v2/firewalls", "firewalls"):
        if found["name"] == name:
            raise RuntimeError(_unknown(args, parent, f"firewall {name} exists", found["id"]))


async def refuse_existing_domain(parent: str, args: pulumi.ResourceHookArgs) -> None:
    """Refuse to create a DNS zone that the account has.

    Raises:
        RuntimeError: there is such a zone, or the API refuses to say.
    """
    name = (args.new_inputs or {})["name"]
    for found in await _every("/v2/domains", "domains"):
        if found["name"] == name:
            raise RuntimeError(
                f"the account has the zone {name}; a second one cannot be created. Set dns.zone to existing: the stack "
                "then adds its records to the zone and never deletes it. If an earlier update of this stack has "
                f"created the zone, take it over with\n{import_line(args, parent, name)}"
            )


async def refuse_taken_network(parent: str, args: pulumi.ResourceHookArgs) -> None:
    """Refuse to create a VPC whose name or range is taken, before anything moves to it.

    Raises:
        RuntimeError: another VPC has the name or a part of the range, or the API refuses to say.
    """
    inputs = args.new_inputs or {}
    wanted = inputs.get("ipRange")
    for found in await _every("/v2/vpcs", "vpcs"):
        if found["name"] == inputs["name"]:
            raise RuntimeError(_unknown(args, parent, f"VPC {found['name']} exists", found["id"]))
        if wanted and ip_network(wanted).overlaps(ip_network(found["ip_range"])):
            raise RuntimeError(
                f"server.vpcCidr: {wanted} overlaps {found['ip_range']}, the range of the VPC {found['name']}; "
                "DigitalOcean would refuse it. Use another range, or remove vpcCidr"
            )


def _unknown(args: pulumi.ResourceHookArgs, parent: str, what: str, identifier: str) -> str:
    return (
        f"{what}, but this stack does not know it: an earlier update may have been interrupted. If it is the stack's, "
        f"take it over with\n{import_line(args, parent, identifier)}\n"
        "otherwise rename or delete it. Then run pulumi up again"
    )


def import_line(args: pulumi.ResourceHookArgs, parent: str, identifier: str) -> str:
    """Return the command that adds an existing resource to the state in the place of the one to be created.

    `parent` is the logical name of its component: the URN has the component's type, but not its name.
    """
    stack, project, types, name = args.urn.removeprefix("urn:pulumi:").split("::")
    *ancestors, type_ = types.split("$")
    return import_command((stack, project), type_, name, identifier, ("$".join(ancestors), parent))


def import_command(
    place: tuple[str, str], type_: str, name: str, identifier: str, parent: tuple[str, str] | None
) -> str:
    """Return the command that imports a resource of the account.

    `place` is the stack and the project; `parent` is the type and the name of the component.
    """
    stack, project = place
    urn = f"urn:pulumi:{stack}::{project}::"
    below = f"--parent 'parent={urn}{parent[0]}::{parent[1]}' " if parent else ""
    return (
        f"pulumi import --stack {stack} --generate-code=false --protect=false {type_} {name} {identifier} "
        f"{below}--provider 'provider={urn}pulumi:providers:digitalocean::digitalocean'"
    )


async def _get(path: str) -> Any:
    return await asyncio.to_thread(request, path)


async def _every(path: str, root: str) -> list[Any]:
    return await asyncio.to_thread(lambda: list(every(path, root, request)))
