"""The proxy in front of a region's S3 server, under its public name. It forwards everything unchanged.

Except for lifecycle rules, which the server does not support. It still checks such a request: if it answers "not
implemented", signature and bucket were right. The rules are stored and returned; no object expires.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from xml.sax.saxutils import escape

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from tests.sandbox.gitlab.web.faults import Fault, Faults, Gate
from tests.sandbox.layout import SPACES_SUFFIX
from tests.sandbox.machines.spaces import GENERIC_PORTS, GENERIC_REGION, SERVER_PORTS, Spaces

#: Headers that belong to one connection and not to the request.
_OWN = {b"connection", b"keep-alive", b"expect", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/\d+/([^/]+)/")
_NOT_IMPLEMENTED = 501
#: Of an account, in all regions (DigitalOcean, Spaces limits).
MOST_BUCKETS = 100
#: The service of its faults.
SERVICE = "spaces"


#: What Spaces says with a status, as S3 does.
_ERRORS = {
    429: ("TooManyRequests", "Please reduce your request rate."),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


def create_spaces_front(spaces: Spaces, region: str, faults: Faults | None = None) -> ASGIApp:
    """The application that answers as `<region>.digitaloceanspaces.com` and `*.<region>.digitaloceanspaces.com`.

    `faults` of the service "spaces" hit here. Their path is `/BUCKET/KEY?QUERY`, whichever style a request has.
    """
    front = _Front(spaces, region)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await front.close()

    app = Starlette(routes=[Route("/{path:path}", front.answer, methods=_METHODS)], lifespan=lifespan)
    return Gate(app, faults or Faults(), _injected, SERVICE, front.target)


def _injected(fault: Fault, scope: Scope) -> Response:
    status = fault.status or 500
    code, message = _ERRORS.get(status, (HTTPStatus(status).phrase.title().replace(" ", ""), fault.message))
    # The answer to a HEAD has no body.
    return Response(status_code=status) if scope["method"] == "HEAD" else _error(status, code, message, "")


class _Front:
    def __init__(self, spaces: Spaces, region: str) -> None:
        self._spaces, self._region = spaces, region
        self._domain = f"{region}.{SPACES_SUFFIX}"
        # A connection for each request: on a busy machine the server found one request in about a thousand malformed
        # when it came over a connection that had been used before.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(300, connect=10), limits=limits, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def answer(self, request: Request) -> Response:
        bucket, key = self._address(request)
        if "lifecycle" in request.query_params and bucket and not key:
            return await self._lifecycle(request, bucket)
        if request.method == "PUT" and bucket and not key and not request.url.query:
            known = await self._spaces.buckets()
            if bucket not in known and len(known) >= MOST_BUCKETS:
                words = "You have attempted to create more buckets than allowed"
                return _error(400, "TooManyBuckets", words, bucket)
        response = await self._pass_on(request)
        if response.is_success and bucket and not key and request.method in ("PUT", "DELETE"):
            await self._bucket_changed(request, bucket)
        answer = StreamingResponse(
            response.aiter_raw(), response.status_code, background=BackgroundTask(response.aclose)
        )
        answer.raw_headers = [(n.lower(), v) for n, v in response.headers.raw if n.lower() not in _OWN]
        return answer

    def target(self, scope: Scope) -> str:
        """Bucket, key and query, for faults."""
        query = scope["query_string"].decode("latin-1")
        return "/".join(("", *filter(None, self._address(Request(scope))))) + (f"?{query}" if query else "")

    def _address(self, request: Request) -> tuple[str, str]:
        """Bucket and key of a request, in virtual-host and in path style."""
        host = request.headers.get("host", "").partition(":")[0]
        path = request.url.path.lstrip("/")
        if host.endswith(f".{self._domain}"):
            return host.removesuffix(f".{self._domain}"), path
        bucket, _, key = path.partition("/")
        return bucket, key

    async def _pass_on(self, request: Request, body: bytes | None = None) -> httpx.Response:
        path = request.scope["raw_path"] + (b"?" + query if (query := request.scope["query_string"]) else b"")
        url = httpx.URL(scheme="http", host="127.0.0.1", port=self._port(request), raw_path=path)
        headers = [(name, value) for name, value in request.headers.raw if name not in _OWN]
        has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        content = body if body is not None else request.stream() if has_body else None
        return await self._client.send(
            httpx.Request(request.method, url, headers=headers, content=content), stream=True
        )

    def _port(self, request: Request) -> int:
        """The server that takes the region which a request is signed for."""
        ports = GENERIC_PORTS if _signature(request)[1] == GENERIC_REGION else SERVER_PORTS
        return ports[self._region]

    async def _bucket_changed(self, request: Request, bucket: str) -> None:
        if request.method == "DELETE" and not request.url.query:
            self._spaces.lifecycle_file(self._region, bucket).unlink(missing_ok=True)
        elif not request.url.query or "policy" in request.query_params:
            await self._spaces.bucket_changed(bucket)

    async def _lifecycle(self, request: Request, bucket: str) -> Response:
        body = await request.body()
        judged = await self._pass_on(request, body)
        content = await judged.aread()
        await judged.aclose()
        if judged.status_code != _NOT_IMPLEMENTED:
            return Response(content, judged.status_code, media_type=judged.headers.get("content-type"))
        if not self._spaces.may_do_everything(_signature(request)[0]):
            return _error(403, "AccessDenied", "Access Denied", bucket)
        if request.method == "PUT" and not _has_rules(body):
            return _error(400, "MalformedXML", "The XML you provided was not well-formed or did not validate", bucket)
        return _keep(request.method, self._spaces.lifecycle_file(self._region, bucket), body)


def _keep(method: str, file: Path, body: bytes) -> Response:
    """Store, forget or give back lifecycle rules."""
    if method == "PUT":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        return Response(status_code=200)
    if method == "DELETE":
        file.unlink(missing_ok=True)
        return Response(status_code=204)
    if file.exists():
        return Response(file.read_bytes(), media_type="application/xml")
    return _error(404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist", file.stem)


def _signature(request: Request) -> tuple[str, str]:
    """Who signed a request and for which region, in its header or its query."""
    if found := _CREDENTIAL.search(request.headers.get("authorization", "")):
        return found[1], found[2]
    parts = request.query_params.get("X-Amz-Credential", "").split("/")
    return parts[0], parts[2] if len(parts) > 2 else ""


def _has_rules(body: bytes) -> bool:
    try:
        root = ET.fromstring(body)  # noqa: S314 - from a client that the server has let in
    except ET.ParseError:
        return False
    return root.tag.endswith("LifecycleConfiguration") and any(child.tag.endswith("Rule") for child in root)


def _error(status: int, code: str, message: str, bucket: str) -> Response:
    what = {"Code": code, "Message": message, "BucketName": bucket}
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in what.items())
    return Response(
        f'<?xml version="1.0" encoding="UTF-8"?><Error>{inner}</Error>', status, media_type="application/xml"
    )
