"""A whole stack file: every top-level key, and what is rejected about keys together.

An error message says what is wrong, what would happen and what to do, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Final

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from components.settings.backup import Backup
from components.settings.certificate import Certificate
from components.settings.gitlab import GitLab
from components.settings.projects import ProjectSettings
from components.settings.registry import SPACES_REGIONS, Registry, Storage
from components.settings.runners import RunnerSettings
from components.settings.section import ENVIRONMENT, RelatedKeyError, Section
from components.settings.server import Server
from components.settings.strings import Region

#: Common names of certificates have 64 characters at most (RFC 5280, ub-common-name).
_LONGEST_NAME: Final = 64

#: No network of administrators is wider: 10 million IPv4 addresses and more (/8), the largest IPv6 allocations (/19).
_WIDEST: Final = {4: 2**24, 6: 2 ** (128 - 19)}
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


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
        description="`create` creates the domain at DigitalOcean; `existing` adds records to one that is there.",
    )
    ttl: int = Field(
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
    admin_cidrs: tuple[str, ...] = Field(
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
    registry: Registry = Field(default=Registry(), description="The container registry and its storage.")
    backup: Backup = Field(
        default=Backup(), description="Backups of GitLab, its registry and its configuration to a Space of their own."
    )
    projects: tuple[ProjectSettings, ...] = Field(default=(), description="Projects in GitLab.")
    runners: tuple[RunnerSettings, ...] = Field(default=(), description="Runners, each on its own machines.")

    @field_validator("domain")
    @classmethod
    def _is_a_domain(cls, value: str) -> str:
        if (
            "." not in value
            or value.replace(".", "").isdigit()
            or not all(_LABEL.fullmatch(label) for label in value.split("."))
        ):
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
                f"{value!r} is not a single DNS label; no record could be created for it. "
                "Use lowercase letters, digits and dashes, such as gitlab"
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
        for cidr in value:
            try:
                ip_network(cidr)
                if ":" in cidr and not any("." in other for other in value):
                    raise ValueError("the server has an IPv4 address only")
            except ValueError as error:
                message = (
                    f"{cidr!r} is not a usable network ({error}); the firewall would reject it. "
                    "Use one such as 203.0.113.7/32"
                )
                raise ValueError(message) from error
        return value

    @field_validator("admins_from_anywhere")
    @classmethod
    def _is_meant(cls, value: bool, info: ValidationInfo) -> bool:
        networks = _collapsed(info.data.get("admin_cidrs", ()))
        wide = [network for network in networks if network.num_addresses > _WIDEST[network.version]]
        if wide and not value:
            message = (
                f"{', '.join(map(str, wide))} is a large part of the internet; anyone there could try to log in over "
                "SSH. List the networks of your administrators; or, if that is meant, set adminsFromAnywhere to true"
            )
            raise RelatedKeyError("adminCidrs", message)
        if value and networks and not wide:
            message = (
                "is true, but adminCidrs has small networks only; a later mistake in them would go unnoticed. Remove it"
            )
            raise ValueError(message)
        return value

    @field_validator("hostname")
    @classmethod
    def _fits(cls, value: str, info: ValidationInfo) -> str:
        name = f"{value}.{info.data.get('domain', '')}"
        if len(name) > _LONGEST_NAME:
            message = (
                f"{name} has more than {_LONGEST_NAME} characters; no certificate could be issued for it. "
                "Use a shorter hostname or domain"
            )
            raise ValueError(message)
        return value

    @field_validator("registry")
    @classmethod
    def _has_spaces(cls, value: Registry, info: ValidationInfo) -> Registry:
        region = value.spaces_region or info.data.get("region")
        if value.storage is Storage.SPACES and region and region not in SPACES_REGIONS:
            message = (
                f"{region} offers no Spaces; the bucket could not be created. "
                f"Use one of {', '.join(sorted(SPACES_REGIONS))}"
            )
            raise RelatedKeyError("registry.spacesRegion", message)
        return value

    @field_validator("backup")
    @classmethod
    def _has_a_region(cls, value: Backup, info: ValidationInfo) -> Backup:
        region = value.spaces_region or info.data.get("region")
        if value.enabled and region and region not in SPACES_REGIONS:
            message = (
                f"{region} offers no Spaces; the bucket could not be created. "
                f"Use one of {', '.join(sorted(SPACES_REGIONS))}"
            )
            raise RelatedKeyError("backup.spacesRegion", message)
        return value

    @property
    def fqdn(self) -> str:
        """The host name of GitLab and its registry."""
        return f"{self.hostname}.{self.domain}"

    @property
    def spaces_region(self) -> str:
        """The region of the registry's bucket: the server's, unless another one is set."""
        return self.registry.spaces_region or self.region

    @property
    def backups_region(self) -> str:
        """The region of the Space with the backups: the server's, unless another one is set."""
        return self.backup.spaces_region or self.region

    @property
    def slugs(self) -> list[str]:
        """The sizes and images of all machines."""
        machines = [(self.server.size, self.server.image), *((one.size, one.image) for one in self.runners)]
        return sorted({slug for machine in machines for slug in machine})

    @property
    def keep_data(self) -> bool:
        """Whether the volume, the bucket and the domain survive a destroy."""
        return self.removal is Removal.KEEP_DATA


def _collapsed(cidrs: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """The same addresses in as few networks as possible."""
    networks = [ip_network(cidr) for cidr in cidrs]
    v4 = collapse_addresses(network for network in networks if isinstance(network, IPv4Network))
    v6 = collapse_addresses(network for network in networks if isinstance(network, IPv6Network))
    return [*v4, *v6]
