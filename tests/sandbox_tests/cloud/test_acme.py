"""Let's Encrypt's two environments: only certificates of the production one are trusted by the sandbox's machines."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
import trustme

from tests.sandbox.cloud.acme import CHAIN, AcmeProxy
from tests.sandbox.cloud.authority import Authority


@pytest.mark.asyncio
@pytest.mark.parametrize(("environment", "count"), [("acme-v02", 2), ("acme-staging-v02", 1)])
async def test_only_chains_of_production_lead_to_a_trusted_root(
    environment: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = trustme.CA()
    chain = root.issue_cert("gitlab.example.test").cert_chain_pems[0].bytes()

    async def answer(_: AcmeProxy, __: str, url: str, **___: object) -> httpx.Response:
        content = root.cert_pem.bytes() if url.endswith("/roots/0") else chain
        request = httpx.Request("GET", url)
        return httpx.Response(200, headers={"content-type": CHAIN}, content=content, request=request)

    monkeypatch.setattr(AcmeProxy, "_ask", answer)
    proxy = AcmeProxy(IPv4Address("127.0.0.1"), 1, 2, Authority(tmp_path))
    transport = httpx.ASGITransport(proxy.app)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://{environment}.api.letsencrypt.org") as client:
        found = await client.get("/certZ/1")
    assert found.content.count(b"BEGIN CERTIFICATE") == count
