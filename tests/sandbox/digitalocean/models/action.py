"""Actions: everything that takes time."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from tests.sandbox.digitalocean.models.base import Record


class Action(Record):
    """Work that was accepted, is under way, or is over.

    It is stored before it starts, so that a restarted emulator takes it up again. `work` names the handler in `work.py`
    and `params` is what that needs; both are the emulator's own and are not shown. An action that is not `public` never
    shows in the API (the real service has no action for making a volume, say, but here it takes a moment, too).
    """

    kind: ClassVar[str] = "action"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"params"})
    id: int
    type: str
    resource_type: str
    #: Kind and key of the record that the action is about.
    owner_kind: str
    owner_key: str
    region: str | None = None
    #: The droplet that is busy for as long as the action runs.
    droplet_id: int | None = None
    public: bool = True
    status: str = "in-progress"
    started_at: str
    completed_at: str | None = None
    work: str
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return str(self.id)

    @property
    def pending(self) -> bool:
        """Whether the work is still to be done."""
        return self.status == "in-progress"
