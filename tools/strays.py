"""What is in the account, carries the project's name or tag, and is in no stack's state.

Updates that were interrupted leave such things, and so does a state that was lost. They are compared with the states of
all stacks of this project in the back end that Pulumi is logged in to; stacks in another back end cannot be seen, so
nothing is removed without a question. Reserved addresses have neither names nor tags: those that point to nothing are
named, and are never removed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import yaml
from rich.console import Console
from rich.prompt import Confirm

from components.api import RefusedError, every, request
from components.cost import price_of
from components.leftovers import import_command
from components.settings import DnsZone, Settings
from components.settings.registry import SPACES_REGIONS
from tools import buckets
from tools.environment import ROOT
from tools.progress import ToolError
from tools.stack import stack_file
from tools.stack_files import read_config
from tools.state import StackState, all_stacks

#: Exit codes: strays are left; something could not be read or removed.
FOUND, FAILED = 2, 1
#: Seconds until the API has deleted what it has accepted to delete, and until a VPC has lost its last member.
_PATIENCE = 180
#: What the API answers while a thing is still in use.
_BUSY = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})
_POLL = 2


@dataclass(frozen=True)
class Stray:
    """A thing in the account that no stack knows. `noun` is the kind as Pulumi names it; `values` are its properties.

    `remove` is None where it cannot be said whose the thing is.
    """

    noun: str
    name: str
    identifier: str
    values: dict[str, Any]
    remove: Callable[[], object] | None

    @property
    def price(self) -> float:
        """US dollars per month."""
        return price_of(self.noun, self.values)


@dataclass(frozen=True)
class Places:
    """Where an import puts a resource: what follows the name of the stack in its name, and its place in the graph."""

    noun: str
    suffix: str
    logical_name: str
    parent: tuple[str, str] | None


#: Only what is worth keeping, or cannot be created a second time. Everything else is quicker to create again.
PLACES = (
    Places("Volume", "-data", "server-data", ("GitLabServer", "server")),
    Places("SshKey", "-admin", "ssh-key", None),
    Places("Firewall", "-server-base", "network-server-base-firewall", ("Network", "network")),
    Places("Firewall", "-runner", "network-runner-firewall", ("Network", "network")),
    Places("Firewall", "-public", "public-access-firewall", ("PublicAccess", "public-access")),
)


@dataclass(frozen=True)
class Known:
    """What the states have: identifiers by kind, and the names of the stacks.

    `regions` are those of the states and of the stack files that offer Spaces: buckets are looked for there.
    """

    project: str
    prefix: str
    stacks: tuple[str, ...]
    identifiers: frozenset[tuple[str, str]]
    regions: frozenset[str]

    @classmethod
    def read(cls, stack: str | None) -> Known:
        """Read the states of all stacks. With `stack`, only what carries its name is looked for.

        Raises:
            ToolError: Pulumi cannot read them.
        """
        project = str(yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["name"])
        names = all_stacks()
        cloud = [one for name in names for one in StackState.of_stack(name).cloud]
        short = [name.rpartition("/")[2] for name in names]
        prefix = f"{project}-{stack.rpartition('/')[2]}" if stack else project
        regions = {str(one.values.get("region")) for one in cloud} | {
            str(place)
            for settings in stack_files().values()
            for place in (
                settings.get("slipway:region") or Settings.model_fields["region"].default,
                (settings.get("slipway:registry") or {}).get("spacesRegion"),
            )
        }
        identifiers = frozenset((one.noun, one.id) for one in cloud)
        return cls(project, prefix, tuple(short), identifiers, frozenset(regions & SPACES_REGIONS))

    def has(self, noun: str, identifier: str) -> bool:
        """Whether a stack has it."""
        return (noun, identifier) in self.identifiers

    def names(self, *texts: str) -> bool:
        """Whether one of the texts is the project's name, or begins with it."""
        return any(text == self.prefix or text.startswith(f"{self.prefix}-") for text in map(str.lower, texts))


def stack_files() -> dict[str, Mapping[str, Any]]:
    """The settings in the stack files of this checkout, by stack; secrets stay encrypted."""
    files = sorted(stack_file("x").parent.glob("Pulumi.*.yaml"))
    return {file.name.removeprefix("Pulumi.").removesuffix(".yaml"): read_config(file) for file in files}


def find(known: Known) -> Iterator[Stray]:
    """Everything in the account that carries the project's name or tag and is in no state, in the order of removal.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    for noun, path, root in _KINDS:
        for one in every(path, root):
            identifier, name = str(one.get(_IDENTIFIERS.get(noun, "id"))), str(one["name"])
            # Nobody can delete the default network of a region, and it costs nothing.
            is_default = noun == "Vpc" and one["default"]
            if known.has(noun, identifier) or is_default or not known.names(name, *(one.get("tags") or [])):
                continue
            yield Stray(noun, name, identifier, _values(noun, one), partial(_delete, noun, identifier))
    for bucket, region, remove in buckets.found(known.regions, known.names):
        if not known.has("SpacesBucket", bucket):
            yield Stray("SpacesBucket", bucket, f"{region},{bucket}", {}, remove)
    yield from _records(known)
    for one in every("/v2/reserved_ips", "reserved_ips"):
        if one["droplet"] is None and not known.has("ReservedIp", one["ip"]):
            yield Stray("ReservedIp", one["ip"], one["ip"], {}, None)


#: Droplets first, as they hold volumes, tags, firewalls and networks.
_KINDS = (
    ("Droplet", "/v2/droplets", "droplets"),
    ("Snapshot", "/v2/snapshots", "snapshots"),
    ("Volume", "/v2/volumes", "volumes"),
    ("Firewall", "/v2/firewalls", "firewalls"),
    ("Vpc", "/v2/vpcs", "vpcs"),
    ("Tag", "/v2/tags", "tags"),
    ("SshKey", "/v2/account/keys", "ssh_keys"),
    ("SpacesKey", "/v2/spaces/keys", "keys"),
)
_IDENTIFIERS = {"Tag": "name", "SpacesKey": "access_key"}
_PATHS = {noun: path for noun, path, _ in _KINDS} | {"Domain": "/v2/domains"}


def _values(noun: str, found: dict[str, Any]) -> dict[str, Any]:
    """Those properties that `price_of` and `described` read."""
    size = found.get("size") or {}
    values = {"name": found["name"], "region": (found.get("region") or {}) and _slug(found["region"])}
    if noun == "Droplet":
        values["priceMonthly"] = size.get("price_monthly")
    elif noun in {"Volume", "Snapshot"}:
        values["size"] = found.get("size_gigabytes", 0)
    elif noun == "SpacesKey":
        values["grants"] = found.get("grants")
    return values


def _slug(region: Any) -> str:
    return str(region["slug"] if isinstance(region, dict) else region)


def _records(known: Known) -> Iterator[Stray]:
    """Zones and records with the names that the stack files of this checkout give them: they carry no other mark."""
    zones = {one["name"] for one in every("/v2/domains", "domains")}
    for stack, settings in stack_files().items():
        domain = str(settings.get("slipway:domain") or "")
        hostname = str(settings.get("slipway:hostname") or Settings.model_fields["hostname"].default)
        if domain not in zones or not known.names(f"{known.project}-{stack}"):
            continue
        creates = (settings.get("slipway:dns") or {}).get("zone", DnsZone.CREATE) == DnsZone.CREATE
        if creates and not known.has("Domain", domain):
            yield Stray("Domain", domain, domain, {"name": domain}, partial(_delete, "Domain", domain))
            continue
        for record in every(f"/v2/domains/{domain}/records", "domain_records"):
            identifier = str(record["id"])
            if record["name"] == hostname and record["type"] in {"A", "CAA"} and not known.has("DnsRecord", identifier):
                name = f"{hostname}.{domain} {record['type']} {record['data']}"
                path = f"/v2/domains/{domain}/records/{identifier}"
                remove = partial(request, path, method="DELETE")
                yield Stray("DnsRecord", name, f"{domain},{identifier}", {"name": name}, remove)


def _delete(noun: str, identifier: str) -> None:
    """Delete a thing and wait until it is gone; a network loses its members some time after they are deleted.

    Raises:
        RuntimeError: the API refuses, or the thing is still there after three minutes.
    """
    path, deadline = f"{_PATHS[noun]}/{identifier}", time.monotonic() + _PATIENCE
    while True:
        try:
            request(path, method="DELETE")
            request(path)
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return
            if error.status not in _BUSY or time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} is still there after {_PATIENCE} s")
        time.sleep(_POLL)


def import_line(stray: Stray, known: Known) -> str | None:
    """The command that adds a stray to the state of the stack whose name it has; None if there is no such stack."""
    project = known.project
    for place in PLACES:
        stack = stray.name.removeprefix(f"{project}-").removesuffix(place.suffix)
        if place.noun == stray.noun and f"{project}-{stack}{place.suffix}" == stray.name and stack in known.stacks:
            type_ = f"digitalocean:index/{place.noun[0].lower()}{place.noun[1:]}:{place.noun}"
            parent = (f"slipway:index:{place.parent[0]}", place.parent[1]) if place.parent else None
            return import_command((stack, project), type_, place.logical_name, stray.identifier, parent)
    return None


def strays(stack: str | None, *, confirmed: bool) -> int:
    """Print what no stack has, and offer to remove it; `confirmed` removes without asking. 0 if nothing is left.

    Raises:
        ToolError: the account or the states cannot be read.
    """
    console = Console(soft_wrap=True, highlight=False)
    known = Known.read(stack)
    try:
        found = list(find(known))
    except RuntimeError as error:
        raise ToolError(str(error)) from error
    if not found:
        console.print(f"Nothing in the account is named {known.prefix} without being in the state of a stack.")
        return 0
    _print(console, found, known)
    left = [one for one in found if one.remove is not None]
    if left and (confirmed or sys.stdin.isatty()):
        left = _remove(console, left, confirmed=confirmed)
    return FOUND if left else 0


def _print(console: Console, found: Sequence[Stray], known: Known) -> None:
    console.print(f"In the account and in no stack of this back end ({', '.join(known.stacks) or 'which has none'}):")
    for one in found:
        whose = "" if one.remove else "  points to nothing; it has no name, so it cannot be said whose it is"
        console.print(f"  {one.price:8.2f}  {one.noun} {one.name} (ID {one.identifier}){whose}", markup=False)
        if line := import_line(one, known):
            console.print(f"            to keep it: {line}", markup=False)
    total = sum(one.price for one in found)
    console.print(f"  {total:8.2f}  US dollars per month in total")


def _remove(console: Console, found: Sequence[Stray], *, confirmed: bool) -> list[Stray]:
    """Remove what the user wants removed; returns what is left."""
    left = []
    for one in found:
        if one.remove is None or not (confirmed or Confirm.ask(f"Delete {one.noun} {one.name}?", default=False)):
            left.append(one)
            continue
        try:
            one.remove()
            console.print(f"deleted {one.noun} {one.name}", markup=False)
        except RuntimeError as error:
            console.print(f"error: {one.noun} {one.name} could not be deleted: {error}", markup=False)
            left.append(one)
    return left
