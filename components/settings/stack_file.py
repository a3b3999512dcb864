"""The shape of a stack file: every key, its type, its default and what is refused.

A refusal says what is wrong, what would have happened and what to do, in this order.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import IPv4Network, ip_network
from typing import Annotated, Final, Self

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, field_validator, model_validator

from components import versions
from components.settings.delivery import ProjectSettings, RunnerSettings
from components.settings.section import Section
from components.settings.texts import (
    BucketName,
    Certificates,
    EmailAddress,
    Endpoint,
    Fingerprint,
    HttpsUrl,
    KeyText,
    Region,
    matching,
)

#: Regions that offer Spaces (DigitalOcean, regional availability).
SPACES_REGIONS: Final = frozenset(
    {"ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1"}
)

#: Ports that GitLab's own services use on the server, beside SSH and the web (omnibus-gitlab, default ports).
_TAKEN_PORTS: Final = frozenset(
    {22, 80, 443, 5000, 5001, 5432, 6379, 8060, 8080, 8082, 8083, 8092, 8150, 8151, 8153, 8154, 8155, 8181, 9090, 9093}
    | {9094, 9100, 9121, 9168, 9187, 9229, 9235, 9236}
)

#: GitLab, memory-constrained environments: it does not start reliably with less.
_LEAST_VCPUS: Final = 2
_LEAST_MEMORY_GB: Final = 4

#: Common names of certificates have 64 characters at most (RFC 5280, ub-common-name).
_LONGEST_NAME: Final = 64

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)-ce\.\d+")
_SIZE: Final = re.compile(r"-(\d+)vcpu-(\d+)gb")
#: A range of fewer bits is too wide for a VPC, one of more bits too narrow (DigitalOcean, VPC limits).
_WIDEST_VPC: Final = 16
_NARROWEST_VPC: Final = 28
_PUBLIC_KEY: Final = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[\w@.-]+) [A-Za-z0-9+/]+=*( .*)?")


class Removal(StrEnum):
    """What a destroy leaves behind."""

    EVERYTHING = "everything"
    KEEP_DATA = "keep-data"


class DnsZone(StrEnum):
    """Whether the DNS domain is made here or exists already."""

    CREATE = "create"
    EXISTING = "existing"


class CertificateSource(StrEnum):
    """Where the certificate of GitLab and of its registry comes from."""

    LETS_ENCRYPT = "lets-encrypt"
    PROVIDED = "provided"


class Storage(StrEnum):
    """Where the registry keeps images."""

    FILESYSTEM = "filesystem"
    S3 = "s3"
    SPACES = "spaces"


class Dns(Section):
    """DNS: `ttl` in seconds. The API takes no less than 30."""

    zone: DnsZone = DnsZone.CREATE
    ttl: int = Field(default=300, ge=30, le=86400)


class Server(Section):
    """The droplet that GitLab runs on: its size slug, image slug and the size of its data volume in GiB."""

    size: str = "s-4vcpu-8gb"
    image: Annotated[
        str,
        AfterValidator(
            matching(
                r"(ubuntu|debian)-[a-z0-9-]+",
                "is not an image that GitLab has packages for; it could not be installed. Take ubuntu-24-04-x64",
            )
        ),
    ] = versions.SERVER_IMAGE
    volume_size_gb: int = Field(default=50, ge=10, le=16384)
    authorized_keys: tuple[str, ...] = ()
    vpc_cidr: IPv4Network | None = None

    @field_validator("size")
    @classmethod
    def _large_enough(cls, value: str) -> str:
        found = _SIZE.search(value)
        if not re.fullmatch(r"[a-z0-9]+-[a-z0-9.-]+", value):
            message = f"{value!r} is not a size; no droplet could be made. Take one like s-4vcpu-8gb"
            raise ValueError(message)
        if found and (int(found[1]) < _LEAST_VCPUS or int(found[2]) < _LEAST_MEMORY_GB):
            message = (
                f"{value} has less than {_LEAST_VCPUS} vCPUs or {_LEAST_MEMORY_GB} GB; "
                "GitLab would be killed for want of memory. "
                "Take s-4vcpu-8gb, or s-2vcpu-4gb at the least"
            )
            raise ValueError(message)
        return value

    @field_validator("vpc_cidr", mode="before")
    @classmethod
    def _is_a_private_network(cls, value: object) -> object:
        message = (
            f"{value} is not a range for a private network; the service would refuse it. "
            "Take one of 16 to 28 bits within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, such as 10.20.0.0/24"
        )
        if value is None:
            return value
        try:
            network = IPv4Network(value)
        except ValueError as error:
            raise ValueError(message) from error
        if not network.is_private or not _WIDEST_VPC <= network.prefixlen <= _NARROWEST_VPC:
            raise ValueError(message)
        return network

    @field_validator("authorized_keys")
    @classmethod
    def _are_public_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, key in enumerate(value):
            if not _PUBLIC_KEY.fullmatch(key):
                message = (
                    f"entry {number} is not an OpenSSH public key; nobody could log in with it. "
                    "Paste one line of a .pub file"
                )
                raise ValueError(message)
        return value

    @property
    def memory_gb(self) -> int:
        """Memory as the size slug states it; 8, the recommended minimum, where the slug does not tell."""
        found = _SIZE.search(self.size)
        return int(found[2]) if found else 8


class Certificate(Section):
    """TLS of GitLab and of its registry, which share one certificate.

    `acme_directory` replaces Let's Encrypt by another ACME server. `chain`, `private_key` and `ca_certificate` are PEM
    texts; the last one is the root certificate of a private authority, which the server has to trust.
    """

    source: CertificateSource = CertificateSource.LETS_ENCRYPT
    contact_email: EmailAddress | None = None
    acme_directory: HttpsUrl | None = None
    chain: Certificates | None = None
    private_key: SecretStr | None = None
    ca_certificate: Certificates | None = Field(
        default=None,
        # `authority` was its name before, and stack files with it stay valid.
        validation_alias=AliasChoices("caCertificate", "authority"),
    )

    @property
    def issuer(self) -> str | None:
        """The authority that a CAA record admits; none where the certificate may come from anybody."""
        lets_encrypt = self.source is CertificateSource.LETS_ENCRYPT and self.acme_directory is None
        return "letsencrypt.org" if lets_encrypt else None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = self.chain is not None or self.private_key is not None
        if self.source is CertificateSource.LETS_ENCRYPT and given:
            message = (
                "has chain or privateKey, but source is lets-encrypt; they would be ignored. "
                "Set source to provided, or remove them"
            )
            raise ValueError(message)
        if self.source is CertificateSource.PROVIDED and not (self.chain and self.private_key):
            message = (
                "has source provided without both chain and privateKey; nginx would not start. "
                "Set certificate.chain, and certificate.privateKey with --secret"
            )
            raise ValueError(message)
        if self.source is CertificateSource.PROVIDED and (self.acme_directory or self.contact_email):
            message = (
                "has acmeDirectory or contactEmail, but source is provided; they would be ignored. "
                "Set source to lets-encrypt, or remove them"
            )
            raise ValueError(message)
        return self

    @field_validator("private_key")
    @classmethod
    def _is_a_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", value.get_secret_value()):
            message = "is no private key in PEM form; nginx would not start. Paste the text from -----BEGIN on"
            raise ValueError(message)
        return value


class Packages(Section):
    """Where GitLab's packages come from: another `url` for a mirror, another key for a mirror that signs anew.

    `key_fingerprint` is `unpinned` where the key is trusted because HTTPS delivered it.
    """

    url: HttpsUrl = "https://packages.gitlab.com/gitlab/gitlab-ce"
    key_url: HttpsUrl = "https://packages.gitlab.com/gpgkey/gpg.key"
    key_fingerprint: Fingerprint = versions.GITLAB_PACKAGES_KEY


class GitLab(Section):
    """GitLab itself: the version of its package, as apt names it."""

    version: str = versions.GITLAB
    packages: Packages = Packages()

    @field_validator("version")
    @classmethod
    def _supported(cls, value: str) -> str:
        found = _VERSION.fullmatch(value)
        if not found:
            message = f"{value} is not a package version; apt would not find it. Write it like {versions.GITLAB}"
            raise ValueError(message)
        if tuple(int(part) for part in found.groups()) < versions.GITLAB_OLDEST:
            oldest = ".".join(str(part) for part in versions.GITLAB_OLDEST)
            message = f"{value} is older than {oldest}; its registry fails on object storage. Take {versions.GITLAB}"
            raise ValueError(message)
        return value


class S3(Section):
    """A bucket that exists: Amazon's (region, no endpoint) or a compatible one (endpoint; the region is a label)."""

    bucket: BucketName
    region: KeyText = "us-east-1"
    endpoint: Endpoint | None = None
    access_key: KeyText
    secret_key: SecretStr

    @field_validator("secret_key")
    @classmethod
    def _is_whole(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[^\s'\"\\]+", value.get_secret_value()):
            message = "is empty or has spaces or quotes; no store gives such keys. Copy it again"
            raise ValueError(message)
        return value


class Registry(Section):
    """The container registry: its public port and where it keeps images."""

    port: int = Field(default=5555, ge=1, le=65535)
    storage: Storage = Storage.SPACES
    spaces_region: str | None = None
    s3: S3 | None = None

    @field_validator("port")
    @classmethod
    def _free(cls, value: int) -> int:
        if value in _TAKEN_PORTS:
            message = f"{value} is taken by another service of the server; nginx would not start. Take 5555"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.storage is Storage.S3 and self.s3 is None:
            message = (
                "has storage s3 without the section registry.s3; there would be no bucket. "
                "Give bucket, region, accessKey and secretKey"
            )
            raise ValueError(message)
        if self.storage is not Storage.SPACES and self.spaces_region is not None:
            message = (
                f"has spacesRegion, but storage is {self.storage}; it would be ignored. "
                "Set storage to spaces, or remove it"
            )
            raise ValueError(message)
        if self.storage is not Storage.S3 and self.s3 is not None:
            message = (
                f"has a section s3, but storage is {self.storage}; it would be ignored. Set storage to s3, or remove it"
            )
            raise ValueError(message)
        return self


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
