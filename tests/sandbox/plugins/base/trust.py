"""Which certificates the plugins trust."""

from __future__ import annotations

import os
from pathlib import Path

_TRUST_STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def trust_store() -> str | bool:
    """The system's own certificates, as the official plugins use; Python's HTTP libraries bring theirs."""
    candidates = [os.environ.get("SSL_CERT_FILE"), *_TRUST_STORES]
    return next((path for path in candidates if path and Path(path).is_file()), True)
