"""Watches for machines that stop by themselves: a reboot or a power-off from inside.

The engine's event stream blocks, so a thread reads it and passes events to the event loop. If the engine goes away, the
stream is opened again as soon as it is back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import docker
import docker.errors
import requests.exceptions

from tests.sandbox.machines.engine import Engine

_RETRY_S = 0.3


class Watcher:
    """Calls back, in the event loop that it was started in, for every container of the sandbox that ends.

    `ended(machine_id, exit_code, killed)`: `killed` says that somebody outside ended it (also the engine itself, when
    it stops). `reconnected()`: events may have been missed.
    """

    def __init__(
        self,
        engine: Engine,
        ended: Callable[[int, int, bool], None],
        reconnected: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._ended = ended
        self._reconnected = reconnected
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._stream: Any = None
        self._killed: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="machine-events", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._stream is not None:
            self._stream.close()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        first = True
        while not self._stopping.is_set():
            try:
                self._stream = self._engine.client.events(
                    decode=True, filters={"type": "container", "event": ["start", "kill", "die"]}
                )
                if not first:
                    self._tell(self._reconnected)
                first = False
                for event in self._stream:
                    self._handle(event)
            except (docker.errors.DockerException, requests.exceptions.RequestException):
                first = False
            self._stopping.wait(_RETRY_S)

    def _handle(self, event: dict[str, Any]) -> None:
        attributes = event["Actor"]["Attributes"]
        name = str(attributes.get("name", ""))
        machine_id = self._engine.machine_id(name)
        if machine_id is None:
            return
        match event["Action"]:
            case "start":
                self._killed.discard(name)
            case "kill":
                self._killed.add(name)
            case "die":
                code = int(attributes.get("exitCode", -1))
                self._tell(self._ended, machine_id, code, name in self._killed)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        if not self._stopping.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)
