"""`/-/cable`: the WebSocket that pages of GitLab hold open for news. Rails calls it Action Cable.

Who may connect, what is said first and how a connection is refused are Rails' and GitLab's own. There is one channel,
GraphQL's; of its subscriptions, the one for the status of a pipeline. GitLab hears of news from Redis; this looks at
the database.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from . import graphql_api, sessions
from .core import auth, db
from .core.auth import Principal
from .core.config import Config
from .core.errors import ApiError

PATH = "/-/cable"
#: Rails answers with the first of a client's protocols that it knows: the second is there to be told apart.
PROTOCOLS = ("actioncable-v1-json", "actioncable-unsupported")
CHANNEL = "GraphqlChannel"
#: Seconds between two signs of life (`ActionCable::Server::Connections::BEAT_INTERVAL`).
BEAT = 3.0
#: Seconds between two looks at the database.
LOOK = 0.5
_SCHEMES = {"ws": "http", "wss": "https"}
_READING = frozenset({"api", "read_api"})


def _not_found() -> Response:
    return PlainTextResponse("Page not found", 404)


async def no_cable(_: Request) -> Response:
    """A request that is no WebSocket."""
    return _not_found()


async def cable(socket: WebSocket) -> None:
    """One connection, from its handshake to its end."""
    if not _is_of_own_page(socket):
        await socket.send_denial_response(_not_found())
        return
    offered = socket.scope["subprotocols"]
    await socket.accept(next((one for one in offered if one in PROTOCOLS), None))
    config: Config = socket.app.state.config
    try:
        who = await run_in_threadpool(_visitor, config, socket)
    except ApiError:
        await socket.send_json({"type": "disconnect", "reason": "unauthorized", "reconnect": False})
        await socket.close()
        return
    await _Connection(socket, config, who).serve()


def _is_of_own_page(socket: WebSocket) -> bool:
    """Browsers say which page opens a connection; no other than GitLab's own may, and nobody who does not say it."""
    scheme = socket.headers.get("x-forwarded-proto", _SCHEMES[socket.url.scheme])
    return socket.headers.get("origin") == f"{scheme}://{socket.headers.get('host')}"


def _visitor(config: Config, asked: HTTPConnection) -> Principal | None:
    """Who connects: by a token, which has to be a good one, or by the session. Nobody is welcome, too."""
    with db.connect(config.database) as connection:
        return auth.identify(connection, config, asked) or sessions.read(connection, config, asked).who


def _object_of(text: str) -> dict[str, Any]:
    """What a client has said; nothing if that is no object."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class _Connection:
    """What is said over a connection that was accepted, in both directions."""

    def __init__(self, socket: WebSocket, config: Config, who: Principal | None) -> None:
        self._socket, self._config, self._who = socket, config, who
        self._subscriptions: dict[str, asyncio.Task[None] | None] = {}

    async def serve(self) -> None:
        """Welcome the client, and do what it says until it goes."""
        await self._socket.send_json({"type": "welcome"})
        beat = asyncio.create_task(self._beat())
        try:
            while True:
                await self._carry_out(_object_of(await self._socket.receive_text()))
        # The second is a message in binary form.
        except (WebSocketDisconnect, KeyError):
            pass
        finally:
            tasks = [beat, *filter(None, self._subscriptions.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await self._socket.send_json({"type": "ping", "message": int(time.time())})

    async def _carry_out(self, said: dict[str, Any]) -> None:
        """One command. What Rails does not understand it writes into its log, and says nothing."""
        identifier = str(said.get("identifier"))
        if said.get("command") == "unsubscribe" and (task := self._subscriptions.pop(identifier, None)):
            task.cancel()
        if said.get("command") == "subscribe" and identifier not in self._subscriptions:
            await self._subscribe(identifier, _object_of(identifier))

    async def _subscribe(self, identifier: str, options: dict[str, Any]) -> None:
        if options.get("channel") != CHANNEL:
            return
        if self._who is not None and not self._who.scopes & _READING:
            await self._socket.send_json({"identifier": identifier, "type": "reject_subscription"})
            return
        # Before the client learns that it will hear of changes.
        now, _ = await self._ask(options, is_news=True)
        first, more = await self._ask(options)
        await self._transmit(identifier, first, more)
        await self._socket.send_json({"identifier": identifier, "type": "confirm_subscription"})
        watch = self._watch(identifier, options, now) if more and "errors" not in first else None
        self._subscriptions[identifier] = asyncio.create_task(watch) if watch else None

    async def _watch(self, identifier: str, options: dict[str, Any], seen: dict[str, Any]) -> None:
        """Transmit what a subscription is about whenever it has changed."""
        while True:
            await asyncio.sleep(LOOK)
            found, _ = await self._ask(options, is_news=True)
            if found != seen:
                await self._transmit(identifier, found, True)
            seen = found

    async def _ask(self, options: dict[str, Any], *, is_news: bool = False) -> tuple[dict[str, Any], bool]:
        return await run_in_threadpool(graphql_api.over_cable, self._config, self._who, options, is_news=is_news)

    async def _transmit(self, identifier: str, result: dict[str, Any], more: bool) -> None:
        await self._socket.send_json({"identifier": identifier, "message": {"result": result, "more": more}})


routes: list[BaseRoute] = [WebSocketRoute(PATH, cable), Route(PATH, no_cable)]
