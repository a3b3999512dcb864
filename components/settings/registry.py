"""The container registry and its storage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from pydantic import ConfigDict, Field, SecretStr, field_validator

from components.settings.section import ENVIRONMENT, PROMOTED, Contradiction, Section, WholeNumber
from components.settings.shown import shown
from components.settings.strings import KEY_TEXT, BucketName, Endpoint, KeyText, Region

#: Regions that offer Spaces (DigitalOcean, regional availability).
SPACES_REGIONS: Final = frozenset(
    {"ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1"}
)

#: Ports that GitLab's own services use on the server, beside SSH and the web (omnibus-gitlab, default ports).
_TAKEN_PORTS: Final = frozenset(
    {22, 80, 443, 5000, 5001, 5432, 6379, 8060, 8080, 8082, 8083, 8092, 8150, 8151, 8153, 8154, 8155, 8181, 9090, 9093}
    | {9094, 9100, 9121, 9168, 9187, 9229, 9235, 9236}
)


class Storage(StrEnum):
    """Where the registry keeps images."""

    FILESYSTEM = "filesystem"
    S3 = "s3"
    SPACES = "spaces"


class S3(Section):
    """An existing bucket: Amazon's (region, no endpoint) or a compatible store's (endpoint; the region is a label)."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    bucket: BucketName = Field(description="The name of an existing bucket.")
    region: KeyText = Field(
        default="us-east-1",
        description="The region of the bucket; on a store that is not Amazon's, a label without meaning.",
    )
    endpoint: Endpoint | None = Field(
        default=None,
        description="The endpoint of a store that is compatible with S3: scheme, host and port.",
        examples=["https://minio.example.com:9000"],
        json_schema_extra={"unset": "Amazon S3"},
    )
    access_key: KeyText = Field(
        description="The ID of an access key that may list, read, write and delete objects and upload them in parts."
    )
    secret_key: SecretStr = Field(description="The secret of that access key.")

    @field_validator("secret_key")
    @classmethod
    def _is_complete(cls, value: SecretStr) -> SecretStr:
        KEY_TEXT(value.get_secret_value())
        return value


class Registry(Section):
    """The container registry: its public port and where it keeps images."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    port: WholeNumber = Field(
        default=5555,
        ge=1,
        le=65535,
        description="The public port of the registry, which no other service on the server may use.",
    )
    storage: Storage = Field(
        default=Storage.SPACES,
        description="Where images are kept: `spaces` creates a Space, `s3` uses an existing bucket, `filesystem` uses "
        "the data volume.",
    )
    keep_untagged: str = Field(
        default="24h",
        description="How long the registry keeps images without a tag, and layers that no image refers to: a number "
        "with `h`, `m` or `s`. Then the garbage collector deletes the image, and after as long again its layers. A "
        "push that takes longer loses its first layers.",
        examples=["72h"],
        json_schema_extra={**PROMOTED},
    )
    spaces_region: Region | None = Field(
        default=None,
        description="The region of the Space. Set it if `region` offers no Spaces.",
        examples=["nyc3"],
        json_schema_extra={"unset": "the value of `region`"},
    )
    s3: S3 | None = Field(default=None, description="The bucket for storage `s3`.")

    @field_validator("port")
    @classmethod
    def _is_free(cls, value: int) -> int:
        if value in _TAKEN_PORTS:
            message = f"{shown(value)} is used by another service on the server; nginx would not start. Use 5555"
            raise ValueError(message)
        return value

    @field_validator("keep_untagged")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,5}[hms]", value, re.ASCII):
            message = f"{shown(value)} is not a duration; the registry would not start. Use one such as 24h"
            raise ValueError(message)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """Keys of one storage beside another storage, and a missing bucket."""
        if self.storage is Storage.S3 and self.s3 is None:
            yield Contradiction(
                ("storage", "s3"),
                "has storage s3 without the section registry.s3; there would be no bucket. "
                "Set bucket, region, accessKey and secretKey",
            )
        if self.storage is not Storage.SPACES and self.spaces_region is not None:
            yield Contradiction(
                ("storage",),
                f"has spacesRegion, but storage is {self.storage}; it would be ignored. "
                "Set storage to spaces, or remove it",
            )
        if self.storage is not Storage.S3 and self.s3 is not None:
            yield Contradiction(
                ("storage",),
                f"has a section s3, but storage is {self.storage}; it would be ignored. "
                "Set storage to s3, or remove it",
            )
