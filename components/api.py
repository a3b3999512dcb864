"""Requests to DigitalOcean's API that its provider cannot make: those of resource hooks, and of the tools."""

from __future__ import annotations

import itertools
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from http import HTTPStatus
from typing import Any, Final

from components.trust import trust

#: As the provider reads them.
_TOKENS: Final = ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN")
_ENDPOINT: Final = "DIGITALOCEAN_API_URL"
_DEFAULT_ENDPOINT: Final = "https://api.digitalocean.com"
#: What `doctl auth init` asks about a token: the control panel, not the API.
_PANEL: Final = "https://cloud.digitalocean.com/v1/oauth/token/info"
#: It is asked for a warning, and may be out of reach where the API is not.
_PANEL_SECONDS: Final = 5
_RESPONSE_SECONDS: Final = 60
#: As often, and with the same pauses, as the provider. The limit of requests is counted by the minute.
_REPETITIONS: Final = 4
_SHORTEST_PAUSE_SECONDS: Final = 1
_LONGEST_PAUSE_SECONDS: Final = 60
#: What the API answers while something still uses a thing, or creates it.
_BUSY: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})
_DELETION_SECONDS: Final = 300
_POLL_SECONDS: Final = 2
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
    endpoint = _endpoint()
    headers = {"Authorization": f"Bearer {_token()}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    # The endpoint is the user's own.
    asked = urllib.request.Request(endpoint + path, data, headers, method=method)  # noqa: S310
    try:
        content, _ = send(asked, trust())
        return json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        message = f"DigitalOcean refused {asked.get_method()} {path}: {error.code} {reason}"
        raise RefusedError(message, error.code) from error
    except OSError as error:
        raise RuntimeError(f"DigitalOcean did not respond to {asked.get_method()} {path}: {error}") from error


def delete(path: str) -> None:
    """Delete a thing, once the API lets it go, and wait until it is gone. That there is none is no error.

    Raises:
        RefusedError: the API refuses.
        RuntimeError: it is still there after five minutes, or the API does not respond.
    """
    deadline = time.monotonic() + _DELETION_SECONDS
    while True:
        try:
            request(path, method="DELETE")
            request(path)
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return
            # A network that has members is forbidden to be deleted.
            is_busy = error.status in _BUSY or (error.status == HTTPStatus.FORBIDDEN and path.startswith("/v2/vpcs/"))
            if not is_busy or time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} is still there after {_DELETION_SECONDS} s")
        time.sleep(_POLL_SECONDS)


def token_scopes() -> frozenset[str] | None:
    """Return the scopes of the token, as DigitalOcean's control panel names them; None if it does not say.

    It is not part of the documented API, so any answer but a list of names is no answer. A token for another endpoint
    is not sent there.
    """
    answer = _token_info()
    scopes = answer.get("scopes") if answer else None
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        return None
    return frozenset(scopes)


def token_seconds() -> float | None:
    """Return in how many seconds the token expires; None if it never does, or DigitalOcean does not say."""
    left = (_token_info() or {}).get("expires_in_seconds")
    return float(left) if isinstance(left, int | float) and not isinstance(left, bool) else None


def _token_info() -> Mapping[str, Any] | None:
    """What the control panel says of the token; None without a token, or without an answer that can be read."""
    if _endpoint() != _DEFAULT_ENDPOINT or not _token():
        return None
    asked = urllib.request.Request(_PANEL, headers={"Authorization": f"Bearer {_token()}"})
    try:
        with urllib.request.urlopen(asked, timeout=_PANEL_SECONDS, context=trust()) as response:  # noqa: S310
            answer = json.load(response)
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _token() -> str:
    return next((os.environ[name] for name in _TOKENS if os.environ.get(name)), "")


def _endpoint() -> str:
    return (os.environ.get(_ENDPOINT) or _DEFAULT_ENDPOINT).rstrip("/")


def send(asked: urllib.request.Request, context: ssl.SSLContext) -> tuple[bytes, Message]:
    """Send a request, again after trouble that passes, and return the body and the headers of the response.

    The providers do so as well. A request that was refused because there were too many is sent again, whatever it is;
    after an error of the server, or once without a response, only one that reads.

    Raises:
        urllib.error.HTTPError: the response is an error.
        OSError: there is no response.
    """
    for attempt in itertools.count():
        try:
            with urllib.request.urlopen(asked, timeout=_RESPONSE_SECONDS, context=context) as response:  # noqa: S310
                return response.read(), response.headers
        except OSError as error:
            status = error.code if isinstance(error, urllib.error.HTTPError) else None
            if attempt >= _repetitions(asked.get_method(), status):
                raise
            headers = error.headers if isinstance(error, urllib.error.HTTPError) else None
            time.sleep(_pause(attempt, headers))
    raise AssertionError


def _repetitions(method: str, status: int | None) -> int:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _REPETITIONS
    if method != "GET":
        return 0
    # Without a network, each of many requests would take its time.
    return 1 if status is None else _REPETITIONS if status >= HTTPStatus.INTERNAL_SERVER_ERROR else 0


def _pause(attempt: int, headers: Message | None) -> float:
    announced = (headers and headers.get("Retry-After")) or ""
    return min(int(announced) if announced.isdigit() else _SHORTEST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)


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
