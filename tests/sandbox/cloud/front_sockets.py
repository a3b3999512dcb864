"""WebSockets through the front of a GitLab: one connection of a browser, one to GitLab, and what passes between them.

The two handshakes are separate: each side compresses as it agrees with its own peer (RFC 7692), and GitLab's decides
whether the browser's succeeds. Messages, in both directions, and the reason for which a side closes are passed on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

_LARGEST = 16 * 2**20
#: What is noted of a side that closed without a code, or was lost: nobody can send these.
_NEVER_SENT: dict[int, int] = {
    CloseCode.NO_STATUS_RCVD: CloseCode.NORMAL_CLOSURE,
    CloseCode.ABNORMAL_CLOSURE: CloseCode.BAD_GATEWAY,
}


class _Connect(connect):
    """Leaves redirects to the browser."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def connected(
    address: str, tls: ssl.SSLContext, headers: Iterable[tuple[str, str]], protocols: list[str]
) -> ClientConnection:
    """A connection to GitLab.

    Raises:
        websockets.exceptions.InvalidStatus: GitLab refuses it; its answer is in the error.
        websockets.exceptions.InvalidHandshake, OSError, TimeoutError: GitLab does not answer.
    """
    return await _Connect(
        address.replace("http", "ws", 1),
        ssl=tls if address.startswith("https:") else None,
        additional_headers=list(headers),
        subprotocols=[Subprotocol(one) for one in protocols],
        user_agent_header=None,
        proxy=None,
        max_size=_LARGEST,
    )


async def relay(browser: WebSocket, gitlab: ClientConnection) -> None:
    """Pass messages on until one side closes, and close the other with the same code and words."""
    tasks = [asyncio.create_task(_to_gitlab(browser, gitlab)), asyncio.create_task(_to_browser(gitlab, browser))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gitlab.close(CloseCode.GOING_AWAY)


async def _to_gitlab(browser: WebSocket, gitlab: ClientConnection) -> None:
    while True:
        message: dict[str, Any] = dict(await browser.receive())
        if message["type"] == "websocket.disconnect":
            await gitlab.close(_sent(message.get("code")), message.get("reason") or "")
            return
        text, content = message.get("text"), message.get("bytes")
        await gitlab.send(text if text is not None else content or b"")


async def _to_browser(gitlab: ClientConnection, browser: WebSocket) -> None:
    try:
        while True:
            message = await gitlab.recv()
            await (browser.send_text(message) if isinstance(message, str) else browser.send_bytes(message))
    except ConnectionClosed:
        await browser.close(_sent(gitlab.close_code), gitlab.close_reason)


def _sent(code: int | None) -> int:
    """The code that the other side is closed with."""
    seen = CloseCode.NO_STATUS_RCVD if code is None else code
    return _NEVER_SENT.get(seen, seen)
