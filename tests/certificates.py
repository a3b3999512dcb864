"""Certificates for tests, as a private authority issues them."""

from __future__ import annotations

from functools import cache
from typing import Any

import trustme


@cache
def authority() -> trustme.CA:
    """The authority that issues all certificates unless a test names another one."""
    return trustme.CA()


def provided(*names: str, issuer: trustme.CA | None = None, **dates: Any) -> dict[str, Any]:
    """The settings of a provided certificate, by default for the host of the unit tests' settings."""
    leaf = (issuer or authority()).issue_cert(*(names or ("gitlab.example.test",)), **dates)
    chain = "".join(pem.bytes().decode() for pem in leaf.cert_chain_pems)
    return {"source": "provided", "chain": chain, "privateKey": leaf.private_key_pem.bytes().decode()}


@cache
def root() -> str:
    """The root certificate of that authority."""
    return authority().cert_pem.bytes().decode()
