"""The emulated DigitalOcean API without machines, on loopback, for the tests of the `digitalocean` plugin."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.sandbox.digitalocean.app import create_app
from tests.sandbox.digitalocean.control import create_control_app
from tests.sandbox.digitalocean.server import listen, serving
from tests.sandbox.digitalocean.state.cloud import Config
from tests.sandbox.digitalocean.state.memory_backend import MemoryBackend
from tests.sandbox.digitalocean.state.store import Store

TOKEN = "dop_v1_" + "5" * 64


class EmulatedCloud:
    """The API and its switchboard. Owns a thread with their event loop."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.stop: Callable[[], object] = lambda: None
        self.backend = MemoryBackend()
        self.endpoint = ""
        self._control = ""

    def get(self, path: str) -> Any:
        """What the API says, asked past the plugin."""
        answer = httpx.get(self.endpoint + path, headers={"authorization": f"Bearer {TOKEN}"})
        return answer.raise_for_status().json()

    def send(self, method: str, path: str, body: Any = None) -> None:
        """Change something past the plugin."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        httpx.request(method, self.endpoint + path, headers=headers, json=body).raise_for_status()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Ask or tell the switchboard."""
        answer = httpx.request(method, self._control + path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def exists(self) -> dict[str, list[Any]]:
        """Everything that exists, by kind; kinds of which there is nothing are left out."""
        return {kind: found for kind, found in self.control("GET", "/resources").items() if found}

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request so far."""
        return [(entry["method"], entry["path"]) for entry in self.control("GET", "/requests")]

    async def serve(self) -> None:
        """Serve until `stop` is called."""
        store = Store(None)
        app = create_app(store, self.backend, Config(token=TOKEN))
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self.stop = lambda: loop.call_soon_threadsafe(ended.set)
        api, control = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
        async with serving(app, api), serving(create_control_app(app), control):
            self.endpoint = f"http://127.0.0.1:{api.getsockname()[1]}"
            self._control = f"http://127.0.0.1:{control.getsockname()[1]}"
            self.started.set()
            await ended.wait()
        store.close()


@contextmanager
def emulated_cloud() -> Iterator[EmulatedCloud]:
    """An empty account for as long as the context."""
    cloud = EmulatedCloud()
    thread = threading.Thread(target=lambda: asyncio.run(cloud.serve()))
    thread.start()
    assert cloud.started.wait(20)
    try:
        yield cloud
    finally:
        cloud.stop()
        thread.join(20)
