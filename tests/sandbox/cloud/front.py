"""A GitLab of the sandbox under another address: a proxy for a browser that knows nothing of the sandbox's names.

GitLab has one address, its `external_url`: it redirects there, puts it into pages, and gives cookies to HTTPS alone. So
requests go on under GitLab's own name, and in what comes back, its address is replaced by the one that the browser
uses. What is downloaded, logs of jobs included, passes unchanged, and so does what WebSockets carry.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator
from urllib.parse import quote, urlsplit

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidHandshake, InvalidStatus

from tests.sandbox.cloud.front_sockets import connected, relay

#: About one connection (RFC 9110, 7.6.1), or about the way that a request has taken.
_NOT_PASSED = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
_NOT_SENT = _NOT_PASSED | {"host", "accept-encoding", "forwarded", "x-forwarded-for", "x-forwarded-host", "expect"}
#: A browser would apply the first to every port of the address, and keep it for years. The server adds the others.
_NOT_RETURNED = _NOT_PASSED | {"strict-transport-security", "date", "server"}
#: What is read by browsers and clients of the API, and has GitLab's address in it.
_WITH_ADDRESSES = ("text/html", "application/json")
_LARGEST = 16 * 2**20
#: Names by which a browser reaches its own machine. Others come from pages that want to use it for that.
_HERE = re.compile(r"(?:localhost|[\w-]+\.localhost|127\.0\.0\.1|\[::1\])(?::\d+)?")
#: Of one handshake, with an answer that only its own key fits.
_HANDSHAKE = "sec-websocket-"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
#: Seconds for a connection, and between two parts of an answer: a push is answered when its pipeline is made.
_TIMES = {"connect": 10.0, "read": 300.0, "write": 300.0, "pool": 10.0}


class Front:
    """Passes requests on to one GitLab. `transport` has the connections to it, and verifies them as `tls` does."""

    def __init__(self, gitlab: str, transport: httpx.AsyncBaseTransport, tls: ssl.SSLContext) -> None:
        self._gitlab, self._transport, self._tls = gitlab, transport, tls
        self._found = _Addresses(gitlab)

    @property
    def app(self) -> Starlette:
        """The application to serve."""
        routes = [Route("/{path:path}", self._pass, methods=_METHODS), WebSocketRoute("/{path:path}", self._connect)]
        return Starlette(routes=routes)

    async def _pass(self, request: Request) -> Response:
        host = request.headers.get("host", "")
        if not _HERE.fullmatch(host):
            return _misdirected(host)
        own = f"http://{host}"
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        sent = httpx.Request(
            request.method,
            self._target(request),
            headers=list(self._sent(request, own)),
            content=request.stream() if has_body else None,
            extensions={"timeout": _TIMES},
        )
        try:
            answer = await self._transport.handle_async_request(sent)
            answer.request = sent
            return await self._returned(answer, own)
        except httpx.HTTPError as error:
            return self._unanswered(error)

    async def _connect(self, browser: WebSocket) -> None:
        host = browser.headers.get("host", "")
        if not _HERE.fullmatch(host):
            await browser.send_denial_response(_misdirected(host))
            return
        own = f"http://{host}"
        headers = [(name, value) for name, value in self._sent(browser, own) if name not in {"host", "accept-encoding"}]
        try:
            gitlab = await connected(self._target(browser), self._tls, headers, browser.scope["subprotocols"])
        except InvalidStatus as error:
            answer = error.response
            refusal = Response(bytes(answer.body), answer.status_code)
            headers = [(name, value) for name, value in answer.headers.raw_items() if name.lower() != "content-length"]
            refusal.raw_headers += _raw(self._headers(headers, own))
            await browser.send_denial_response(refusal)
        except (InvalidHandshake, OSError) as error:
            await browser.send_denial_response(self._unanswered(error))
        else:
            await browser.accept(gitlab.subprotocol)
            await relay(browser, gitlab)

    def _target(self, asked: HTTPConnection) -> str:
        query = asked.scope["query_string"].decode()
        return f"{self._gitlab}{asked.scope['raw_path'].decode()}{'?' if query else ''}{query}"

    def _unanswered(self, error: Exception) -> Response:
        reason = str(error) or type(error).__name__
        return PlainTextResponse(f"{self._gitlab} does not answer: {reason}. make status says more.\n", 502)

    def _sent(self, request: HTTPConnection, own: str) -> Iterator[tuple[str, str]]:
        yield "host", urlsplit(self._gitlab).netloc
        yield "accept-encoding", "identity"
        for name, value in request.headers.items():
            if name not in _NOT_SENT and not name.startswith(_HANDSHAKE):
                # Where the request comes from, for a server that compares it with its own address.
                yield name, value.replace(own, self._gitlab) if name in {"origin", "referer"} else value

    async def _returned(self, answer: httpx.Response, own: str) -> Response:
        headers = list(self._headers(answer.headers.multi_items(), own))
        response: Response
        if self._is_page(answer):
            body = self._found.replaced(await answer.aread(), own)
            response = Response(body, answer.status_code)
            headers = [(name, value) for name, value in headers if name != "content-length"]
            headers.append(("content-length", str(len(body))))
            await answer.aclose()
        else:
            end = BackgroundTask(answer.aclose)
            response = StreamingResponse(answer.aiter_raw(), answer.status_code, background=end)
        response.raw_headers = _raw(headers)
        return response

    def _is_page(self, answer: httpx.Response) -> bool:
        kind = answer.headers.get("content-type", "")
        # The answer to HEAD has the length of a body that does not follow.
        short = int(answer.headers.get("content-length", 0)) <= _LARGEST and answer.request.method != "HEAD"
        return short and kind.startswith(_WITH_ADDRESSES) and "content-encoding" not in answer.headers

    def _headers(self, found: Iterable[tuple[str, str]], own: str) -> Iterator[tuple[str, str]]:
        for name, value in found:
            if name.lower() == "set-cookie":
                yield name, _cookie(value)
            elif name.lower() not in _NOT_RETURNED:
                yield name, self._found.replaced(value.encode("latin-1"), own).decode("latin-1")


def _misdirected(host: str) -> Response:
    return PlainTextResponse(f"{host} is not an address of this machine's own\n", 421)


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


class _Addresses:
    """The address of a GitLab in a text, in its forms, but not that of its registry, which has a port."""

    def __init__(self, gitlab: str) -> None:
        forms = (gitlab, gitlab.replace("/", "\\/"), quote(gitlab, safe=""))
        self._patterns = [re.compile(rb"%s(?![\w.:-]|%%3A)" % re.escape(form.encode())) for form in forms]

    def replaced(self, text: bytes, own: str) -> bytes:
        """The text with another address in each place."""
        forms = (own, own.replace("/", "\\/"), quote(own, safe=""))
        for pattern, form in zip(self._patterns, forms, strict=True):
            text = pattern.sub(form.encode().replace(b"\\", rb"\\"), text)
        return text


def _cookie(value: str) -> str:
    """A cookie for a page that comes without TLS, from whatever name."""
    first, *attributes = (part.strip() for part in value.split(";"))
    kept = [part for part in attributes if not re.match(r"(?:secure$|domain=)", part, re.IGNORECASE)]
    # Browsers take this one for HTTPS alone.
    kept = [re.sub(r"(?i)^samesite=none$", "SameSite=Lax", part) for part in kept]
    return "; ".join([first, *kept])
