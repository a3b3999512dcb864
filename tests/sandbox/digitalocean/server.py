"""Serves the applications with uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Tls:
    """Certificate chain and key, as PEM files."""

    certificate: Path
    key: Path


class _Connection(H11Protocol):
    """A connection that can be closed for good, also if its client never answers the end of TLS."""

    def shutdown(self) -> None:
        """Close the connection, or abort it if it is closing already: asyncio forgets what is closed twice."""
        if self.transport.is_closing():
            self.transport.abort()
        else:
            super().shutdown()


def _config(app: ASGIApp, tls: Tls | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # The log of requests is the store's: uvicorn's would repeat query strings.
        access_log=False,
        log_level="warning",
        http=_Connection,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """A listening Unix socket for its owner only; a left-over of a former process is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(128)
    return listener


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process that embeds it has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, tls: Tls | None = None) -> AsyncIterator[None]:
    """Serve while the body runs. Raises RuntimeError if the application does not start."""
    server = _Server(_config(app, tls))
    # `_serve` is `serve` without the signal handlers.
    task = asyncio.create_task(server._serve([listener]))
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not server.started:
            raise RuntimeError("the application did not start")
        yield
    finally:
        ready.cancel()
        server.should_exit = True
        await asyncio.gather(task, ready, return_exceptions=True)
        await _abort_connections(server)
        listener.close()


async def _abort_connections(server: uvicorn.Server) -> None:
    """Close what the graceful shutdown left: TLS connections whose clients are idle and do not answer its close."""
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    # The sockets are closed in the next turn of the loop.
    await asyncio.sleep(0)
