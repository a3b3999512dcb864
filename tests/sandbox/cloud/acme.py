"""The ACME directory under Let's Encrypt's names, in front of a real ACME server (pebble).

Adds to each certificate chain the ACME server's root, cross-signed by the sandbox's authority. Everybody who trusts the
sandbox then trusts the certificate, even after a restart of the server, which makes a new root each time. Not so under
the name of the staging environment: nothing trusts the root of that one.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import httpx
from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sandbox.cloud.authority import Authority

STAGING = "acme-staging-v02.api.letsencrypt.org"
CHAIN = "application/pem-certificate-chain"
#: Headers about one connection, which end here (RFC 9110 section 7.6.1), and those that the new response gets anew.
_NOT_PASSED = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "date"}


class AcmeProxy:
    """Passes requests on to the ACME server, names kept, so that the URLs in its answers lead here again."""

    def __init__(self, server: IPv4Address, port: int, management_port: int, authority: Authority) -> None:
        self._server, self._management = f"https://{server}:{port}", f"https://{server}:{management_port}"
        self._authority = authority
        self._client: httpx.AsyncClient | None = None

    @property
    def app(self) -> Starlette:
        """The application to serve."""
        methods = ["GET", "HEAD", "POST"]
        return Starlette(routes=[Route("/{path:path}", self._pass, methods=methods)], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        # The server's certificate names the hosts that it stands for, not the address that it is reached at.
        context = ssl.create_default_context(cafile=str(self._authority.certificate_file))
        context.check_hostname = False
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as client:
            self._client = client
            yield
            self._client = None

    async def check(self) -> None:
        """Raise `httpx.HTTPError` unless the ACME server answers."""
        (await self._ask("GET", f"{self._server}/dir")).raise_for_status()

    async def _ask(self, method: str, url: str, **more: object) -> httpx.Response:
        if self._client is None:
            raise httpx.ConnectError("not started yet")
        return await self._client.request(method, url, **more)  # type: ignore[arg-type]

    async def _pass(self, request: Request) -> Response:
        path = "/dir" if request.url.path == "/directory" else request.url.path
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED}
        headers["accept-encoding"] = "identity"
        url = f"{self._server}{path}" + (f"?{request.url.query}" if request.url.query else "")
        try:
            answer = await self._ask(request.method, url, headers=headers, content=await request.body())
            content = answer.content
            if answer.headers.get("content-type", "").startswith(CHAIN) and request.url.hostname != STAGING:
                content = content.rstrip() + b"\n" + await self._cross_signed_root()
        except httpx.HTTPError as error:
            return Response(f"the ACME server is not responding: {error}", status_code=502)
        response = Response(content, status_code=answer.status_code)
        for name, value in answer.headers.multi_items():
            if name not in _NOT_PASSED:
                response.headers.append(name, value)
        return response

    async def _cross_signed_root(self) -> bytes:
        answer = (await self._ask("GET", f"{self._management}/roots/0")).raise_for_status()
        return self._authority.cross_sign(x509.load_pem_x509_certificate(answer.content))
