"""Functions of the provider: lookups that create nothing."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Function, Kind, PluginError
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.groups import group_state
from tests.sandbox.plugins.gitlab.projects import find_project, project_state
from tests.sandbox.plugins.gitlab.session import segment, session_of


def _one_of(inputs: Properties, *names: str) -> str:
    given = [name for name in names if inputs.get(name)]
    if len(given) != 1:
        raise PluginError(f"exactly one of {' and '.join(names)} must be given")
    return str(inputs[given[0]])


class GetCurrentUser(Function):
    """The user of the token."""

    full_name = "gitlab:index/getCurrentUser:getCurrentUser"

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        del inputs
        user = session_of(call).get("/user")
        return {
            "id": str(user["id"]),
            "globalId": f"gid://gitlab/User/{user['id']}",
            "name": user["name"],
            "username": user["username"],
            "publicEmail": user.get("public_email") or "",
            "bot": bool(user.get("bot")),
            "namespaceId": str(user.get("namespace_id") or ""),
        }


class GetProject(Function):
    """A project by its ID or full path."""

    full_name = "gitlab:index/getProject:getProject"
    inputs: ClassVar[Fields] = {"id": Field(), "pathWithNamespace": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        key = _one_of(inputs, "id", "pathWithNamespace")
        project = find_project(call, key)
        if project is None:
            raise PluginError(f"project {key} was not found")
        state = project_state(project)
        # What is one map in the resource is a list here.
        policy = state.pop("containerExpirationPolicy", None)
        return {**state, "id": str(project["id"]), "containerExpirationPolicies": [policy] if policy else []}


class GetGroup(Function):
    """A group by its ID or full path."""

    full_name = "gitlab:index/getGroup:getGroup"
    inputs: ClassVar[Fields] = {"groupId": Field(Kind.INTEGER), "fullPath": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        key = _one_of(inputs, "groupId", "fullPath")
        group = session_of(call).find(f"/groups/{segment(key)}", {"with_projects": "false"})
        if group is None:
            raise PluginError(f"group {key} was not found")
        return {**group_state(group), "id": str(group["id"]), "groupId": group["id"]}


class GetGroups(Function):
    """Groups by a part of their name or path. Each has the properties of a group, and its ID."""

    full_name = "gitlab:index/getGroups:getGroups"
    inputs: ClassVar[Fields] = {
        "search": Field(),
        "orderBy": Field(choices=("name", "path", "id", "similarity")),
        "sort": Field(choices=("asc", "desc")),
        "topLevelOnly": Field(Kind.BOOLEAN),
    }
    _queries: ClassVar = {
        "search": "search",
        "orderBy": "order_by",
        "sort": "sort",
        "topLevelOnly": "top_level_only",
    }

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        query = {self._queries[name]: value for name, value in inputs.items() if value is not None}
        found = session_of(call).every("/groups", query)
        groups = [{**group_state(group), "groupId": group["id"]} for group in found]
        return {**inputs, "id": "groups", "groups": groups}


class GetUsers(Function):
    """Users by their name, or by a part of it. Of the official one's filters it has these two."""

    full_name = "gitlab:index/getUsers:getUsers"
    inputs: ClassVar[Fields] = {"username": Field(), "search": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        query = {name: value for name, value in inputs.items() if value is not None}
        found = session_of(call).every("/users", query)
        users = [
            {"id": one["id"], "username": one["username"], "name": one["name"], "state": one["state"]} for one in found
        ]
        return {**inputs, "id": "users", "users": users}


class GetMetadata(Function):
    """Version and edition of the instance."""

    full_name = "gitlab:index/getMetadata:getMetadata"

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        del inputs
        metadata = session_of(call).get("/metadata")
        return {
            "id": "1",
            "version": metadata["version"],
            "revision": metadata["revision"],
            "enterprise": bool(metadata.get("enterprise")),
        }
