"""Samples something repeatedly while a test does something else."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: Seconds between two samples. An interval, not a wait for something.
_INTERVAL = 0.1


@dataclass(kw_only=True)
class Sampler(abc.ABC):
    """Takes samples in a thread of its own for as long as a block runs."""

    _done: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take samples until the block ends."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    @abc.abstractmethod
    def sample(self) -> None:
        """Take one sample."""

    def _run(self) -> None:
        while not self._done.wait(_INTERVAL):
            self.sample()
