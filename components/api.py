"""Requests to DigitalOcean's API that its provider cannot make: those of resource hooks, and of the tools."""

from __future__ import annotations

import json
import os
import pkgutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

#: As the provider reads them.
_TOKENS: Final = ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")
_ENDPOINT: Final = "DIGITALOCEAN_API_URL"
_RESPONSE_SECONDS: Final = 60
#: Items on a page; the API sends no more at once, and 20 if it is not asked for more.
_PAGE: Final = 200


class RefusedError(RuntimeError):
    """The API refuses a request; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.status = status


def request(path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
    """Send a GET, or a POST if there is a `body`, or another `method`, and return the response.

    Raises:
        RefusedError: the API refuses.
        RuntimeError: the API does not respond.
    """
    token = next((os.environ[name] for name in _TOKENS if os.environ.get(name)), "")
    endpoint = (os.environ.get(_ENDPOINT) or "https://api.digitalocean.com").rstrip("/")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    # The endpoint is the user's own.
    asked = urllib.request.Request(endpoint + path, data, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=_RESPONSE_SECONDS, context=trust()) as response:  # noqa: S310
            content = response.read()
            return json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        message = f"DigitalOcean refused {asked.get_method()} {path}: {error.code} {reason}"
        raise RefusedError(message, error.code) from error
    except OSError as error:
        raise RuntimeError(f"DigitalOcean did not respond to {asked.get_method()} {path}: {error}") from error


def every(path: str, root: str, ask: Callable[[str], Any] = request) -> Iterator[Any]:
    """Return all items of a list, page by page; `root` is their key in the response.

    Raises:
        RuntimeError: the API refuses or does not respond.
    """
    separator, page = "&" if "?" in path else "?", 1
    while True:
        answer = ask(f"{path}{separator}per_page={_PAGE}&page={page}")
        yield from answer.get(root) or []
        if not ((answer.get("links") or {}).get("pages") or {}).get("next"):
            return
        page += 1


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
