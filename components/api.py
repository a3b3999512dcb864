"""Requests to DigitalOcean's API that its provider cannot make. Only resource hooks make them."""

from __future__ import annotations

import json
import os
import pkgutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

#: As the provider reads them.
_TOKENS: Final = ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")
_ENDPOINT: Final = "DIGITALOCEAN_API_URL"
_RESPONSE_SECONDS: Final = 60


def request(path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Send a GET, or a POST if there is a `body`, and return the response.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    token = next((os.environ[name] for name in _TOKENS if os.environ.get(name)), "")
    endpoint = (os.environ.get(_ENDPOINT) or "https://api.digitalocean.com").rstrip("/")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(endpoint + path, data, headers)  # noqa: S310 - the endpoint is the user's own
    try:
        with urllib.request.urlopen(asked, timeout=_RESPONSE_SECONDS, context=trust()) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        raise RuntimeError(f"DigitalOcean refused {asked.get_method()} {path}: {error.code} {reason}") from error
    except OSError as error:
        raise RuntimeError(f"DigitalOcean did not respond to {asked.get_method()} {path}: {error}") from error


def trust() -> ssl.SSLContext:
    """Return what the system's Python trusts, or, if that is nothing, what the engine's protocol library brings along.

    Python as python.org packages it for macOS trusts no authority until somebody runs its "Install Certificates".
    """
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    has_folder = bool(paths.capath and any(Path(paths.capath).iterdir()))
    if not (paths.cafile or has_folder or context.get_ca_certs()):
        authorities = pkgutil.get_data("grpc", "_cython/_credentials/roots.pem") or b""
        context.load_verify_locations(cadata=authorities.decode())
    return context
