"""Requests to targets and webhooks, as somebody outside sends them: by name, and with TLS verified."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from cryptography import x509

from tests.sandbox.digitalocean.models import UptimeCheck
from tests.sandbox.digitalocean.state.watching import Observation

#: Seconds that a target may take to answer.
PATIENCE = 10
_FIRST_ERROR = 400


@dataclass
class Outside:
    """The world outside. `trust` is a file with the roots that it trusts; None for those of the system."""

    trust: str | None = None
    _context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self._context = ssl.create_default_context(cafile=self.trust)

    async def probe(self, check: UptimeCheck) -> Observation:
        """Request a target once. Whatever keeps it from answering, it is down."""
        started = time.monotonic()
        try:
            if check.type == "ping":
                return Observation(await _pings(check.target))
            async with self._client() as client, client.stream("GET", check.target) as answer:
                elapsed = (time.monotonic() - started) * 1000
                return Observation(answer.status_code < _FIRST_ERROR, elapsed, _days(answer))
        except (httpx.HTTPError, OSError, ValueError):
            return Observation(is_up=False)

    async def post(self, url: str, channel: str, text: str) -> None:
        """Call a webhook of Slack. Raises OSError if it does not accept the message."""
        try:
            async with self._client() as client:
                (await client.post(url, json={"channel": channel, "text": text})).raise_for_status()
        except httpx.HTTPError as error:
            raise OSError(type(error).__name__) from None

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self._context, trust_env=False, timeout=PATIENCE, follow_redirects=True)


def _days(answer: httpx.Response) -> float | None:
    """How many days the certificate of the other end is valid; None without TLS."""
    connection = answer.extensions["network_stream"].get_extra_info("ssl_object")
    if connection is None:
        return None
    expires = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True)).not_valid_after_utc
    return (expires - datetime.now(UTC)).total_seconds() / 86_400


async def _pings(host: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        "ping", "-c", "1", "-W", str(PATIENCE), "--", host, stdout=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0
