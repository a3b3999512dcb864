"""What an earlier life of the stack, or a lost answer, has left in GitLab: deleted before it is created again.

A destroy asks nothing of GitLab, which may be gone by then. What the stack had created inside kept projects therefore
stays on the kept volume: variables, members and runners. Only the engine knows that it has to create such an object
because its state has none, so these are hooks for `before_create`. An object is the stack's if it carries the stack's
mark: GitLab has a free text on variables and runners. Deploy tokens hand their value on instead; see `Delivery`. Rules
for protected tags are what they say: one for the same tags is taken over. A project is never deleted; the message has
the line that imports it.

The answer to a create can be lost after GitLab has done the work. Then the same is done after the error, and the create
is repeated; and after a create that the provider has repeated, what it has made first is deleted: nobody has its token.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import pulumi

from components.api import send
from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.leftovers import import_command
from components.lost_answers import may_be_repeated
from components.settings.gitlab_names import ADMINISTRATOR
from components.trust import trust

_PAGE: Final = 100
#: GitLab, ContainerRegistry::Protection::TagRule
_MOST_TAG_RULES: Final = 5


def mark_of(prefix: str) -> str:
    """Return the text by which a stack recognizes the variables and runners that it has created."""
    return f"Created by the Pulumi stack {prefix}"


class NotFoundError(RuntimeError):
    """GitLab has no such thing."""


@dataclass(frozen=True)
class GitLabApi:
    """Requests to GitLab's API that its provider cannot make. `ca_certificate` is trusted beside the system's roots."""

    url: str
    token: str = field(repr=False)
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
            body, headers = send(asked, trust(self.ca_certificate))
            return json.loads(body) if body else None, headers.get("X-Next-Page") or ""
        except urllib.error.HTTPError as error:
            if method == "DELETE" and error.code == HTTPStatus.NOT_FOUND:
                return None, ""
            kind = NotFoundError if error.code == HTTPStatus.NOT_FOUND else RuntimeError
            raise kind(f"GitLab refused {method} {url}: {error.code} {error.reason}") from error
        except OSError as error:
            raise RuntimeError(f"GitLab did not respond to {method} {url}: {error}") from error


#: Deletes what is in the way of an object with these inputs, and says whether there was anything. The third argument is
#: the stack's mark, the last one the ID of the object itself once it exists, which stays.
Removal = Callable[[GitLabApi, Mapping[str, Any], str, str | None], bool]


def before_create(
    component: Component, suffix: str, connection: GitLabConnection, mark: str, removal: Removal
) -> pulumi.ResourceHookBinding:
    """Bind `removal` to a child of `component`: it runs before and after the child is created, and not at preview."""

    async def removed(inputs: Mapping[str, Any] | None, own: str | None) -> bool:
        url = await pulumi.Output.from_input(connection.url).future()
        token = await pulumi.Output.from_input(connection.api_token).future()
        api = GitLabApi(str(url), str(token), connection.ca_certificate)
        return await asyncio.to_thread(removal, api, inputs or {}, mark, own)

    async def before(args: pulumi.ResourceHookArgs) -> None:
        await removed(args.new_inputs, None)

    async def after(args: pulumi.ResourceHookArgs) -> None:
        await removed(args.new_inputs, args.id)

    async def failed(args: pulumi.ErrorHookArgs) -> bool:
        try:
            return may_be_repeated(args) and await removed(args.new_inputs, None)
        except RuntimeError as error:
            # The error of the create itself is shown beside it.
            pulumi.log.warn(str(error))
            return False

    name = component.child_name(suffix)
    return pulumi.ResourceHookBinding(
        before_create=[pulumi.ResourceHook(f"{name}-before-create", before)],
        after_create=[pulumi.ResourceHook(f"{name}-after-create", after)],
        on_error=[pulumi.ErrorHook(f"{name}-on-error", failed)],
    )


def remove_repository_rule(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """Delete a rule for the same repositories: GitLab refuses a second one, and the stack's is to hold.

    Raises:
        RuntimeError: GitLab does not respond.
    """
    del mark
    if own is not None:
        return False
    deleted = False
    path = f"/projects/{_segment(inputs['project'])}/registry/protection/repository/rules"
    # All in one response: there are no pages.
    for rule in api.get(path):
        if rule["repository_path_pattern"] == inputs["repositoryPathPattern"]:
            api.delete(f"{path}/{rule['id']}")
            deleted = True
    return deleted


def remove_variable(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """Delete the stack's own variable of the same key: GitLab refuses a second one, so there is none beside `own`.

    Raises:
        RuntimeError: the project has one that is not the stack's, or GitLab does not respond.
    """
    if own is not None:
        return False
    path, key = f"/projects/{_segment(inputs['project'])}/variables", inputs["key"]
    scope = inputs.get("environmentScope") or "*"
    for found in api.every(path):
        if found["key"] != key or found["environment_scope"] != scope:
            continue
        if found.get("description") != mark:
            raise RuntimeError(
                f"the project with ID {inputs['project']} has a variable {key} that this stack did not create; GitLab "
                "would refuse a second one. Delete it in GitLab under Settings > CI/CD > Variables, or remove it from "
                "the stack file"
            )
        api.delete(f"{path}/{_segment(key)}?{urlencode({'filter[environment_scope]': scope})}")
        return True
    return False


def prepare_tag_rule(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """Delete a rule for the same tags with other access levels: nothing says whose it is, and the stack's is to hold.

    The provider takes over a rule for the same tags as it is. Of one that GitLab refuses it says nothing: it waits five
    minutes for it.

    Raises:
        RuntimeError: the project has as many rules as GitLab allows, or GitLab does not respond.
    """
    del mark
    if own is not None:
        return False
    path, pattern = f"/projects/{_segment(inputs['project'])}/registry/protection/tag/rules", inputs["tagNameRegex"]
    levels = {
        "minimum_access_level_for_push": inputs["minimumAccessLevelForPush"].lower(),
        "minimum_access_level_for_delete": inputs["minimumAccessLevelForDelete"].lower(),
    }
    # All in one response: there are no pages.
    rules = api.get(path)
    same = [rule for rule in rules if rule["tag_name_pattern"] == pattern]
    if not same and len(rules) >= _MOST_TAG_RULES:
        raise RuntimeError(
            f"the project with ID {inputs['project']} has {len(rules)} rules for protected tags, and GitLab allows no "
            f"more; the one for {pattern} could not be created. Delete one in GitLab under Settings > Packages and "
            "registries > Container registry, or set protectTags to false"
        )
    for rule in same:
        if any(rule[name] != level for name, level in levels.items()):
            api.delete(f"{path}/{rule['id']}")
    return bool(same)


def remove_member(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """End a membership that the user has already, directly: GitLab refuses a second one, and the stack's is to hold.

    Raises:
        RuntimeError: GitLab does not respond.
    """
    del mark
    return own is None and _remove_member(api, f"/projects/{_segment(inputs['project'])}", inputs)


def remove_group_member(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """End a membership of a group that the user has already, and no other one inside of the group.

    Raises:
        RuntimeError: GitLab does not respond.
    """
    del mark
    return own is None and _remove_member(api, f"/groups/{int(inputs['groupId'])}", inputs, "?skip_subresources=true")


def _remove_member(api: GitLabApi, place: str, inputs: Mapping[str, Any], query: str = "") -> bool:
    user = int(inputs["userId"])
    if all(one["id"] != user for one in api.every(f"{place}/members")):
        return False
    api.delete(f"{place}/members/{user}{query}")
    return True


def remove_runners(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """Delete the runners of the same name that the stack created in the same project; no machine has their tokens.

    Raises:
        RuntimeError: GitLab does not respond.
    """
    project, deleted = str(int(inputs["projectId"])), False
    for listed in list(api.every(f"/projects/{project}/runners?type=project_type")):
        runner = api.get(f"/runners/{listed['id']}")
        # The first project is the one that it was created in; in the others it is enabled.
        owners = [str(one["id"]) for one in runner.get("projects") or []][:1]
        is_ours = runner.get("maintenance_note") == mark and runner["description"] == inputs["description"]
        if is_ours and owners == [project] and str(listed["id"]) != own:
            api.delete(f"/runners/{listed['id']}")
            deleted = True
    return deleted


def refuse_project(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """Delete nothing: a project may have what people have pushed to it.

    Raises:
        RuntimeError: GitLab has a project of that path, which is not in the state, or does not respond.
    """
    del mark
    namespace = int(inputs["namespaceId"]) if inputs.get("namespaceId") else None
    query = urlencode({"search": inputs["path"], "simple": "true"})
    for found in api.every(f"/projects?{query}") if own is None else ():
        where = found["namespace"]
        is_there = where["id"] == namespace if namespace else where["full_path"] == ADMINISTRATOR
        if found["path"].lower() == str(inputs["path"]).lower() and is_there:
            path, number = found["path_with_namespace"], found["id"]
            raise RuntimeError(
                f"the project {path} (ID {number}) exists in GitLab and is not in this stack's state; a second one "
                "would be refused. If an earlier update of this stack was interrupted while creating it, take it over "
                "with\n"
                f"{_import_line('project', 'delivery-' + str(inputs['path']), str(number))}\n"
                f"If it is somebody else's, import it with importId: {number} instead: the stack then never deletes it"
            )
    return False


def refuse_group(api: GitLabApi, inputs: Mapping[str, Any], mark: str, own: str | None = None) -> bool:
    """Delete nothing: a group may have what people have made in it.

    Raises:
        RuntimeError: GitLab has a group of that path, which is not in the state, or does not respond.
    """
    del mark
    parent = int(inputs["parentId"]) if inputs.get("parentId") else None
    query = urlencode({"search": inputs["path"]})
    for found in api.every(f"/groups?{query}") if own is None else ():
        if found["path"].lower() != str(inputs["path"]).lower() or found["parent_id"] != parent:
            continue
        path, number = found["full_path"], found["id"]
        if found.get("marked_for_deletion_on"):
            raise RuntimeError(
                f"the group {path} (ID {number}) waits for its deletion in GitLab, and keeps its path until then, "
                "because projects in it have images; a second one would be refused. Restore it in GitLab under "
                f'Settings > General > Advanced and import it with importId: "{number}", or choose another path'
            )
        raise RuntimeError(
            f"the group {path} (ID {number}) exists in GitLab and is not in this stack's state; a second one would be "
            "refused. If an earlier update of this stack was interrupted while creating it, take it over with\n"
            f"{_import_line('group', 'groups-' + path.lower(), str(number))}\nIf it is somebody else's, import it with "
            f'importId: "{number}" instead: the stack then never deletes it'
        )
    return False


def _import_line(noun: str, component: str, number: str) -> str:
    where, around = (pulumi.get_stack(), pulumi.get_project()), "Groups" if noun == "group" else "Delivery"
    parent = (f"slipway:index:{around}$slipway:index:{noun.title()}", component)
    return import_command(where, f"gitlab:index/{noun}:{noun.title()}", f"{component}-{noun}", number, parent)


def _segment(value: object) -> str:
    return quote(str(value), safe="")
