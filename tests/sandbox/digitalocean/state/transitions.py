"""How long actions take.

By default as long as the backend needs. A test can make a kind of action take a minimum number of seconds, or hold it
until the setting changes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from tests.sandbox.digitalocean.state.store import Store


class Transition(BaseModel):
    """`work`: as long as the work takes; `time`: at least `seconds`; `held`: not before the setting is changed."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["work", "time", "held"] = "work"
    seconds: float = Field(default=0, ge=0, le=3600)


class TransitionTable(RootModel[dict[str, Transition]]):
    """Settings by pattern of the kind of work (`droplet.create`, `volume.*`, `*`); the first that matches counts."""


class Transitions:
    """The settings in force; they survive a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Event()

    @property
    def table(self) -> TransitionTable:
        """All settings."""
        return TransitionTable.model_validate(self._store.setting("transitions", {}))

    @table.setter
    def table(self, table: TransitionTable) -> None:
        self._store.set_setting("transitions", table.model_dump())
        self._changed.set()
        self._changed = asyncio.Event()

    def of(self, work: str) -> Transition:
        """The setting for one kind of work."""
        for pattern, transition in self.table.root.items():
            if fnmatchcase(work, pattern):
                return transition
        return Transition()

    @asynccontextmanager
    async def passage(self, work: str) -> AsyncIterator[None]:
        """Let the body take as long as is set for this kind of work."""
        started = asyncio.get_running_loop().time()
        while self.of(work).mode == "held":
            await self._changed.wait()
        yield
        transition = self.of(work)
        left = transition.seconds - (asyncio.get_running_loop().time() - started)
        if transition.mode == "time" and left > 0:
            await asyncio.sleep(left)
