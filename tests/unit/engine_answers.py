"""Answers of the recording engine that are late, or are refusals."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import grpc  # type: ignore[import-untyped]

#: How long a registration that is held back waits for the others. Nothing waits this long unless a test is to fail.
_PATIENCE_SECONDS = 10


@dataclass
class Hold:
    """Leaves the registration of one resource unanswered until the program has registered all that is `awaited`."""

    urn: str
    awaited: set[str]
    #: The resources that were registered before the held one was answered.
    registered: set[str] = field(default_factory=set)
    _released: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, urn: str) -> None:
        """Take note of a registration, and return when it may be answered."""
        with self._changed:
            if not self._released:
                self.registered.add(urn)
                self._changed.notify_all()
            if urn == self.urn:
                self._changed.wait_for(lambda: self.awaited <= self.registered, _PATIENCE_SECONDS)
                self._released = True


class RefusedCall(grpc.RpcError):  # type: ignore[misc]
    """What the engine answers when a provider reports an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self._reason = reason

    def code(self) -> grpc.StatusCode:
        """The status on the wire."""
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        """The provider's message."""
        return self._reason
