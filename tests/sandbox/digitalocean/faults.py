"""Faults that a test injects into the API.

Each fault has a pattern for the path (`*` matches anything, including slashes), a method or `*`, and a number of
requests to affect. The first fault that matches a request applies: it may wait, then answer with a status or drop the
connection.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from tests.sandbox.digitalocean.state.store import Store


class Fault(BaseModel):
    """One fault. With neither `status` nor `drop`, the request is only delayed. `count` None means every time."""

    model_config = ConfigDict(extra="forbid")
    id: int = 0
    method: str = "*"
    path: str
    count: int | None = Field(default=1, ge=1)
    delay: float = Field(default=0, ge=0, le=600)
    status: int | None = Field(default=None, ge=400, le=599)
    message: str = "injected fault"
    drop: bool = False
    #: Whether the request is carried out before the connection is cut: the client cannot know.
    after: bool = False


class Faults:
    """The faults in force; they survive a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[Fault]:
        """What is waiting to hit."""
        return [Fault.model_validate(item) for item in self._store.setting("faults", [])]

    def add(self, fault: Fault) -> Fault:
        """Put a fault at the end of the list."""
        fault.id = self._store.next_number("fault", 1)
        self._keep([*self.all(), fault])
        return fault

    def clear(self, number: int | None = None) -> None:
        """Take away one fault or all."""
        self._keep([fault for fault in self.all() if number is not None and fault.id != number])

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that hits this request, used up by one."""
        faults = self.all()
        for fault in faults:
            if fnmatchcase(method, fault.method.upper()) and fnmatchcase(path, fault.path):
                if fault.count is not None:
                    fault.count -= 1
                self._keep([other for other in faults if other.count != 0])
                return fault
        return None

    def _keep(self, faults: list[Fault]) -> None:
        self._store.set_setting("faults", [fault.model_dump() for fault in faults])
