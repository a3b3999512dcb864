"""DNS domains and their records."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.digitalocean.models.base import Record


class Domain(Record):
    """A zone. `serial` grows with every change of a record in it."""

    kind: ClassVar[str] = "domain"
    name: str
    ttl: int = 1800
    serial: int

    @property
    def key(self) -> str:
        return self.name

    @property
    def urn(self) -> str:
        """The name that projects know the domain by."""
        return f"do:domain:{self.name}"


class DomainRecord(Record):
    """One record. Host names in `data` are stored as they are shown: without the last dot, `@` for the zone itself."""

    kind: ClassVar[str] = "domain_record"
    id: int
    domain: str
    type: str
    name: str
    data: str
    ttl: int
    priority: int | None = None
    port: int | None = None
    weight: int | None = None
    flags: int | None = None
    tag: str | None = None

    @property
    def key(self) -> str:
        return str(self.id)
