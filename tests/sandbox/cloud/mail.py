"""A mail service as SendGrid's: it takes mail from whoever signs in, over TLS, and keeps it in a folder.

Nothing is sent on. The folder is a Maildir, whose messages have headers that say how they came.
"""

from __future__ import annotations

import asyncio
import mailbox
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.sandbox.layout import MAIL_HOST

#: The name is that of every account; the password is an API key.
USER = "apikey"
PASSWORD = "SG.example-of-the-sandbox"  # noqa: S105 - of nothing outside it
#: With STARTTLS, and with TLS from the start.
STARTTLS_PORTS = (587, 2525)
TLS_PORT = 465


class _Folder(Mailbox):
    """Keeps messages, each with the name that its sender signed in with."""

    def prepare_message(self, session: Session, envelope: Envelope) -> Message:
        message = super().prepare_message(session, envelope)
        message["X-Authenticated"] = _name(session.auth_data)
        return message


def _name(given: object) -> str:
    return given.login.decode(errors="replace") if isinstance(given, LoginPassword) else ""


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object) -> AuthResult:
    del server, session, envelope, mechanism
    known = LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=given == known, handled=False, auth_data=given)


@asynccontextmanager
async def serving(
    folder: Path, certificate: Path, key: Path, address: str, *, starttls: tuple[int, ...], tls: tuple[int, ...]
) -> AsyncIterator[list[int]]:
    """Take mail until the end of the block. Yields the ports, of which one may be given as 0 for any."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop, handler = asyncio.get_running_loop(), _Folder(folder)

    def session(*, encrypted: bool) -> SMTP:
        with warnings.catch_warnings():
            # The library does not see the encryption that it is served with, and warns of logins without any.
            warnings.simplefilter("ignore", UserWarning)
            return SMTP(
                handler,
                hostname=MAIL_HOST,
                ident="SG ESMTP service ready",
                tls_context=None if encrypted else context,
                require_starttls=not encrypted,
                auth_required=True,
                auth_require_tls=not encrypted,
                authenticator=_authenticate,
                loop=loop,
            )

    servers = [
        *[await loop.create_server(lambda: session(encrypted=False), address, port) for port in starttls],
        *[await loop.create_server(lambda: session(encrypted=True), address, port, ssl=context) for port in tls],
    ]
    try:
        yield [server.sockets[0].getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()


def received(folder: Path) -> list[dict[str, str]]:
    """The headers of all messages so far, and their text; oldest first."""
    if not folder.exists():
        return []
    messages = sorted(mailbox.Maildir(folder), key=lambda one: one.get_date())
    return [{**dict(one.items()), "body": str(one.get_payload())} for one in messages]


def route(folder: Path) -> Route:
    """`GET /mail` of the control interface."""

    async def show(request: Request) -> Response:
        del request
        return JSONResponse(await asyncio.to_thread(received, folder))

    return Route("/mail", show, methods=["GET"])
