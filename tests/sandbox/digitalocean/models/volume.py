"""Block storage volumes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tests.sandbox.digitalocean.models.base import Record


class Volume(Record):
    """A block device, attached to at most one droplet. Size in GiB."""

    kind: ClassVar[str] = "volume"
    id: str
    name: str
    region: str
    size_gigabytes: int
    description: str = ""
    filesystem_type: str = ""
    filesystem_label: str = ""
    tags: list[str] = Field(default_factory=list)
    droplet_id: int | None = None
    created_at: str

    @property
    def key(self) -> str:
        return self.id

    @property
    def urn(self) -> str:
        """The name that projects know the volume by."""
        return f"do:volume:{self.id}"
