"""The base class of all records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel


def now() -> str:
    """The current time as the API writes it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Record(BaseModel):
    """One row of the store. Changing a record changes nothing until `Store.put` is called with it."""

    kind: ClassVar[str]
    #: Fields that must never leave the store, not even to the control interface.
    secret_fields: ClassVar[frozenset[str]] = frozenset()

    @property
    def key(self) -> str:
        """What names the record among those of its kind."""
        raise NotImplementedError
