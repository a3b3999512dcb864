"""The client that resources use: GitLab's REST API through `python-gitlab`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from gitlab import Gitlab, GitlabError
from requests import RequestException
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from tests.sandbox.plugins.base.framework import Call, PluginError
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.base.trust import trust_store

#: Seconds without an answer after which a request has failed.
_TIMEOUT = 60
_API = "/api/v4"
_PAGE = 100


class ApiError(PluginError):
    """The API's answer was an error; `code` is its HTTP status."""

    def __init__(self, method: str, path: str, code: int, message: str) -> None:
        # GitLab's own message often begins with the code.
        super().__init__(f"{method} {path}: {message if message.startswith(str(code)) else f'{code} {message}'}")
        self.code = code
        self.message = message


class Session:
    """Clients for one configuration, made when they are first needed. Safe to use from many threads."""

    def __init__(self, config: Properties) -> None:
        self._token = config.get("token") or os.environ.get("GITLAB_TOKEN")
        self._url = config.get("baseUrl") or os.environ.get("GITLAB_BASE_URL") or f"https://gitlab.com{_API}/"
        self._retries = config.get("retries", 10)
        # As in the official plugin, a file of one's own takes the place of the system's certificates.
        self._verify = False if config.get("insecure") else config.get("cacertFile") or trust_store()
        if isinstance(self._verify, str) and not Path(self._verify).is_file():
            # The official plugin reads it while it is configured, also for a destroy that sends no request.
            raise PluginError(f"open {self._verify}: no such file or directory")
        self._unchecked = config.get("earlyAuthCheck", True)
        self._lock = threading.Lock()
        self._clients = threading.local()

    def _client(self) -> Gitlab:
        if not self._token:
            raise PluginError("no API token: set gitlab:token, or GITLAB_TOKEN in the environment")
        address = urlsplit(self._url)
        if address.scheme not in ("http", "https") or not address.netloc:
            raise PluginError(f"baseUrl: expected the address of an API, such as https://host{_API}/, got {self._url}")
        if not hasattr(self._clients, "own"):
            self._clients.own = Gitlab(
                self._url.rstrip("/").removesuffix(_API),
                oauth_token=self._token,
                ssl_verify=self._verify,
                timeout=_TIMEOUT,
            )
        client: Gitlab = self._clients.own
        return client

    def _repeating(self) -> Retrying:
        """What GitLab's own client does in the official plugin: it sends any request again that was too many or met an
        error of the server, also one that changes something; but none that got no answer.
        """
        return Retrying(
            retry=retry_if_exception(_worth_repeating),
            stop=stop_after_attempt(self._retries + 1),
            wait=_pause,
            reraise=True,
        )

    def _check_once(self) -> None:
        """The official plugin asks for the user while it is configured; this one before its first request."""
        with self._lock:
            if self._unchecked:
                self._send("get", "/user", None, None)
                self._unchecked = False

    def _send(self, method: str, path: str, body: Any, query: Properties | None) -> Any:
        try:
            response = self._repeating()(
                self._client().http_request,
                method,
                path,
                query_data=query,
                post_data=body,
                obey_rate_limit=False,
                max_retries=0,
            )
        except GitlabError as error:
            message = str(error.error_message)
            if error.response_code is None:
                raise PluginError(f"{method.upper()} {path}: {message}") from error
            raise ApiError(method.upper(), path, error.response_code, message) from error
        except RequestException as error:
            raise PluginError(f"{method.upper()} {path}: no answer: {error}") from error
        return response.json() if response.content else None

    def request(self, method: str, path: str, body: Any = None, query: Properties | None = None) -> Any:
        """One request; the body of the answer, None if there is none.

        Raises:
            ApiError: the answer was an error.
            PluginError: no answer.
        """
        self._check_once()
        return self._send(method, path, body, query)

    def get(self, path: str, query: Properties | None = None) -> Any:
        """GET."""
        return self.request("get", path, query=query)

    def find(self, path: str, query: Properties | None = None) -> Any:
        """GET, None if there is nothing."""
        try:
            return self.request("get", path, query=query)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def post(self, path: str, body: Any = None) -> Any:
        """POST."""
        return self.request("post", path, body)

    def put(self, path: str, body: Any) -> Any:
        """PUT."""
        return self.request("put", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """PATCH."""
        return self.request("patch", path, body)

    def delete(self, path: str, query: Properties | None = None) -> None:
        """DELETE; that there is nothing is no error."""
        try:
            self.request("delete", path, query=query)
        except ApiError as error:
            if error.code != 404:
                raise

    def graphql(self, query: str, variables: Properties) -> Properties:
        """The answer to a GraphQL query: its data, and what is wrong with it, if anything.

        Raises:
            ApiError: the answer was an error.
            PluginError: no answer.
        """
        url = f"{self._url.rstrip('/').removesuffix(_API)}/api/graphql"
        answer: Properties = self.request("post", url, {"query": query, "variables": variables})
        return answer

    def every(self, path: str, query: Properties | None = None) -> Iterator[Any]:
        """All items of a list, page by page."""
        page = 1
        while items := self.get(path, {**(query or {}), "page": page, "per_page": _PAGE}):
            yield from items
            if len(items) < _PAGE:
                return
            page += 1


def _worth_repeating(error: BaseException) -> bool:
    status = error.response_code if isinstance(error, GitlabError) else None
    return status is not None and (status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500)


def _pause(attempt: RetryCallState) -> float:
    """Seconds to wait: a little longer each time. `Retry-After` is not looked at."""
    return 0.8 * attempt.attempt_number


def session_of(call: Call) -> Session:
    """The session of a call."""
    session = call.session
    if not isinstance(session, Session):
        raise PluginError("the provider is not configured")
    return session


def segment(value: object) -> str:
    """A value as one part of a path: `group/project` is one part."""
    return quote(str(value), safe="")


def project_path(project: object, *parts: object) -> str:
    """The path of a project, or of something in it."""
    return "/".join(("/projects", segment(project), *(str(part) for part in parts)))


def split(identifier: str, *names: str) -> list[str]:
    """The parts of an ID that is made of several; the last may have colons in it.

    Raises:
        PluginError: there are fewer.
    """
    parts = identifier.split(":", len(names) - 1)
    if len(parts) != len(names) or not all(parts):
        form = ":".join(f"<{name}>" for name in names)
        raise PluginError(f"the ID must be {form}, got {identifier!r}")
    return parts
