"""The droplet that GitLab runs on."""

from __future__ import annotations

import base64
import re
from ipaddress import IPv4Network
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from components import versions
from components.settings.section import ENVIRONMENT, PROMOTED, Section, WholeNumber
from components.settings.shown import shown
from components.settings.strings import ImageSlug, SizeSlug, Snapshot

#: GitLab, memory-constrained environments: it does not start reliably with less.
_LEAST_VCPUS: Final = 2
_LEAST_MEMORY_GB: Final = 4

_SIZE: Final = re.compile(r"-(\d+)vcpu-(\d+)gb")
#: A range of fewer bits is too wide for a VPC, one of more bits too narrow (DigitalOcean, VPC limits).
_WIDEST_VPC: Final = 16
_NARROWEST_VPC: Final = 28
#: Ranges that no VPC can have (DigitalOcean, VPC limits).
_KEPT_RANGES: Final = tuple(map(IPv4Network, ("10.229.0.0/16", "10.244.0.0/16", "10.245.0.0/16", "10.246.0.0/24")))
#: RFC 1918; DigitalOcean takes no other private ranges, such as 169.254.0.0/16, for a VPC.
_PRIVATE_RANGES: Final = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
#: Of the length before each field of a public key.
_LENGTH_BYTES: Final = 4
#: The kind, and the key itself.
_LEAST_FIELDS: Final = 2
#: NIST SP 800-131A; what GitLab and recent versions of OpenSSH ask for.
_LEAST_RSA_BITS: Final = 2048
_PUBLIC_KEY: Final = re.compile(
    r"(?P<kind>ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[\w@.-]+) (?P<blob>[A-Za-z0-9+/]+=*)( [^\x00-\x1f\x7f]*)?"
)


def _public_key(value: str) -> str:
    found = _PUBLIC_KEY.fullmatch(value)
    if not found or not is_public_key(value):
        message = (
            "is not an OpenSSH public key, or not the whole of one; nobody could log in with it. "
            "Paste one line of a .pub file"
        )
        raise ValueError(message)
    if (
        found["kind"] == "ssh-rsa"
        and (bits := int.from_bytes(_fields(found["blob"])[-1]).bit_length()) < _LEAST_RSA_BITS
    ):
        message = (
            f"is an RSA key of {bits} bits; somebody could compute its private half, and log in. "
            f"Use one of {_LEAST_RSA_BITS} bits or more, or of another kind: ssh-keygen -t ed25519"
        )
        raise ValueError(message)
    return value


def is_public_key(value: str) -> bool:
    """Whether a text is a whole public key of OpenSSH, of whatever size."""
    found = _PUBLIC_KEY.fullmatch(value)
    fields = _fields(found["blob"]) if found else []
    return found is not None and len(fields) >= _LEAST_FIELDS and fields[0] == found["kind"].encode()


def _fields(blob: str) -> list[bytes]:
    """The fields of a key, the first of which is its kind (RFC 4253, 6.6); none if it is not made of complete ones."""
    try:
        rest = base64.b64decode(blob, validate=True)
    except ValueError:
        return []
    fields = []
    while len(rest) >= _LENGTH_BYTES:
        length = int.from_bytes(rest[:_LENGTH_BYTES])
        fields.append(rest[_LENGTH_BYTES : _LENGTH_BYTES + length])
        if len(fields[-1]) < length:
            return []
        rest = rest[_LENGTH_BYTES + length :]
    return [] if rest else fields


PublicKey = Annotated[str, AfterValidator(_public_key)]


class Server(Section):
    """The droplet that GitLab runs on, its data volume and its private network."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    size: SizeSlug = Field(
        default="s-4vcpu-8gb",
        description=f"The size slug of the droplet; at least {_LEAST_VCPUS} vCPUs and {_LEAST_MEMORY_GB} GB of memory.",
    )
    image: ImageSlug = Field(
        default=versions.SERVER_IMAGE,
        description="The image slug of the droplet: Ubuntu 24.04, Debian 12 or Debian 13.",
        json_schema_extra={**PROMOTED},
    )
    snapshot: Snapshot = None
    volume_size_gb: WholeNumber = Field(
        default=50,
        ge=10,
        le=16384,
        description="The size of the data volume. It can only grow.",
        json_schema_extra={"unit": "GiB"},
    )
    authorized_keys: tuple[PublicKey, ...] = Field(
        default=(),
        description="More SSH public keys for the administrator `slipway`, one line of a `.pub` file each.",
    )
    vpc_cidr: IPv4Network | None = Field(
        default=None,
        description="The range of the private network, which must not overlap another one of the account.",
        examples=["10.20.0.0/24"],
        json_schema_extra={"unset": "a free range"},
    )

    @field_validator("size")
    @classmethod
    def _is_large_enough(cls, value: str) -> str:
        found = _SIZE.search(value)
        if found and (int(found[1]) < _LEAST_VCPUS or int(found[2]) < _LEAST_MEMORY_GB):
            message = (
                f"{shown(value)} has fewer than {_LEAST_VCPUS} vCPUs or less than {_LEAST_MEMORY_GB} GB of memory; "
                "GitLab would not start, or would be killed for lack of memory. "
                "Use s-4vcpu-8gb, or at least s-2vcpu-4gb"
            )
            raise ValueError(message)
        return value

    @field_validator("vpc_cidr", mode="before")
    @classmethod
    def _is_a_private_network(cls, value: object) -> object:
        message = (
            f"{shown(value)} is not the range of a private network; DigitalOcean would reject it. "
            f"Use a range from /{_WIDEST_VPC} to /{_NARROWEST_VPC} within 10.0.0.0/8, 172.16.0.0/12 or "
            "192.168.0.0/16, such as 10.20.0.0/24"
        )
        if value is None:
            return value
        try:
            # A number or a flag would be taken for an address.
            network = IPv4Network(value if isinstance(value, str) else "", strict=False)
        except ValueError as error:
            raise ValueError(message) from error
        private = any(network.subnet_of(range_) for range_ in _PRIVATE_RANGES)
        if not private or not _WIDEST_VPC <= network.prefixlen <= _NARROWEST_VPC:
            raise ValueError(message)
        if any(network.overlaps(kept) for kept in _KEPT_RANGES):
            message = (
                f"{shown(value)} overlaps a range that DigitalOcean keeps for itself; it would be rejected. "
                f"Use one outside {', '.join(map(str, _KEPT_RANGES))}, such as 10.20.0.0/24"
            )
            raise ValueError(message)
        if str(value).split("/")[0] != str(network.network_address):
            message = f"{shown(value)} is an address within a network; DigitalOcean would reject it. Use {network}"
            raise ValueError(message)
        return network

    @property
    def memory_gb(self) -> int:
        """Memory in GB according to the size slug; 8, the recommended minimum, if the slug does not say."""
        found = _SIZE.search(self.size)
        return int(found[2]) if found else 8

    @property
    def cpus(self) -> int:
        """Processors according to the size slug; 4, as many as recommended, if the slug does not say."""
        found = _SIZE.search(self.size)
        return int(found[1]) if found else 4
