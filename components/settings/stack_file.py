"""A whole stack file: every top-level key, and what is rejected about keys together.

An error message says what is wrong, what would happen and what to do, in this order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Annotated, Final
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator

from components.settings.alerts import Alerts
from components.settings.backup import Backup
from components.settings.certificate import Certificate
from components.settings.database_conflicts import database_conflicts
from components.settings.databases import Databases
from components.settings.gitlab import GitLab
from components.settings.groups import GroupSettings
from components.settings.mail import Smtp
from components.settings.objects import Files, FileStorage
from components.settings.projects import ProjectSettings
from components.settings.recover import Recover
from components.settings.registry import SPACES_REGIONS, Registry, Storage
from components.settings.runners import RunnerSettings
from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber
from components.settings.server import Server
from components.settings.shown import shown
from components.settings.sign_in import SignIn
from components.settings.strings import Region
from components.settings.supply_chain import SupplyChain
from components.settings.targets import droplets_of

#: Common names of certificates have 64 characters at most (RFC 5280, ub-common-name).
_LONGEST_NAME: Final = 64

#: No network of administrators is wider: a /8 of IPv4, a /19 of IPv6, as large as any allocation. All together have
#: twice as many addresses at most.
_WIDEST: Final = {4: 2**24, 6: 2 ** (128 - 19)}
_MOST_SHOWN: Final = 4
#: GitLab, memory-constrained environments: with less, Prometheus has to be off.
_MEMORY_FOR_METRICS_GB: Final = 8
#: Top-level domains are not numbers (RFC 3696, 2).
_TOP_LABEL: Final = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
#: Labels of a form that is kept for encodings such as `xn--`; Let's Encrypt issues no certificates for others.
_RESERVED_LABEL: Final = re.compile(r"(?!xn--)..--.*")
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,2}")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


def _network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError as error:
        reason = str(error).replace(repr(value), "it")
        message = (
            f"{shown(value)} is not a usable network ({shown(reason)}); the firewall would reject it. "
            "Use one such as 203.0.113.7/32"
        )
        raise ValueError(message) from error
    return value


def _unless_empty(value: object) -> object:
    """Nothing instead of an empty section: the project file's default of one that the stack file leaves out."""
    return None if value == {} else value


Network = Annotated[str, AfterValidator(_network)]


class Removal(StrEnum):
    """What a destroy leaves behind."""

    EVERYTHING = "everything"
    KEEP_DATA = "keep-data"


class DnsZone(StrEnum):
    """Whether the stack creates the DNS zone of the domain, or uses one that exists."""

    CREATE = "create"
    EXISTING = "existing"


class Dns(Section):
    """The DNS zone and its records."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    zone: DnsZone = Field(
        default=DnsZone.CREATE,
        description="`create` creates the domain at DigitalOcean; `existing` adds records to one that is there, and "
        "leaves behind one that the stack has created before.",
    )
    ttl: WholeNumber = Field(
        default=300,
        ge=30,
        le=86400,
        description="How long resolvers may cache the records.",
        json_schema_extra={"unit": "seconds"},
    )


class Settings(Section):
    """One stack file, complete and checked."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    domain: str = Field(
        description="The DNS domain of GitLab and its registry.",
        examples=["example.com"],
    )
    hostname: str = Field(
        default="gitlab",
        description="The name of GitLab and its registry within the domain.",
    )
    region: Region = Field(
        default="nyc3",
        description="The DigitalOcean region of the machines, the data volume and the reserved IP address.",
    )
    admin_cidrs: tuple[Network, ...] = Field(
        description="The networks that may use SSH, for administrators and for git over SSH. The machine that runs "
        "Pulumi must be in one of them.",
        examples=["203.0.113.7/32"],
    )
    admins_from_anywhere: bool = Field(
        default=False,
        description="Confirms that `adminCidrs` covers a large part of the internet, or all of it. Anyone there may "
        "then try to log in over SSH.",
    )
    removal: Removal = Field(
        default=Removal.KEEP_DATA,
        description="What a destroy leaves behind: `everything` deletes everything; `keep-data` keeps the volume, "
        "the bucket and the domain, what is in GitLab, and what the installation is known by: the reserved address, "
        "the SSH host key, and the administrator's key and password.",
    )
    dns: Dns = Field(default=Dns(), description="The DNS zone and its records.")
    server: Server = Field(
        default=Server(), description="The droplet that GitLab runs on, its data volume and its private network."
    )
    certificate: Certificate = Field(default=Certificate(), description="The certificate of GitLab and its registry.")
    gitlab: GitLab = Field(default=GitLab(), description="The version of GitLab and where its packages come from.")
    time_zone: str = Field(
        default="UTC",
        description="The time zone of GitLab's pages and mails, and of schedules that name none, as the IANA calls it. "
        "The machines, and `backup.times`, stay on UTC.",
        examples=["Europe/Berlin"],
    )
    smtp: Annotated[Smtp | None, BeforeValidator(_unless_empty)] = Field(
        default=None,
        description="The mail server that GitLab sends through.",
    )
    sign_in: SignIn = Field(
        default=SignIn(), description="How people sign in, besides with a password of GitLab's own."
    )
    registry: Registry = Field(default=Registry(), description="The container registry and its storage.")
    object_storage: Files = Field(
        default=Files(), description="GitLab's files beside the repositories, and where they are kept."
    )
    databases: Databases = Field(default=Databases(), description="GitLab's databases, and who runs them.")
    backup: Backup = Field(
        default=Backup(), description="Backups of GitLab, its registry and its configuration to a Space of their own."
    )
    alerts: Alerts = Field(
        default=Alerts(), description="Alerts by mail and in Slack, which fire outside the stack's own machines."
    )
    supply_chain: SupplyChain = Field(
        default=SupplyChain(),
        description="What the stack's pipeline checks about images before their release, and attaches to them.",
    )
    groups: tuple[GroupSettings, ...] = Field(default=(), description="Groups of projects in GitLab.")
    projects: tuple[ProjectSettings, ...] = Field(default=(), description="Projects in GitLab.")
    runners: tuple[RunnerSettings, ...] = Field(default=(), description="Runners, each on its own machines.")
    recover: Recover = Field(
        default=Recover(),
        description="What the stack takes over because its state was lost; without effect once the state has it.",
    )

    @field_validator("domain")
    @classmethod
    def _is_a_domain(cls, value: str) -> str:
        *labels, last = value.split(".")
        if not labels or not _TOP_LABEL.fullmatch(last) or not all(map(_LABEL.fullmatch, labels)):
            message = (
                "is not a domain name; no DNS record could be created in it. "
                "Set it with: pulumi config set domain example.com"
            )
            raise ValueError(message)
        return value

    @field_validator("hostname")
    @classmethod
    def _is_a_label(cls, value: str) -> str:
        if not _LABEL.fullmatch(value):
            message = (
                f"{shown(value)} is not a single DNS label; no record could be created for it. "
                "Use lowercase letters, digits and dashes, such as gitlab"
            )
            raise ValueError(message)
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, value: str) -> str:
        if value == cls.model_fields["time_zone"].default:
            # Listing the others takes long.
            return value
        # Without a database of time zones on this machine, GitLab alone knows.
        known = available_timezones() - {"localtime", "Factory"}
        if not _ZONE.fullmatch(value) or (known and value not in known):
            near = difflib.get_close_matches(value, known, n=1)
            message = (
                f"{shown(value)} is not a time zone; GitLab would not start. Use one such as "
                f"{near[0] if near else 'Europe/Berlin'}"
            )
            raise ValueError(message)
        return value

    @field_validator("admin_cidrs")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            message = (
                "is empty; not even Pulumi could reach the server over SSH. "
                "Set it with: pulumi config set --path 'adminCidrs[0]' 203.0.113.7/32"
            )
            raise ValueError(message)
        if not any("." in cidr for cidr in value):
            message = (
                "has IPv6 networks only, and the server has an IPv4 address only; not even Pulumi could reach it over "
                "SSH. Add an IPv4 network such as 203.0.113.7/32"
            )
            raise ValueError(message)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """Keys of different sections that do not go together."""
        yield from self._administrators()
        if len(self.fqdn) > _LONGEST_NAME:
            message = (
                f"{self.fqdn} has more than {_LONGEST_NAME} characters; no certificate could be issued for it. "
                "Use a shorter hostname or domain"
            )
            yield Contradiction(("domain", "hostname"), message, "hostname")
        yield from self._reserved_labels()
        uses = {
            "registry": (self.registry.storage is Storage.SPACES, "storage", self.spaces_region),
            "objectStorage": (self.uses_object_storage, "storage", self.objects_region),
            "backup": (self.backup.enabled, "enabled", self.backups_region),
        }
        for section, (is_used, by, region) in uses.items():
            if is_used and region not in SPACES_REGIONS:
                message = (
                    f"{region} offers no Spaces; the bucket could not be created. "
                    f"Use one of {', '.join(sorted(SPACES_REGIONS))}"
                )
                place = f"{section}.spacesRegion"
                yield Contradiction(("region", f"{section}.{by}", place), message, place)
        for number, runner in enumerate(self.runners):
            if runner.keeps_caches and self.region not in SPACES_REGIONS:
                place = f"runners[{number}].cluster.cacheDays"
                message = (
                    f"needs a Space in the region of the cluster, and {self.region} offers none; it could not be "
                    "created. Remove it"
                )
                yield Contradiction(("region", place), message, place)
        yield from self._unused_buckets()
        for key, pattern in (("oidc", r"\bomniauth_\w+"), ("ldap", r"\b(?:prevent_)?ldap_\w+")):
            if getattr(self.sign_in, key) and (found := re.search(pattern, self.gitlab.extra_configuration)):
                message = (
                    f"sets {found[0]}, and so does signIn.{key}; the line would silently override it. Remove the line, "
                    "or signIn"
                )
                yield Contradiction(("signIn", "gitlab.extraConfiguration"), message, "gitlab.extraConfiguration")
        yield from self._metrics()
        found = re.search(r"\b(\w+_)?object_store(_\w+)?\b", self.gitlab.extra_configuration)
        if self.uses_object_storage and found:
            message = (
                f"sets {found[0]}, and so does objectStorage; GitLab would look for its files elsewhere. Remove the "
                "line, or set objectStorage.storage to filesystem"
            )
            yield Contradiction(
                ("objectStorage.storage", "gitlab.extraConfiguration"), message, "gitlab.extraConfiguration"
            )
        yield from database_conflicts(self.databases, self.server, self.gitlab.extra_configuration)
        if self.alerts.enabled and "custom_gitlab_server_config" in self.gitlab.extra_configuration:
            message = (
                "sets custom_gitlab_server_config, where alerts has its page /-/slipway-health; it would be gone, "
                "and an alert would fire. Remove that line, or alerts"
            )
            yield Contradiction(("alerts", "gitlab.extraConfiguration"), message, "gitlab.extraConfiguration")

    def _metrics(self) -> Iterator[Contradiction]:
        if not self.gitlab.metrics:
            return
        if self.server.memory_gb < _MEMORY_FOR_METRICS_GB:
            message = (
                f"needs about 300 MB of memory, and {self.server.size} has {self.server.memory_gb} GB; GitLab would be "
                "killed for lack of memory. Set server.size to s-4vcpu-8gb or more, or remove it"
            )
            yield Contradiction(("server.size", "gitlab.metrics"), message, "gitlab.metrics")
        if "prometheus_monitoring" in self.gitlab.extra_configuration:
            message = (
                "sets prometheus_monitoring, and so does gitlab.metrics; the line would silently override it. Remove "
                "the line, or gitlab.metrics"
            )
            yield Contradiction(("gitlab.metrics", "gitlab.extraConfiguration"), message, "gitlab.extraConfiguration")

    def _unused_buckets(self) -> Iterator[Contradiction]:
        if self.recover.registry_bucket and self.registry.storage is not Storage.SPACES:
            message = "is set, but registry.storage is not spaces; the bucket would be ignored. Remove one of the two"
            yield Contradiction(("registry.storage", "recover.registryBucket"), message, "recover.registryBucket")
        if self.recover.backup_bucket and not self.backup.enabled:
            message = "is set, but backup.enabled is not; the bucket would be ignored. Enable backups, or remove it"
            yield Contradiction(("backup.enabled", "recover.backupBucket"), message, "recover.backupBucket")
        if self.recover.object_buckets and not self.uses_object_storage:
            message = (
                "is set, but objectStorage.storage is not spaces; the buckets would be ignored. Remove one of the two"
            )
            yield Contradiction(("objectStorage.storage", "recover.objectBuckets"), message, "recover.objectBuckets")

        for engine in ("postgresql", "valkey"):
            if getattr(self.recover, engine) and not getattr(self.databases, engine).is_managed:
                message = (
                    f"is set, but databases.{engine}.kind is bundled; the cluster would be ignored. Remove one of the "
                    "two"
                )
                yield Contradiction((f"databases.{engine}.kind", f"recover.{engine}"), message, f"recover.{engine}")

    def _reserved_labels(self) -> Iterator[Contradiction]:
        by_lets_encrypt = self.certificate.issuer is not None
        for key, name in (("domain", self.domain), ("hostname", self.hostname)):
            if by_lets_encrypt and any(map(_RESERVED_LABEL.fullmatch, name.split("."))):
                message = (
                    f"{name} has a label with dashes in its third and fourth place; Let's Encrypt would issue no "
                    "certificate for it. Choose another name, or another source of the certificate"
                )
                yield Contradiction((key, "certificate.source", "certificate.acmeDirectory"), message, key)

    def _administrators(self) -> Iterator[Contradiction]:
        keys = ("adminCidrs", "adminsFromAnywhere")
        wide = _wide(_collapsed(self.admin_cidrs))
        if wide and not self.admins_from_anywhere:
            message = (
                f"{_shown(wide)} is a large part of the internet; anyone there could try to log in over "
                "SSH. List the networks of your administrators; or, if that is meant, set adminsFromAnywhere to true"
            )
            yield Contradiction(keys, message, "adminCidrs")
        if self.admins_from_anywhere and not wide:
            message = (
                "is true, but adminCidrs has small networks only; a later mistake in them would go unnoticed. Remove it"
            )
            yield Contradiction(keys, message, "adminsFromAnywhere")

    @property
    def fqdn(self) -> str:
        """The host name of GitLab and its registry."""
        return f"{self.hostname}.{self.domain}"

    @property
    def application_settings(self) -> dict[str, bool | int]:
        """What GitLab keeps of the settings in its database, by the names of its API."""
        return self.sign_in.application_settings | self.gitlab.limits.application_settings

    def sign_in_callbacks(self) -> dict[str, str]:
        """The URL that each provider of sign-in has to allow, by the provider's name."""
        return {one.name: f"https://{self.fqdn}/users/auth/{one.name}/callback" for one in self.sign_in.oidc}

    @property
    def spaces_region(self) -> str:
        """The region of the registry's bucket: the server's, unless another one is set."""
        return self.registry.spaces_region or self.region

    @property
    def uses_object_storage(self) -> bool:
        """Whether GitLab keeps its files in Spaces."""
        return self.object_storage.storage is FileStorage.SPACES

    @property
    def objects_region(self) -> str:
        """The region of the Spaces with GitLab's files: the server's, unless another one is set."""
        return self.object_storage.spaces_region or self.region

    @property
    def backups_region(self) -> str:
        """The region of the Space with the backups: the server's, unless another one is set."""
        return self.backup.spaces_region or self.region

    @property
    def signs(self) -> bool:
        """Whether a project signs what it releases."""
        return any(project.signs(self.supply_chain) for project in self.projects)

    @property
    def slugs(self) -> list[str]:
        """The sizes and images of all machines."""
        machines = [(self.server.size, self.server.image)]
        machines += [(one.size, one.image) for one in self.runners if not one.is_cluster]
        machines += [(one.size, one.image) for _, _, _, one in droplets_of(self)]
        return sorted({slug for machine in machines for slug in machine})

    @property
    def keep_data(self) -> bool:
        """Whether the volume, the bucket and the domain survive a destroy."""
        return self.removal is Removal.KEEP_DATA


def _wide(networks: list[IPv4Network | IPv6Network]) -> list[IPv4Network | IPv6Network]:
    """Those that are too wide: each of them, or all of a version together."""
    found = []
    for version, widest in _WIDEST.items():
        own = [one for one in networks if one.version == version]
        too_many = sum(one.num_addresses for one in own) > 2 * widest
        found += [one for one in own if one.num_addresses > widest] or (own if too_many else [])
    return found


def _shown(networks: list[IPv4Network | IPv6Network]) -> str:
    first = ", ".join(map(str, networks[:_MOST_SHOWN]))
    return f"{first} and {len(networks) - _MOST_SHOWN} more" if len(networks) > _MOST_SHOWN else first


def _collapsed(cidrs: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """The same addresses in as few networks as possible."""
    networks = [ip_network(cidr) for cidr in cidrs]
    v4 = collapse_addresses(network for network in networks if isinstance(network, IPv4Network))
    v6 = collapse_addresses(network for network in networks if isinstance(network, IPv6Network))
    return [*v4, *v6]
