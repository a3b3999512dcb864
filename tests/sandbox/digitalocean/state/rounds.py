"""What the service does again and again by itself."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

log = logging.getLogger(__name__)


class Rounds(ABC):
    """Rounds with a pause between them, from `start` to `stop`; tests may call `round`. One that fails ends nothing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the rounds."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End them; the next start goes on from what the records say."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except Exception:
                log.exception("a round of %s has failed", type(self).__name__)
            await asyncio.sleep(self._seconds)

    @abstractmethod
    async def round(self) -> None:
        """What is done once."""
