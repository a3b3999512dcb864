"""What an earlier life of the stack has left in GitLab: deleted before it is created again.

A destroy asks nothing of GitLab, which may be gone by then. What the stack had created inside kept projects therefore
stays on the kept volume: variables and runners. Only the engine knows that it has to create such an object
because its state has none, so these are hooks for `before_create`. An object is the stack's if it carries the stack's
mark: GitLab has a free text on variables and runners. Deploy tokens hand their value on instead; see `Delivery`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import pulumi

from components.api import trust
from components.component import Component
from components.gitlab_connection import GitLabConnection

_RESPONSE_SECONDS: Final = 60
_PAGE: Final = 100


def mark_of(prefix: str) -> str:
    """Return the text by which a stack recognizes the variables and runners that it has created."""
    return f"Created by the Pulumi stack {prefix}"


@dataclass(frozen=True)
class GitLabApi:
    """Requests to GitLab's API that its provider cannot make. `ca_certificate` is trusted beside the system's roots."""

    url: str
    token: str
    ca_certificate: str | None

    def every(self, path: str) -> Iterator[Any]:
        """Return all items of a list, page by page.

        Raises:
            RuntimeError: GitLab refuses or does not respond.
        """
        page = "1"
        while page:
            separator = "&" if "?" in path else "?"
            items, page = self._send("GET", f"{path}{separator}per_page={_PAGE}&page={page}")
            yield from items

    def get(self, path: str) -> Any:
        """Send a GET and return the response.

        Raises:
            RuntimeError: GitLab refuses or does not respond.
        """
        return self._send("GET", path)[0]

    def delete(self, path: str) -> None:
        """Send a DELETE. That there is nothing to delete is no error.

        Raises:
            RuntimeError: GitLab refuses or does not respond.
        """
        self._send("DELETE", path)

    def _send(self, method: str, path: str) -> tuple[Any, str]:
        """The response, and the number of the page that follows, if any."""
        url = f"{self.url}/api/v4{path}"
        asked = urllib.request.Request(url, headers={"PRIVATE-TOKEN": self.token}, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(asked, timeout=_RESPONSE_SECONDS, context=self._trust()) as response:  # noqa: S310
                body = response.read()
                return json.loads(body) if body else None, response.headers.get("X-Next-Page") or ""
        except urllib.error.HTTPError as error:
            if method == "DELETE" and error.code == HTTPStatus.NOT_FOUND:
                return None, ""
            raise RuntimeError(f"GitLab refused {method} {url}: {error.code} {error.reason}") from error
        except OSError as error:
            raise RuntimeError(f"GitLab did not respond to {method} {url}: {error}") from error

    def _trust(self) -> ssl.SSLContext:
        context = trust()
        if self.ca_certificate:
            context.load_verify_locations(cadata=self.ca_certificate)
        return context


#: Deletes what is in the way of an object with these inputs; the third argument is the stack's mark.
Removal = Callable[[GitLabApi, Mapping[str, Any], str], None]


def before_create(
    component: Component, suffix: str, connection: GitLabConnection, mark: str, removal: Removal
) -> pulumi.ResourceHookBinding:
    """Bind `removal` to a child of `component`: it runs before the child is created, and not at preview."""

    async def hook(args: pulumi.ResourceHookArgs) -> None:
        url = await pulumi.Output.from_input(connection.url).future()
        token = await pulumi.Output.from_input(connection.api_token).future()
        api = GitLabApi(str(url), str(token), connection.ca_certificate)
        await asyncio.to_thread(removal, api, args.new_inputs or {}, mark)

    return pulumi.ResourceHookBinding(
        before_create=[pulumi.ResourceHook(f"{component.child_name(suffix)}-before-create", hook)]
    )


def remove_variable(api: GitLabApi, inputs: Mapping[str, Any], mark: str) -> None:
    """Delete the stack's own variable of the same key: GitLab refuses a second one.

    Raises:
        RuntimeError: the project has one that is not the stack's, or GitLab does not respond.
    """
    path, key = f"/projects/{_segment(inputs['project'])}/variables", inputs["key"]
    for found in api.every(path):
        if found["key"] != key or found["environment_scope"] != "*":
            continue
        if found.get("description") != mark:
            raise RuntimeError(
                f"the project with ID {inputs['project']} has a variable {key} that this stack did not create; GitLab "
                "would refuse a second one. Delete it in GitLab under Settings > CI/CD > Variables, or remove it from "
                "the stack file"
            )
        api.delete(f"{path}/{_segment(key)}?{urlencode({'filter[environment_scope]': '*'})}")


def remove_runners(api: GitLabApi, inputs: Mapping[str, Any], mark: str) -> None:
    """Delete the runners of the same name that the stack created in the same project; their machines are gone.

    Raises:
        RuntimeError: GitLab does not respond.
    """
    project = str(int(inputs["projectId"]))
    for listed in list(api.every(f"/projects/{project}/runners?type=project_type")):
        runner = api.get(f"/runners/{listed['id']}")
        # The first project is the one that it was created in; in the others it is enabled.
        owners = [str(one["id"]) for one in runner.get("projects") or []][:1]
        is_ours = runner.get("maintenance_note") == mark and runner["description"] == inputs["description"]
        if is_ours and owners == [project]:
            api.delete(f"/runners/{listed['id']}")


def _segment(value: object) -> str:
    return quote(str(value), safe="")
