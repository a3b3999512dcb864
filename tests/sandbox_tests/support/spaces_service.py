"""Spaces on loopback: a real S3 server of one region, with the front that has its faults."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.sandbox import layout
from tests.sandbox.digitalocean.state.backend import Grant
from tests.sandbox.gitlab.web.faults import Faults
from tests.sandbox.layout import SPACES_SUFFIX, Layout
from tests.sandbox.machines import spaces, spaces_front
from tests.sandbox.machines.spaces import Spaces, spaces_command, spaces_environment
from tests.sandbox_tests.support import gitlab_instance
from tests.sandbox_tests.support.ports import free_port

REGION = "nyc3"


@dataclass(frozen=True)
class SpacesService:
    """A running one. It stands as the HTTP proxy of its clients, so that nobody has to resolve names of buckets."""

    spaces: Spaces
    proxy: str
    faults: Faults

    @property
    def endpoint(self) -> str:
        """For the setting `spacesEndpoint` of the provider."""
        return f"http://{{{{.Region}}}}.{SPACES_SUFFIX}"

    def put_key(self, access: str, secret: str, grants: list[Grant]) -> None:
        """Make a key, or change it."""
        asyncio.run(self.spaces.put_key(access, secret, grants))


@contextmanager
def spaces_service(folder: Path) -> Iterator[SpacesService]:
    """Serve the region until the end of the block, with its state below `folder`."""
    faults = Faults()
    with s3_servers(folder) as account, ExitStack() as stack:
        listener, url = gitlab_instance.listen()
        front = spaces_front.create_spaces_front(account, REGION, faults)
        stack.enter_context(gitlab_instance.serving(AbsoluteForm(front), listener))
        yield SpacesService(account, url, faults)


@contextmanager
def s3_servers(folder: Path) -> Iterator[Spaces]:
    """The servers behind the front of the region, until the end of the block, with their state below `folder`."""
    own = _Layout(folder)
    (own.cache / "bin").mkdir(parents=True)
    (own.cache / "bin" / "versitygw").symlink_to(layout.current().cache / "bin" / "versitygw")
    own.run.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for ports in (spaces.SERVER_PORTS, spaces.GENERIC_PORTS):
            patch.setitem(ports, REGION, free_port())
        for generic in (False, True):
            process = stack.enter_context(
                subprocess.Popen(
                    spaces_command(own, REGION, generic=generic),
                    env={**os.environ, **spaces_environment(own)},
                    stdout=subprocess.DEVNULL,
                )
            )
            stack.callback(process.terminate)
            _await((spaces.GENERIC_PORTS if generic else spaces.SERVER_PORTS)[REGION])
        yield Spaces(own)


class AbsoluteForm:
    """Takes what is sent to a proxy: the request has the whole address in the place of the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave only the path of the address."""
        if scope["type"] == "http":
            raw = urlsplit(scope["raw_path"].decode("ascii")).path or "/"
            scope = {**scope, "raw_path": raw.encode("ascii"), "path": unquote(raw)}
        await self._app(scope, receive, send)


class _Layout(Layout):
    @property
    def run(self) -> Path:
        """Sockets of this sandbox: below its folder."""
        return self.root / "run"


def _await(port: int) -> None:
    for attempt in Retrying(
        stop=stop_after_delay(10), wait=wait_fixed(0.05), retry=retry_if_exception_type(ConnectionError)
    ):
        with attempt, socket.create_connection(("127.0.0.1", port)):
            pass
