"""The account itself, SSH keys, tags and Spaces keys."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tests.sandbox.digitalocean.models.base import Record


class Account(BaseModel):
    """What the service says about the account, and what its token may do.

    A limit of None is the service's default. `scopes` None is a token with full access; otherwise each one allows
    one kind of request, such as `droplet:create`. `tokens` are further tokens, each with its scopes.
    `verified_emails` are addresses of further members of the team, who have confirmed them.
    """

    model_config = ConfigDict(extra="forbid")
    droplet_limit: int | None = None
    volume_limit: int | None = None
    email_verified: bool = True
    verified_emails: list[str] = Field(default_factory=list)
    status: Literal["active", "warning", "locked"] = "active"
    status_message: str = ""
    scopes: list[str] | None = None
    tokens: dict[str, list[str]] = Field(default_factory=dict, repr=False)


class SshKey(Record):
    """A public key that new droplets can be given."""

    kind: ClassVar[str] = "ssh_key"
    id: int
    name: str
    public_key: str
    fingerprint: str

    @property
    def key(self) -> str:
        return str(self.id)


class Tag(Record):
    """A label. Tagged things carry the tag's name; the tag only remembers what was tagged last, by type."""

    kind: ClassVar[str] = "tag"
    name: str
    last_tagged: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        # Names are found whatever their capitals, but keep the capitals of their first use.
        return self.name.lower()


class Grant(BaseModel):
    """What a Spaces key may do in one bucket; an empty bucket goes with `fullaccess` only."""

    bucket: str = ""
    permission: str


class SpacesKey(Record):
    """An object storage key. The secret is kept because the backend needs it when grants change."""

    kind: ClassVar[str] = "spaces_key"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"secret_key"})
    access_key: str
    secret_key: str = Field(repr=False)
    name: str
    grants: list[Grant]
    created_at: str

    @property
    def key(self) -> str:
        return self.access_key
