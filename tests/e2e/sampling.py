"""Looks at something again and again while a test does something else."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: Seconds between two looks. A sampling interval, not a wait for something.
_INTERVAL = 0.1


@dataclass(kw_only=True)
class Watch(abc.ABC):
    """Something that is looked at for as long as a block lasts."""

    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look until the block ends."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    @abc.abstractmethod
    def look(self) -> None:
        """One look."""

    def _run(self) -> None:
        while not self._done.wait(_INTERVAL):
            self.look()
