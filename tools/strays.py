"""What is in the account, carries the project's name or tag, and is in no stack's state.

Updates that were interrupted leave such things, and so does a state that was lost. They are compared with the states of
all stacks of this project in the back end that Pulumi is logged in to; stacks in another back end cannot be seen, so
nothing is removed without a question. Reserved addresses have neither names nor tags: those that point to nothing are
named, and removed only if somebody says so for that one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml
from rich.console import Console
from rich.prompt import Confirm

from components.api import delete, every, request
from components.cost import price_of
from components.database_engines import ENGINES
from components.kubernetes_cache import CACHE
from components.leftovers import import_command
from components.object_buckets import OBJECTS, TYPES, purpose_of
from components.settings import DnsZone, Settings
from components.settings.databases import DatabaseKind
from components.settings.registry import SPACES_REGIONS
from components.settings.runners import RunnerKind
from tools import buckets, clusters
from tools.environment import ROOT
from tools.progress import ToolError
from tools.stack import stack_file
from tools.stack_files import read_config
from tools.state import StackState, all_stacks

#: Exit codes: strays are left; something could not be read or removed.
FOUND, FAILED = 2, 1


@dataclass(frozen=True)
class Stray:
    """A thing in the account that no stack knows. `noun` is the kind as Pulumi names it; `values` are its properties.

    `is_named` is False where it cannot be said whose the thing is: then it is removed only after a question about it.
    """

    noun: str
    name: str
    identifier: str
    values: dict[str, Any]
    remove: Callable[[], object] | None
    is_named: bool = True

    @property
    def power(self) -> str:
        """What somebody who has it can do, if that is more than nothing."""
        grants = self.values.get("grants") or []
        if any(one.get("permission") == "fullaccess" for one in grants):
            return "can read, change and delete every bucket of the account"
        buckets_of_it = ", ".join(sorted({str(one.get("bucket")) for one in grants}))
        return f"can change what is in {buckets_of_it}" if grants else ""

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
    `has_alerts` says that one of them has uptime checks, `has_clusters` that one has a cluster, `has_databases` that
    one has managed databases: for others, no token needs to be able to read them.
    `siblings` begin the names of other stacks and begin with `prefix` themselves, as `app-2` begins with `app`.
    """

    project: str
    prefix: str
    stacks: tuple[str, ...]
    identifiers: frozenset[tuple[str, str]]
    regions: frozenset[str]
    siblings: frozenset[str] = frozenset()
    has_alerts: bool = False
    has_clusters: bool = False
    has_databases: bool = False

    @classmethod
    def read(cls, stack: str | None) -> Known:
        """Read the states of all stacks. With `stack`, only what carries its name is looked for.

        Raises:
            ToolError: Pulumi cannot read them.
        """
        project = cls.project_name()
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
                (settings.get("slipway:objectStorage") or {}).get("spacesRegion"),
            )
        }
        identifiers = frozenset((one.noun, one.id) for one in cloud)
        others = {f"{project}-{name}" for name in (*short, *stack_files())}
        siblings = frozenset(other for other in others if stack and other.startswith(f"{prefix}-"))
        has_alerts = any(one.noun == "UptimeCheck" for one in cloud) or any(
            settings.get("slipway:alerts") for settings in stack_files().values()
        )
        has_clusters = any(one.noun == "KubernetesCluster" for one in cloud) or any(
            runner.get("kind") == RunnerKind.KUBERNETES
            for settings in stack_files().values()
            for runner in settings.get("slipway:runners") or []
        )
        has_databases = any(one.noun == "DatabaseCluster" for one in cloud) or any(
            (settings.get("slipway:databases") or {}).get(engine, {}).get("kind") == DatabaseKind.MANAGED
            for settings in stack_files().values()
            for engine in ENGINES
        )
        places = frozenset(regions & SPACES_REGIONS)
        return cls(
            project, prefix, tuple(short), identifiers, places, siblings, has_alerts, has_clusters, has_databases
        )

    @staticmethod
    def project_name() -> str:
        """The name of the Pulumi project."""
        return str(yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["name"])

    def has(self, noun: str, identifier: str) -> bool:
        """Whether a stack has it."""
        return (noun, identifier) in self.identifiers

    def names(self, *texts: str) -> bool:
        """Whether one of the texts is the project's or the stack's name, or begins with it."""
        return any(_begins(text, self.prefix) and not self._is_siblings(text) for text in map(str.lower, texts))

    def owns(self, noun: str, name: str, tags: Sequence[str] = ()) -> bool:
        """Whether a thing carries the name or a tag; for one stack, exactly those that the program gives.

        A stack `app-2` in another back end is known to nobody here, and its things begin with the name of `app`.
        """
        if not self.names(name, *tags):
            return False
        return (
            self.prefix == self.project
            or noun not in _ENDINGS
            or belongs(name, noun, self.prefix)
            or any(belongs(tag, "Tag", self.prefix) for tag in tags)
        )

    def _is_siblings(self, text: str) -> bool:
        return any(_begins(text, sibling) for sibling in self.siblings)


def _begins(text: str, prefix: str) -> bool:
    return text == prefix or text.startswith(f"{prefix}-")


#: What follows the name of a stack in the names of its things; a network ends with its region and range.
_ENDINGS = {
    "Droplet": r"(-[a-z][a-z0-9-]*-\d+|-target-[a-z0-9-]+)?",
    "KubernetesCluster": r"-[a-z][a-z0-9-]*",
    "Volume": "-data",
    "Firewall": r"-(server-base|runner|public|registry-\d+|target-[a-z0-9-]+)",
    "Vpc": r"(-[a-z]{3}\d(-[\d.]+-\d+)?)?",
    "Tag": "-(server|runner|target-[a-z0-9-]+)",
    "SshKey": "-admin",
    "DatabaseCluster": f"-({'|'.join(ENGINES)})",
    "SpacesKey": f"-(registry|backup|{OBJECTS}|{CACHE}-[a-z][a-z0-9-]*)(-maker)?",
    "UptimeCheck": "-(sign-in|registry|health)",
    "SpacesBucket": f"-(registry|backup|{CACHE}|{'|'.join(map(purpose_of, TYPES))})-[0-9a-f]{{8}}",
}


def belongs(name: str, noun: str, prefix: str) -> bool:
    """Whether the program gives a stack's thing of that kind this name."""
    return noun in _ENDINGS and re.fullmatch(re.escape(prefix) + _ENDINGS[noun], name.lower()) is not None


def stack_files() -> dict[str, Mapping[str, Any]]:
    """The settings in the stack files of this checkout, by stack; secrets stay encrypted."""
    files = sorted(stack_file("x").parent.glob("Pulumi.*.yaml"))
    return {file.name.removeprefix("Pulumi.").removesuffix(".yaml"): read_config(file) for file in files}


def find(known: Known) -> Iterator[Stray]:
    """Everything in the account that carries the project's name or tag and is in no state, in the order of removal.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    yield from account(known)
    for bucket, region, remove in buckets.found(known.regions, partial(known.owns, "SpacesBucket")):
        if not known.has("SpacesBucket", bucket):
            yield Stray("SpacesBucket", bucket, f"{region},{bucket}", {}, remove)
    yield from _records(known)
    for one in every("/v2/reserved_ips", "reserved_ips"):
        if one["droplet"] is None and not known.has("ReservedIp", one["ip"]):
            yield Stray(
                "ReservedIp", one["ip"], one["ip"], {}, partial(delete, f"/v2/reserved_ips/{one['ip']}"), is_named=False
            )


def account(known: Known) -> Iterator[Stray]:
    """What of it the API lists by name or tag: everything but buckets, DNS and reserved addresses.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    for name, identifier, values in clusters.found() if known.has_clusters else ():
        if not known.has("KubernetesCluster", identifier) and known.owns("KubernetesCluster", name):
            yield Stray("KubernetesCluster", name, identifier, values, partial(clusters.remove, identifier))
    kinds = (*(_DATABASES if known.has_databases else ()), *_KINDS, *(_CHECKS if known.has_alerts else ()))
    for noun, path, root in kinds:
        for one in every(path, root):
            identifier, name = str(one.get(_IDENTIFIERS.get(noun, "id"))), str(one["name"])
            tags = one.get("tags") or []
            # Nobody can delete the default network of a region, and it costs nothing. A node is its cluster's.
            is_others = (noun == "Vpc" and one["default"]) or (noun == "Droplet" and _NODE in tags)
            if known.has(noun, identifier) or is_others or not known.owns(noun, name, tags):
                continue
            yield Stray(noun, name, identifier, _values(noun, one), partial(delete, f"{path}/{identifier}"))


#: DigitalOcean's own tag on the droplets of its Kubernetes.
_NODE = "k8s:worker"
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
_DATABASES = (("DatabaseCluster", "/v2/databases", "databases"),)
#: Their alerts are deleted with them.
_CHECKS = (("UptimeCheck", "/v2/uptime/checks", "checks"),)
_IDENTIFIERS = {"Tag": "name", "SpacesKey": "access_key"}


def _values(noun: str, found: dict[str, Any]) -> dict[str, Any]:
    """Those properties that tell the price of a thing, its rights, its age, and whether something uses it."""
    size = found.get("size") or {}
    values = {"name": found["name"], "region": (found.get("region") or {}) and _slug(found["region"])}
    values["createdAt"] = found.get("created_at")
    if noun == "Droplet":
        values |= {"priceMonthly": size.get("price_monthly"), "volumeIds": found.get("volume_ids")}
    elif noun == "SshKey":
        values["publicKey"] = found.get("public_key")
    elif noun in {"Volume", "Snapshot"}:
        values["size"] = found.get("size_gigabytes", 0)
    elif noun == "DatabaseCluster":
        values |= {"size": size, "nodeCount": found.get("num_nodes")}
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
            yield Stray("Domain", domain, domain, {"name": domain}, partial(delete, f"/v2/domains/{domain}"))
            continue
        yield from records_of(domain, hostname, known)


def records_of(domain: str, hostname: str, known: Known) -> Iterator[Stray]:
    """The records of GitLab's name in a zone that no stack has.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    for record in every(f"/v2/domains/{domain}/records", "domain_records"):
        identifier = str(record["id"])
        if record["name"] == hostname and record["type"] in {"A", "CAA"} and not known.has("DnsRecord", identifier):
            name = f"{hostname}.{domain} {record['type']} {record['data']}"
            values = {"name": name, "type": record["type"], "data": record["data"]}
            remove = partial(request, f"/v2/domains/{domain}/records/{identifier}", method="DELETE")
            yield Stray("DnsRecord", name, f"{domain},{identifier}", values, remove)


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
    left = found
    if confirmed or sys.stdin.isatty():
        left = _remove(console, found, confirmed=confirmed)
    return FOUND if any(one.is_named for one in left) else 0


def _print(console: Console, found: Sequence[Stray], known: Known) -> None:
    console.print(f"In the account and in no stack of this back end ({', '.join(known.stacks) or 'which has none'}):")
    for one in found:
        whose = "" if one.is_named else "  points to nothing; it has no name, so it cannot be said whose it is"
        whose = f"  {one.power}" if one.power else whose
        console.print(f"  {one.price:8.2f}  {one.noun} {one.name} (ID {one.identifier}){whose}", markup=False)
        if line := import_line(one, known):
            console.print(f"            to keep it: {line}", markup=False)
    total = sum(one.price for one in found)
    console.print(f"  {total:8.2f}  US dollars per month in total")


def _remove(console: Console, found: Sequence[Stray], *, confirmed: bool) -> list[Stray]:
    """Remove what the user wants removed; returns what is left."""
    left = []
    for one in found:
        if one.remove is None or not _agreed(one, confirmed=confirmed):
            left.append(one)
            continue
        try:
            one.remove()
            console.print(f"deleted {one.noun} {one.name}", markup=False)
        except RuntimeError as error:
            console.print(f"error: {one.noun} {one.name} could not be deleted: {error}", markup=False)
            left.append(one)
    return left


def _agreed(one: Stray, *, confirmed: bool) -> bool:
    if one.is_named:
        return confirmed or Confirm.ask(f"Delete {one.noun} {one.name}?", default=False)
    question = f"Delete {one.noun} {one.name}, which may be anybody's?"
    return sys.stdin.isatty() and Confirm.ask(question, default=False)
