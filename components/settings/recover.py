"""What a stack without a state takes over from the one that had it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field

from components.settings.section import ENVIRONMENT, Section
from components.settings.strings import matching

#: For `recover.registryBucket` and the like: the previous ones are gone, and new ones are created.
NEW: Final = "new"

_Bucket = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z0-9][a-z0-9-]{0,53}-[0-9a-f]{8}|new",
            "is not the name of a bucket that a stack has created; it could not be taken over. "
            "Use the name that make strays lists, or new to create another one",
        )
    ),
]
_Digits = Annotated[
    str,
    AfterValidator(
        matching(
            r"[0-9a-f]{8}|new",
            "is not the eight digits that the names of a stack's buckets end with; they could not be taken over. "
            "Use those of the names that make strays lists, or new to create others",
        )
    ),
]
_VolumeId = Annotated[
    str,
    AfterValidator(
        matching(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            "is not the ID of a volume; nothing could be taken over. Use the ID that make strays lists",
        )
    ),
]
_ClusterId = Annotated[
    str,
    AfterValidator(
        matching(
            r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|new",
            "is not the ID of a database cluster; nothing could be taken over. Use the ID that make strays lists, or "
            "new to create another one",
        )
    ),
]
_Address = Annotated[
    str,
    AfterValidator(
        matching(
            r"(25[0-5]|(2[0-4]|1\d|[1-9])?\d)(\.(25[0-5]|(2[0-4]|1\d|[1-9])?\d)){3}",
            "is not an IPv4 address; nothing could be taken over. Use one such as 203.0.113.7",
        )
    ),
]
_Number = Annotated[
    str,
    AfterValidator(
        matching(
            r"[1-9]\d{0,18}",
            "is not the ID of a project; GitLab would not find it. Use the number that GitLab shows below its name",
        )
    ),
]
_GroupNumber = Annotated[
    str,
    AfterValidator(
        matching(
            r"[1-9]\d{0,18}",
            "is not the ID of a group; GitLab would not find it. Use the number that GitLab shows below its name",
        )
    ),
]


class Recover(Section):
    """What exists and has to be taken over, because the stack's state was lost. `make recover` fills it in."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    volume: _VolumeId | None = Field(default=None, description="The ID of the data volume.")
    address: _Address | None = Field(
        default=None,
        description="The reserved IP address.",
        examples=["203.0.113.7"],
        json_schema_extra={"unset": "a new one"},
    )
    domain: bool = Field(default=False, description="Whether the DNS zone of `domain` is the stack's own.")
    registry_bucket: _Bucket | None = Field(
        default=None,
        description="The name of the Space with the registry's images, or `new` if it is gone.",
        examples=["slipway-production-registry-0a1b2c3d"],
    )
    object_buckets: _Digits | None = Field(
        default=None,
        description="The eight digits that the names of the Spaces with GitLab's files end with, or `new` if these are "
        "gone.",
        examples=["0a1b2c3d"],
    )
    backup_bucket: _Bucket | None = Field(
        default=None,
        description="The name of the Space with the backups, whose key has to be in the state.",
        examples=["slipway-production-backup-0a1b2c3d"],
        json_schema_extra={"unset": "a new one"},
    )
    postgresql: _ClusterId | None = Field(
        default=None,
        description="The ID of the managed PostgreSQL, or `new` if it is gone and a backup is restored afterwards.",
        examples=["9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"],
    )
    valkey: _ClusterId | None = Field(
        default=None,
        description="The ID of the managed Valkey, or `new` if it is gone.",
        examples=["9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"],
    )
    groups: dict[str, _GroupNumber] = Field(
        default={}, description="The IDs of the stack's own groups in GitLab, by path.", examples=[{"team": "7"}]
    )
    projects: dict[str, _Number] = Field(
        default={}, description="The IDs of the stack's own projects in GitLab, by path.", examples=[{"hello": "1"}]
    )

    @property
    def has_network(self) -> bool:
        """Whether the network of the stack's name is its own: what is named proves whose the name is.

        A cluster that is taken over is in that network, which can neither be deleted nor be another one.
        """
        return any(one not in {None, NEW} for one in (self.volume, self.postgresql, self.valkey))
