"""Snapshots of droplets: images of the account's own."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tests.sandbox.digitalocean.models.base import Record
from tests.sandbox.digitalocean.models.catalog import Image


class Snapshot(Record):
    """The disk of a droplet, as it was. `status` is `new` until it can be used, and `deleted` afterwards.

    Droplets that were made from it keep naming it, so the record of one that was deleted stays.
    """

    kind: ClassVar[str] = "snapshot"
    id: int
    name: str
    droplet_id: int
    distribution: str
    region: str
    min_disk_size: int
    size_gigabytes: float
    created_at: str
    status: str = "new"
    tags: list[str] = Field(default_factory=list)

    @property
    def key(self) -> str:
        return str(self.id)

    def as_image(self) -> Image:
        """What droplets are made from."""
        return Image(
            id=self.id,
            slug="",
            name=self.name,
            distribution=self.distribution,
            created_at=self.created_at,
            min_disk_size=self.min_disk_size,
            size_gigabytes=self.size_gigabytes,
        )
