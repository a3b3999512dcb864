"""What the account has under the stack's names, and the stack's state has not.

It belongs to somebody else, such as another stack of the same name; or an earlier update was killed, or lost an answer
of the API, and left it. DigitalOcean refuses a second volume, firewall, network or zone of a name, and silently makes a
second droplet, SSH key, Spaces key or address record. So all of it is looked for before anything is created. What is
found is never taken over: a name is not proof of whose it is. The message has the line that imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Network, ip_network
from typing import Any, Final
from urllib.parse import urlencode

import pulumi
import pulumi_digitalocean as digitalocean

from components import api
from components.component import ancestry
from components.cost import IDLE_ADDRESS
from components.known_resources import KnownResources
from components.settings import Recover
from components.survey import Survey

Droplet = digitalocean.outputs.GetDropletsDropletResult
#: An entry of a list of the API.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A resource of the program: its type token and logical name, and those of the component that it is in."""

    type: str
    name: str
    parent_type: str = ""
    parent: str = ""


_DIGITALOCEAN: Final = "digitalocean:index/"
PLACES: Final = {
    "postgresql": Place(
        f"{_DIGITALOCEAN}databaseCluster:DatabaseCluster",
        "databases-postgresql",
        "slipway:index:ManagedDatabases",
        "databases",
    ),
    "valkey": Place(
        f"{_DIGITALOCEAN}databaseCluster:DatabaseCluster",
        "databases-valkey",
        "slipway:index:ManagedDatabases",
        "databases",
    ),
    "caa": Place(f"{_DIGITALOCEAN}dnsRecord:DnsRecord", "dns-caa", "slipway:index:DnsRecords", "dns"),
    "address": Place(f"{_DIGITALOCEAN}reservedIp:ReservedIp", "server-address", "slipway:index:GitLabServer", "server"),
    "domain": Place(f"{_DIGITALOCEAN}domain:Domain", "dns-domain", "slipway:index:DnsRecords", "dns"),
    "public": Place(
        f"{_DIGITALOCEAN}firewall:Firewall", "public-access-firewall", "slipway:index:PublicAccess", "public-access"
    ),
    "record": Place(f"{_DIGITALOCEAN}dnsRecord:DnsRecord", "dns-a", "slipway:index:DnsRecords", "dns"),
    "runner": Place(f"{_DIGITALOCEAN}firewall:Firewall", "network-runner-firewall", "slipway:index:Network", "network"),
    "server-base": Place(
        f"{_DIGITALOCEAN}firewall:Firewall", "network-server-base-firewall", "slipway:index:Network", "network"
    ),
    "ssh-key": Place(f"{_DIGITALOCEAN}sshKey:SshKey", "ssh-key"),
    "volume": Place(f"{_DIGITALOCEAN}volume:Volume", "server-data", "slipway:index:GitLabServer", "server"),
    "vpc": Place(f"{_DIGITALOCEAN}vpc:Vpc", "network-vpc", "slipway:index:Network", "network"),
}
_FIREWALLS: Final = ("server-base", "runner", "public")
_TARGET: Final = "slipway:index:Target"


def firewall_place(kind: str) -> Place:
    """Return the place of a firewall by what follows the stack's name in its own."""
    if kind in PLACES:
        return PLACES[kind]
    if kind.startswith("target-"):
        component = f"delivery-{kind}"
        return replace(
            PLACES["public"],
            name=f"{component}-firewall",
            parent_type=f"slipway:index:Delivery${_TARGET}",
            parent=component,
        )
    return replace(PLACES["public"], name=f"public-access-{kind}")


@dataclass(frozen=True)
class Wanted:
    """What the settings ask for, as far as they are valid; None and nothing for what is not known.

    `domain` is the zone that the stack creates, `vpc` the network's name; `vpc_id` is that of a network which a
    destroyed stack or a lost state has left, and which this one goes on with; `droplets` and `spaces_keys` are names,
    and `targets` what follows the prefix in those of machines that projects are deployed to. `recover` is what a new
    state takes over, and `volume_gb` the size of the data volume.
    """

    prefix: str
    region: str | None = None
    domain: str | None = None
    vpc: str | None = None
    vpc_id: str | None = None
    vpc_cidr: IPv4Network | None = None
    droplets: Sequence[str] = ()
    targets: Sequence[str] = ()
    spaces_keys: Sequence[str] = ()
    volume_gb: int | None = None
    registry_port: int | None = None
    recover: Recover = field(default_factory=Recover)


class Leftovers:
    """Looks for what is wanted and taken: each finding is one error, with the setting to blame.

    Idle addresses are only reported: they have neither names nor tags.
    """

    def __init__(self, survey: Survey, wanted: Wanted, known: KnownResources) -> None:
        """Nothing is asked yet."""
        self._survey = survey
        self._wanted = wanted
        self._known = known

    def droplets(self, found: Sequence[Droplet]) -> Iterator[str]:
        """Droplets of the stack's names; and those that carry a tag which the stack is about to create."""
        mine = self._known.names("Droplet")
        kinds = ("server", "runner", *self._wanted.targets)
        tags = {f"{self._wanted.prefix}-{kind}" for kind in kinds} - self._known.names("Tag")
        for droplet in found:
            name, identifier = droplet.name, droplet.id
            if name in self._wanted.droplets and name not in mine:
                yield self._without_import(
                    f"a droplet {name} (ID {identifier})",
                    "a second one of that name would be created beside it",
                    f"Without make, delete it with doctl compute droplet delete {identifier}",
                )
            elif carried := sorted(tags.intersection(tag.lower() for tag in droplet.tags or [])):
                yield (
                    f"stack: the droplet {name} (ID {identifier}) carries the tag {carried[0]}, and is not in this "
                    "stack's state; the stack's firewall would apply to it, too. Remove the tag from it, or choose "
                    "another name for the stack"
                )

    def _zones(self) -> Iterator[str]:
        domain = self._wanted.domain
        if domain is None or domain in self._known.names("Domain"):
            return
        zones = {found["name"] for found in self._list("the zones", "domain:read", "/v2/domains", "domains")}
        if domain in zones and not self._wanted.recover.domain:
            yield (
                f"dns.zone: the account has the zone {domain}, which is not in this stack's state; a second one "
                "cannot be created. Set dns.zone to existing: the stack then adds its records to the zone and "
                f"never deletes it{self._or_recover('domain', 'domain', 'true') or self._or_import('domain', domain)}"
            )
        elif zones and domain not in zones and self._wanted.recover.domain:
            yield f"recover.domain: the account has no zone {domain}; there is nothing to take over. Remove the setting"

    def _networks(self) -> Iterator[str]:
        wanted = self._wanted
        if wanted.vpc is None or wanted.vpc in self._known.names("Vpc"):
            return
        for found in self._list("the networks", "vpc:read", "/v2/vpcs", "vpcs"):
            if found["id"] == wanted.vpc_id:
                continue
            if found["name"] == wanted.vpc:
                yield self._taken("vpc", f"a network {found['name']}", found["id"])
            elif wanted.vpc_cidr and wanted.vpc_cidr.overlaps(ip_network(found["ip_range"])):
                yield (
                    f"server.vpcCidr: {wanted.vpc_cidr} overlaps {found['ip_range']}, the range of the network "
                    f"{found['name']}; DigitalOcean would refuse it. Use another range, or remove vpcCidr"
                )

    def _volumes(self) -> Iterator[str]:
        name, region = f"{self._wanted.prefix}-data", self._wanted.region
        if region is None or any((one.get("name"), one.get("region")) == (name, region) for one in self._volumes_known):
            return
        query = urlencode({"name": name, "region": region})
        found = self._list("the volumes", "block_storage:read", f"/v2/volumes?{query}", "volumes")
        recovered, wanted_gb = self._wanted.recover.volume, self._wanted.volume_gb
        for volume in found:
            if volume["id"] != recovered:
                advice = self._or_recover("volume", "volume", volume["id"])
                yield self._taken("volume", f"a volume {name} in {region}", volume["id"], advice)
            elif wanted_gb and wanted_gb < (size := int(volume["size_gigabytes"])):
                yield (
                    f"server.volumeSizeGb: {wanted_gb} is less than the {size} GiB of the volume {name}; volumes do "
                    f"not shrink. Set it to {size} or more"
                )
        if not found and not recovered:
            yield from self._volume_limit()
        if recovered and recovered not in {volume["id"] for volume in found}:
            yield (
                f"recover.volume: the account has no volume {name} in {region} with the ID {recovered}; there is "
                "nothing to take over. make strays lists the volumes that no stack has"
            )

    @property
    def _volumes_known(self) -> Iterator[Any]:
        return self._known.of_type("Volume")

    def _firewalls(self) -> Iterator[str]:
        port = self._wanted.registry_port
        kinds = (*_FIREWALLS, *([f"registry-{port}"] if port else []), *self._wanted.targets)
        wanted = {f"{self._wanted.prefix}-{kind}": kind for kind in kinds}
        for name in self._known.names("Firewall"):
            wanted.pop(name, None)
        for found in self._list("the firewalls", "firewall:read", "/v2/firewalls", "firewalls") if wanted else ():
            if kind := wanted.get(found["name"]):
                yield self._taken(kind, f"a firewall {found['name']}", found["id"])

    def _ssh_keys(self) -> Iterator[str]:
        name = f"{self._wanted.prefix}-admin"
        if name in self._known.names("SshKey"):
            return
        pairs = {str(pair.get("publicKeyOpenssh")).strip() for pair in self._known.of_type("PrivateKey")}
        for found in self._list("the SSH keys", "ssh_key:read", "/v2/account/keys", "ssh_keys"):
            if found["name"] == name or found["public_key"].strip() in pairs:
                yield self._taken("ssh-key", f"an SSH key {found['name']}", str(found["id"]))

    def _spaces_keys(self) -> Iterator[str]:
        wanted = set(self._wanted.spaces_keys) - self._known.names("SpacesKey")
        for found in self._list("the Spaces keys", "spaces_key:read", "/v2/spaces/keys", "keys") if wanted else ():
            if found["name"] in wanted:
                yield self._without_import(
                    f"a Spaces key {found['name']} ({found['access_key']})",
                    "a second one of that name would be created, and the first one would stay valid",
                    "Without make, delete it under Spaces Object Storage in the control panel",
                )

    def _addresses(self) -> Iterator[str]:
        region = self._wanted.region
        if region is None or any(True for _ in self._known.of_type("ReservedIp")):
            return
        found = self._list("the reserved addresses", "reserved_ip:read", "/v2/reserved_ips", "reserved_ips")
        recovered = self._wanted.recover.address
        for address in found:
            if address["droplet"] is None and address["region"]["slug"] == region and address["ip"] != recovered:
                self._report_idle(address["ip"], region)
        if recovered:
            yield from self._not_recovered(recovered, region, found)
            return
        limit = self._limit("reserved_ip_limit")
        if limit and len(found) >= limit:
            yield (
                f"server: needs a reserved address, and the account has {len(found)} and may have {limit}; another one "
                "could not be reserved. Delete one under Networking in the control panel, or ask there for a higher "
                "limit"
            )

    def _volume_limit(self) -> Iterator[str]:
        limit = self._limit("volume_limit")
        # Some accounts have a limit of 0, which is none.
        if limit and (count := len(self._list("the volumes", "block_storage:read", "/v2/volumes", "volumes"))) >= limit:
            yield (
                f"server: needs a data volume, and the account has {count} and may have {limit}; another one could not "
                "be created. Delete one under Volumes in the control panel, or ask its support for a higher limit"
            )

    def _limit(self, name: str) -> int | None:
        """A limit of the account; None for a token that may not read it."""
        asked = self._survey.ask("the account", "account:read", lambda _: api.request("/v2/account")["account"]) or {}
        return asked.get(name)

    def _not_recovered(self, address: str, region: str, found: Sequence[Entry]) -> Iterator[str]:
        same = [one for one in found if one["ip"] == address]
        droplet = same[0]["droplet"] if same else None
        if droplet is not None:
            yield (
                f"recover.address: {address} points to the droplet {droplet['name']} (ID {droplet['id']}), which is "
                "not in this stack's state; it would lose its address. make recover deletes it if it is this stack's"
            )
        elif not same or same[0]["region"]["slug"] != region:
            yield (
                f"recover.address: the account has no reserved address {address} in {region}; there is nothing to take "
                "over. Remove the setting, and the stack reserves another one"
            )

    def _report_idle(self, address: str, region: str) -> None:
        pulumi.log.warn(
            f"The reserved address {address} in {region} points to no droplet and costs {IDLE_ADDRESS:.2f} US dollars "
            "per month. If nobody needs it, delete it under Networking in the control panel"
            + self._or_import("address", address)
        )

    def _list(self, what: str, scope: str, path: str, key: str) -> list[Entry]:
        return self._survey.ask(what, scope, lambda _: list(api.every(path, key, api.request))) or []

    def _taken(self, place: str, what: str, identifier: str, recovery: str = "") -> str:
        return (
            f"stack: the account has {what} (ID {identifier}), which is not in this stack's state; DigitalOcean would "
            "refuse a second one, or create it beside the first. Choose another name for the stack; or, if nothing "
            f"needs it, delete it{recovery or self._or_import(place, identifier)}"
        )

    def _or_recover(self, place: str, key: str, value: str) -> str:
        """How a new state takes it over, unless it is one that can import it as it is."""
        if import_line(PLACES[place], value, self._known):
            return ""
        stack = pulumi.get_stack()
        return (
            f". If the state of this stack was lost, take it over with make recover STACK={stack}, or in plain Pulumi "
            f"with\npulumi config set --stack {stack} --path recover.{key} {value}\n"
        )

    def _without_import(self, what: str, consequence: str, advice: str) -> str:
        return without_import(self._known, "stack", what, consequence, advice)

    def _or_import(self, place: str, identifier: str) -> str:
        line = import_line(firewall_place(place), identifier, self._known)
        if not line:
            return ""
        return (
            ". If an earlier update of this stack was interrupted while creating it, take it over with make repair "
            f"STACK={pulumi.get_stack()}, or in plain Pulumi with\n{line}\n"
        )


def without_import(known: KnownResources, key: str, what: str, consequence: str, advice: str) -> str:
    """Return the error about what holds no data, and is deleted rather than taken over; `key` is to blame."""
    if known.outputs:
        return (
            f"{key}: the account has {what}, which is not in this stack's state; {consequence}. If an earlier "
            f"update of this stack was interrupted, it is left from it: make repair STACK={pulumi.get_stack()} "
            f"deletes it. {advice}"
        )
    return (
        f"{key}: the account has {what}, and this stack has nothing yet; {consequence}. It belongs to another "
        "stack of this name: choose another name for this one. Or the state of this stack was lost: make recover "
        f"STACK={pulumi.get_stack()} takes over its data and deletes the rest"
    )


#: What needs a list of the API each.
_LISTED: Final = (
    Leftovers._zones,
    Leftovers._networks,
    Leftovers._volumes,
    Leftovers._firewalls,
    Leftovers._ssh_keys,
    Leftovers._spaces_keys,
    Leftovers._addresses,
)


def look_for_leftovers(survey: Survey, wanted: Wanted, known: KnownResources, droplets: Sequence[Droplet]) -> None:
    """Have the survey report what is taken in an account with these droplets. The lists are read side by side."""
    survey.check(lambda part: Leftovers(part, wanted, known).droplets(droplets))
    for listed in _LISTED:
        survey.check(partial(_errors_of, listed, wanted, known), beside=True)


def _errors_of(
    listed: Callable[[Leftovers], Iterator[str]], wanted: Wanted, known: KnownResources, survey: Survey
) -> Iterator[str]:
    return listed(Leftovers(survey, wanted, known))


def import_line(place: Place, identifier: str, known: KnownResources) -> str:
    """Return the command that adds an existing resource to the state; nothing if its component is not there yet."""
    if not known.has("digitalocean") or (place.parent and not known.has(place.parent)):
        return ""
    parent = (place.parent_type, place.parent) if place.parent else None
    return import_command((pulumi.get_stack(), pulumi.get_project()), place.type, place.name, identifier, parent)


def import_command(
    place: tuple[str, str],
    type_: str,
    name: str,
    identifier: str,
    parent: tuple[str, str] | None,
    *,
    provider: str | None = None,
) -> str:
    """Return the command that imports a resource of the account.

    `place` is the stack and the project; `parent` is the type and the name of the component. The URN of a component
    has its type, but not those of its children. `provider` is the end of the URN of a provider other than that of the
    whole program.
    """
    stack, project = place
    package = type_.partition(":")[0]
    urn = f"urn:pulumi:{stack}::{project}::{ancestry()}"
    below = f"--parent 'parent={urn}{parent[0]}::{parent[1]}' " if parent else ""
    return (
        f"pulumi import --stack {stack} --generate-code=false --protect=false {type_} {name} {identifier} "
        f"{below}--provider 'provider={urn}{provider or f'pulumi:providers:{package}::{package}'}'"
    )
