"""The shape of a stack file: every key, its type, its default and what is refused.

A refusal says what is wrong, what would have happened and what to do, in this order.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import ip_network
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from components.settings.certificate import Certificate
from components.settings.delivery import ProjectSettings, RunnerSettings
from components.settings.gitlab import GitLab
from components.settings.registry import SPACES_REGIONS, Registry, Storage
from components.settings.section import Section
from components.settings.server import Server
from components.settings.texts import Region

#: Common names of certificates have 64 characters at most (RFC 5280, ub-common-name).
_LONGEST_NAME: Final = 64

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


class Removal(StrEnum):
    """What a destroy leaves behind."""

    EVERYTHING = "everything"
    KEEP_DATA = "keep-data"


class DnsZone(StrEnum):
    """Whether the DNS domain is made here or exists already."""

    CREATE = "create"
    EXISTING = "existing"


class Dns(Section):
    """DNS: `ttl` in seconds. The API takes no less than 30."""

    zone: DnsZone = DnsZone.CREATE
    ttl: int = Field(default=300, ge=30, le=86400)


class Settings(Section):
    """One stack file, whole and checked. Defaults of the top level are in `Pulumi.yaml`."""

    domain: str
    hostname: str
    region: Region
    admin_cidrs: tuple[str, ...]
    removal: Removal
    dns: Dns
    server: Server
    certificate: Certificate
    gitlab: GitLab
    registry: Registry
    projects: tuple[ProjectSettings, ...]
    runners: tuple[RunnerSettings, ...]

    @field_validator("domain")
    @classmethod
    def _is_a_domain(cls, value: str) -> str:
        if (
            "." not in value
            or value.replace(".", "").isdigit()
            or not all(_LABEL.fullmatch(label) for label in value.split("."))
        ):
            message = (
                "is not a domain name; no DNS record could be made in it. "
                "Set it with: pulumi config set domain example.com"
            )
            raise ValueError(message)
        return value

    @field_validator("hostname")
    @classmethod
    def _is_a_label(cls, value: str) -> str:
        if not _LABEL.fullmatch(value):
            message = (
                f"{value!r} is not one DNS label; no record could be made for it. "
                "Take letters, digits and dashes, such as gitlab"
            )
            raise ValueError(message)
        return value

    @field_validator("admin_cidrs")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            message = (
                "is empty; not even Pulumi could reach the server by SSH. "
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
                    f"{cidr!r} is not a network ({error}); the firewall would refuse it. Write it like 203.0.113.7/32"
                )
                raise ValueError(message) from error
        return value

    @model_validator(mode="after")
    def _name_fits(self) -> Self:
        if len(self.fqdn) > _LONGEST_NAME:
            message = (
                f"hostname: {self.fqdn} has more than {_LONGEST_NAME} characters; no certificate could be made for it. "
                "Take a shorter hostname or domain"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _spaces_are_offered(self) -> Self:
        if self.registry.storage is Storage.SPACES and self.spaces_region not in SPACES_REGIONS:
            message = (
                f"registry.spacesRegion: {self.spaces_region} offers no Spaces; the bucket could not be made. "
                f"Set it to one of {', '.join(sorted(SPACES_REGIONS))}"
            )
            raise ValueError(message)
        return self

    @property
    def fqdn(self) -> str:
        """The name of GitLab and of its registry."""
        return f"{self.hostname}.{self.domain}"

    @property
    def spaces_region(self) -> str:
        """The region of the registry's bucket: the server's, unless another is set."""
        return self.registry.spaces_region or self.region

    @property
    def keep_data(self) -> bool:
        """Whether volume, bucket and domain outlive a destroy."""
        return self.removal is Removal.KEEP_DATA
