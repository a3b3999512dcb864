"""The clients that resources use: the DigitalOcean API (`pydo`) and Spaces (`boto3`)."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.sandbox.plugins.base.framework import Call, PluginError
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.base.trust import trust_store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PAGE = 200


class ApiError(PluginError):
    """The API's answer was an error; `code` is its HTTP status."""

    def __init__(self, method: str, path: str, code: int, message: str) -> None:
        super().__init__(f"{method} {path}: {code} {message}")
        self.code = code
        self.message = message


class Session:
    """Clients for one configuration, made when they are first needed. Safe to use from many threads."""

    def __init__(self, config: Properties) -> None:
        self._token = config.get("token") or os.environ.get("DIGITALOCEAN_TOKEN")
        self._token = self._token or os.environ.get("DIGITALOCEAN_ACCESS_TOKEN")
        endpoint = config.get("apiEndpoint") or os.environ.get("DIGITALOCEAN_API_URL")
        self._endpoint = (endpoint or "https://api.digitalocean.com").rstrip("/")
        self._retries = config.get("httpRetryMax", 4)
        self._waits = config.get("httpRetryWaitMin", 1), config.get("httpRetryWaitMax", 30)
        self._access_id = config.get("spacesAccessId") or os.environ.get("SPACES_ACCESS_KEY_ID")
        self._secret_key = config.get("spacesSecretKey") or os.environ.get("SPACES_SECRET_ACCESS_KEY")
        template = config.get("spacesEndpoint") or os.environ.get("SPACES_ENDPOINT_URL")
        self._spaces_template = template or "https://{{.Region}}.digitaloceanspaces.com"
        self._spaces: dict[str, S3Client] = {}
        self._lock = threading.Lock()

    @cached_property
    def _client(self) -> Any:
        import pydo  # noqa: PLC0415 - slow to import, and not needed at preview

        if not self._token:
            raise PluginError("no API token: set digitalocean:token, or DIGITALOCEAN_TOKEN in the environment")
        return pydo.Client(
            self._token,
            endpoint=self._endpoint,
            connection_verify=trust_store(),
            # See `_send`.
            retry_total=0,
        )

    def _send(self, method: str, path: str, body: Any) -> Any:
        """Send a request, and again after any trouble, as go-retryablehttp does in the official plugin.

        A request whose answer was lost is sent again as well, whatever its method: it may be carried out twice.
        """
        for attempt in itertools.count():
            response, failure = self._attempt(method, path, body)
            if attempt == self._retries or not _worth_repeating(response, failure):
                if failure is not None:
                    raise PluginError(f"{method} {path}: {failure.message}") from failure
                return response
            time.sleep(_pause(response, attempt, *self._waits))
        raise AssertionError("it counts without end")

    def _attempt(self, method: str, path: str, body: Any) -> tuple[Any, Any]:
        """The answer, or else the error without one."""
        with self._lock:
            # One thread at a time: these modules import each other, and another thread would find them half made.
            from azure.core.exceptions import AzureError  # noqa: PLC0415 - comes with pydo
            from azure.core.rest import HttpRequest  # noqa: PLC0415

            client = self._client
        # pydo's own methods are not used: many give the body of a 404 as if it were the answer.
        options = {"enforce_https": False} if self._endpoint.startswith("http://") else {}
        try:
            return client.send_request(HttpRequest(method, self._endpoint + path, json=body), **options), None
        except AzureError as error:
            return None, error

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request; the body of the answer, None if there is none.

        Raises:
            ApiError: the answer was an error.
            PluginError: no answer.
        """
        response = self._send(method, path, body)
        if response.status_code >= 400:
            try:
                message = str(response.json().get("message", ""))
            except ValueError:
                message = response.reason
            raise ApiError(method, path, response.status_code, message)
        return response.json() if response.content else None

    def get(self, path: str) -> Any:
        """GET."""
        return self.request("GET", path)

    def find(self, path: str) -> Any:
        """GET, None if there is nothing."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def post(self, path: str, body: Any) -> Any:
        """POST."""
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """PUT."""
        return self.request("PUT", path, body)

    def delete(self, path: str, body: Any = None, *, missing_ok: bool = False) -> None:
        """DELETE. That there is nothing is an error, as it is to most resources of the official plugin."""
        try:
            self.request("DELETE", path, body)
        except ApiError as error:
            if error.code != 404 or not missing_ok:
                raise

    def every(self, path: str, root: str) -> Iterator[Any]:
        """All items of a list, page by page."""
        page = 1
        while True:
            answer = self.get(f"{path}?page={page}&per_page={_PAGE}")
            yield from answer[root]
            if not (answer.get("links") or {}).get("pages", {}).get("next"):
                return
            page += 1

    def spaces(self, region: str) -> S3Client:
        """S3 client of a region: virtual-host addresses, signed for us-east-1 as the official plugin does."""
        if not (self._access_id and self._secret_key):
            raise PluginError("Spaces credentials not configured")
        with self._lock:
            if region not in self._spaces:
                self._spaces[region] = self._spaces_client(region)
            return self._spaces[region]

    def _spaces_client(self, region: str) -> S3Client:
        import boto3  # noqa: PLC0415 - slow to import, and needed only for Spaces
        from botocore.config import Config  # noqa: PLC0415

        session = boto3.session.Session(
            aws_access_key_id=self._access_id, aws_secret_access_key=self._secret_key, region_name="us-east-1"
        )
        return session.client(
            "s3",
            endpoint_url=self._spaces_template.replace("{{.Region}}", region),
            verify=trust_store(),
            config=Config(
                s3={"addressing_style": "virtual"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=32,
                # Three repetitions, as in the SDK that the official plugin has.
                retries={"total_max_attempts": 4, "mode": "legacy"},
            ),
        )


def _worth_repeating(response: Any, failure: Any) -> bool:
    """Whether there was no answer, or one that says to come again; a wrong certificate stays wrong."""
    if response is None:
        return "certificate" not in str(failure).lower()
    status = response.status_code
    return bool(status == HTTPStatus.TOO_MANY_REQUESTS or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED))


def _pause(response: Any, attempt: int, shortest: float, longest: float) -> float:
    """Seconds to wait: as long as the answer says, else each time twice as long."""
    says_when = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    if response is not None and response.status_code in says_when:
        announced = response.headers.get("retry-after", "")
        if announced.isdigit():
            return float(announced)
    return float(min(shortest * 2**attempt, longest))


def segment(value: object) -> str:
    """A value as one part of a path."""
    return quote(str(value), safe="")


def session_of(call: Call) -> Session:
    """The session of a call."""
    session = call.session
    if not isinstance(session, Session):
        raise PluginError("the provider is not configured")
    return session


def wait_for_action(call: Call, action: Properties) -> None:
    """Wait for the end of an action, which is known by `completed_at`.

    Raises:
        PluginError: the action failed.
    """
    wait_for_action_at(call, f"/v2/actions/{action['id']}")


def wait_for_action_at(call: Call, path: str) -> None:
    """Wait for the end of the action that is found at a path."""

    def done() -> bool:
        action = session_of(call).get(path)["action"]
        if action["status"] == "errored":
            raise PluginError(f"action {action['type']} ({action['id']}) on {action.get('resource_id')} has failed")
        return action.get("completed_at") is not None and action["status"] == "completed"

    call.wait_until(f"action {path}", done)


def act(call: Call, path: str, body: Properties) -> None:
    """Start an action and wait for its end. A droplet does one thing at a time: while it is busy, ask again."""
    started: list[Properties] = []

    def start() -> bool:
        try:
            started.append(session_of(call).post(path, body)["action"])
        except ApiError as error:
            if error.code == 422 and "pending event" in error.message:
                return False
            raise
        return True

    call.wait_until(f"the droplet to be ready for {body['type']}", start, timeout=300)
    wait_for_action(call, started[0])


def set_tags(call: Call, kind: str, identifier: str, old: list[str], new: list[str]) -> None:
    """Make the tags of a resource those that they should be; tags that do not exist yet are made."""
    session = session_of(call)
    body = {"resources": [{"resource_id": identifier, "resource_type": kind}]}
    for tag in sorted(set(old) - set(new)):
        session.delete(f"/v2/tags/{segment(tag)}/resources", body, missing_ok=True)
    for tag in sorted(set(new) - set(old)):
        session.post("/v2/tags", {"name": tag})
        session.post(f"/v2/tags/{segment(tag)}/resources", body)


def given(properties: Properties, names: dict[str, str]) -> Properties:
    """Body of a request: the properties that are there, under the API's names."""
    return {api: properties[name] for name, api in names.items() if properties.get(name) is not None}
