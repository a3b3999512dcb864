"""The registry as a service: chooses its mode, starts the distribution, and answers in front of it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import proxy
from .collector import Collector
from .config import Config, ConfigurationError
from .gitlab_api import GitLabApi
from .images import Images
from .legacy import create_legacy_app
from .locks import choose_mode, lock
from .metadata import open_database
from .proxy import Distribution
from .storage import Storage, open_storage
from .tokens import Tokens

VERSION = "4.41.0-gitlab"


class Front:
    """Answers at `/` that it runs, and adds what GitLab's registry says about itself to every other answer."""

    def __init__(self, app: ASGIApp, *, database: bool) -> None:
        self._app = app
        self._headers = [
            (b"docker-distribution-api-version", b"registry/2.0"),
            (b"gitlab-container-registry-version", VERSION.encode()),
            (b"gitlab-container-registry-features", b"tag_delete"),
            (b"gitlab-container-registry-database-enabled", b"true" if database else b"false"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] == "http" and scope["path"] == "/":
            await Response(headers={"cache-control": "no-cache"})(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in self._headers}
                others = [(name, value) for name, value in message["headers"] if name not in names]
                message = {**message, "headers": [*others, *self._headers]}
            await send(message)

        await self._app(scope, receive, sending)


def create_app(config: Config, distribution: Distribution, storage: Storage, *, database: bool) -> ASGIApp:
    """The application, in one of its two modes.

    Raises:
        ConfigurationError: the database cannot be used.
    """
    tokens = Tokens(config.token)
    if not database:
        legacy = create_legacy_app(distribution, storage, tokens, read_only=config.read_only)
        return Front(legacy, database=False)
    if config.notifies:
        raise ConfigurationError("notifications with the metadata database are not supported by this stand-in")
    file = open_database(config)
    images = Images(file, distribution, tokens, read_only=config.read_only)
    app = Starlette(
        routes=[*GitLabApi(file, tokens).routes(), *images.routes()],
        lifespan=_collecting(Collector(file, storage, config.gc)),
    )
    app.router.redirect_slashes = False
    return Front(app, database=True)


def _collecting(collector: Collector) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        collector.start()
        yield
        await asyncio.to_thread(collector.stop)

    return lifespan


def without_auth(configuration: Path) -> None:
    """With the database, tokens are checked in front of the distribution, and nothing about content is cached."""
    document = json.loads(configuration.read_text())
    document.pop("auth")
    document["storage"].pop("cache", None)
    configuration.write_text(json.dumps(document))


async def serve(config: Config, configuration: Path, program: str) -> int:
    """Serve until a signal, or until the distribution ends; answer the exit status.

    Raises:
        ConfigurationError: the registry does not start with this configuration.
        ChildProcessError: the distribution does not.
    """
    storage = open_storage(config)
    database = choose_mode(storage, config.database)
    if database:
        open_database(config)
        without_auth(configuration)
    lock(storage, database=database)
    # Not at once: the default action, which uvicorn repeats at its end, would leave the distribution running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    socket = configuration.with_name("distribution.socket")
    proxy.listen_on(configuration, socket)
    distribution = Distribution(httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_connections=None)))
    child = await asyncio.create_subprocess_exec(program, "serve", str(configuration))
    try:
        await proxy.wait_until_ready(child, socket)
        app = create_app(config, distribution, storage, database=database)
        settings = uvicorn.Config(
            app, host=config.host, port=config.port, access_log=False, server_header=False, ws="none"
        )
        server = uvicorn.Server(settings)
        ended = asyncio.create_task(child.wait())
        ended.add_done_callback(lambda _: setattr(server, "should_exit", True))
        await server.serve()
        return child.returncode or 0
    finally:
        await distribution.close()
        if child.returncode is None:
            child.terminate()
            await child.wait()
