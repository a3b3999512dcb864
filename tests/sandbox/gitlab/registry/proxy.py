"""The Docker distribution behind this registry: a child process on a Unix socket, and requests passed on to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

#: Headers that belong to one connection and not to the request.
_OWN = {"connection", "keep-alive", "expect", "proxy-connection", "transfer-encoding", "upgrade"}


class Distribution:
    """Sends requests to the distribution."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._http = httpx.AsyncClient(transport=transport, base_url="http://distribution", timeout=None)  # noqa: S113

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def fetch(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """A short answer, as a whole."""
        return await self._http.request(method, path, headers=headers)

    async def forward(
        self, request: Request, path: str | None = None, body: bytes | None = None, as_name: tuple[str, str] = ("", "")
    ) -> Response:
        """Pass a request on; `as_name` is the part of a `Location` to replace, and what by."""
        target = path or request.url.path
        url = httpx.URL(target, query=request.scope["query_string"] or None)
        headers = [(name, value) for name, value in request.headers.items() if name not in _OWN]
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        content = body if body is not None else request.stream() if has_body else None
        sent = self._http.build_request(request.method, url, headers=headers, content=content)
        answer = await self._http.send(sent, stream=True)
        found = {name: value for name, value in answer.headers.items() if name not in _OWN}
        if as_name[0] and "location" in found:
            found["location"] = found["location"].replace(*as_name, 1)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers=found, background=BackgroundTask(answer.aclose)
        )


def listen_on(configuration: Path, socket: Path) -> None:
    """Change the distribution's configuration so that it listens on a socket."""
    document = json.loads(configuration.read_text())
    document["http"] |= {"addr": str(socket), "net": "unix"}
    configuration.write_text(json.dumps(document))
    socket.unlink(missing_ok=True)


async def wait_until_ready(child: asyncio.subprocess.Process, socket: Path) -> None:
    """Wait until the distribution takes requests.

    Raises:
        ChildProcessError: it ended at once.
    """
    while not await asyncio.to_thread(socket.exists):
        if child.returncode is not None:
            raise ChildProcessError(f"the distribution ended with status {child.returncode}")
        await asyncio.sleep(0.05)
