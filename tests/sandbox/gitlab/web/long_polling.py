"""Requests of runners for jobs, held until there may be one: Workhorse's part, with `api_ci_long_polling_duration`.

Does what `RegisterHandler` of GitLab 19 does (`workhorse/internal/builds/register.go`): only a request whose
`last_update` is still the newest is held. When something changes, or after the duration, it is answered with 204, and
the runner asks again; what has changed before goes on to Rails at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .ci import job_queue
from .core import db
from .core.config import Config

PATH = "/api/v4/jobs/request"
LARGEST_BODY = 32 * 1024
#: Seconds between two looks at the database, for all runners together. Workhorse hears of news from Redis.
LOOK_S = 0.2
_NO_CONTENT, _TOO_LARGE = 204, 413
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it, such as `50s` or `1m30s`.

    Raises:
        ValueError: it is none. The message is that of Workhorse, which does not start then.
    """
    parts = _PART.findall(text)
    if text != "0" and (not parts or "".join(map("".join, parts)) != text):
        raise ValueError(f'invalid value "{text}" for flag -apiCiLongPollingDuration: parse error')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


class LongPolling:
    """Holds requests for jobs; everything else passes. When `ending` is set, none is held any more."""

    def __init__(self, app: ASGIApp, config: Config, ending: threading.Event) -> None:
        self._app, self._ending = app, ending
        self._longest = duration(config.long_polling)
        self._watch = Watch(config, ending)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if not self._longest or scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", PATH):
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Gitlab-Ci-Builds-Polling"] = "yes"
            await send(message)

        body = await _read(receive)
        if body is None:
            await PlainTextResponse("Request Entity Too Large\n", _TOO_LARGE)(scope, receive, marked)
        elif await self._is_to_be_answered(scope, body, receive):
            await Response(status_code=_NO_CONTENT)(scope, receive, marked)
        else:
            await self._app(scope, _again(body, receive), marked)

    async def _is_to_be_answered(self, scope: Scope, body: bytes, receive: Receive) -> bool:
        """Whether there was nothing new, after holding the request as long as that was so. False is for Rails."""
        token, last_update = _asked(scope, body)
        if not token or not last_update or self._ending.is_set():
            return False
        try:
            state = await self._watch.look()
        except db.errors():
            return False
        if job_queue.value(state, token) != last_update:
            return False
        async with self._watch.changed(state) as changed:
            # A client that has gone is told nothing, but is not held either.
            gone = asyncio.ensure_future(receive())
            either: list[asyncio.Future[Any]] = [changed, gone]
            await asyncio.wait(either, timeout=self._longest, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
        return True


class Watch:
    """Looks for news while somebody waits for them."""

    def __init__(self, config: Config, ending: threading.Event) -> None:
        self._config, self._ending = config, ending
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._looking: asyncio.Task[None] | None = None

    async def look(self) -> str:
        """What the values of runners are made of now."""
        return await run_in_threadpool(self._look)

    def _look(self) -> str:
        with db.connect(self._config.database) as connection:
            return job_queue.state(connection)

    @asynccontextmanager
    async def changed(self, state: str) -> AsyncIterator[asyncio.Future[None]]:
        """Something that is done when the state is another one."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = state
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_news())
        try:
            yield future
        finally:
            del self._waiting[future]
            future.cancel()

    async def _look_for_news(self) -> None:
        while self._waiting:
            try:
                now = await self.look()
            except db.errors():
                now = ""  # Workhorse, too, lets go of everything when it loses Redis.
            for future, before in self._waiting.items():
                if (now != before or self._ending.is_set()) and not future.done():
                    future.set_result(None)
            await asyncio.sleep(LOOK_S)


def _asked(scope: Scope, body: bytes) -> tuple[str, str]:
    """Token and `last_update` of a request; nothing if it has none."""
    if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return "", ""
    try:
        said = json.loads(body)
    except ValueError:
        return "", ""
    token, last_update = (said.get(name) for name in ("token", "last_update")) if isinstance(said, dict) else ("", "")
    return (token, last_update) if isinstance(token, str) and isinstance(last_update, str) else ("", "")


async def _read(receive: Receive) -> bytes | None:
    """The body; None if it is longer than Workhorse reads."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            return None
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read once more."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return messages.pop() if messages else await receive()

    return give
