"""Members of projects and groups."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import ACCESS_LEVELS, day, level_name
from tests.sandbox.plugins.gitlab.session import project_path, segment, session_of, split


class ProjectMembership(Resource):
    """A user in a project."""

    full_name = "gitlab:index/projectMembership:ProjectMembership"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "userId": Field(Kind.INTEGER, required=True, replace=True),
        "accessLevel": Field(required=True, choices=tuple(ACCESS_LEVELS)),
        "expiresAt": Field(normal=day),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project, user = inputs["project"], inputs["userId"]
        body = {"user_id": user, **_body(inputs)}
        made = session_of(call).post(project_path(project, "members"), body)
        return f"{project}:{user}", self._state(project, made)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, user = split(identifier, "project", "user id")
        found = session_of(call).find(project_path(project, "members", user))
        return found and (identifier, self._state(project, found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        project, user = split(identifier, "project", "user id")
        return self._state(project, session_of(call).put(project_path(project, "members", user), _body(inputs)))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        project, user = split(identifier, "project", "user id")
        session_of(call).delete(project_path(project, "members", user))

    def _state(self, project: str, member: Properties) -> Properties:
        return {"project": project, **_state(member)}


class GroupMembership(Resource):
    """A user in a group."""

    full_name = "gitlab:index/groupMembership:GroupMembership"
    inputs: ClassVar[Fields] = {
        "groupId": Field(Kind.INTEGER, required=True, replace=True),
        "userId": Field(Kind.INTEGER, required=True, replace=True),
        "accessLevel": Field(required=True, choices=tuple(ACCESS_LEVELS)),
        "expiresAt": Field(normal=day),
        # How the provider removes it; GitLab knows nothing of these.
        "skipSubresourcesOnDestroy": Field(Kind.BOOLEAN),
        "unassignIssuablesOnDestroy": Field(Kind.BOOLEAN),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        group, user = inputs["groupId"], inputs["userId"]
        made = session_of(call).post(_path(group), {"user_id": user, **_body(inputs)})
        return f"{group}:{user}", self._state(group, made)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        group, user = split(identifier, "group id", "user id")
        found = session_of(call).find(_path(group, user))
        return found and (identifier, self._state(int(group), found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        group, user = split(identifier, "group id", "user id")
        return self._state(int(group), session_of(call).put(_path(group, user), _body(inputs)))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        group, user = split(identifier, "group id", "user id")
        query = {
            "skip_subresources": bool(state.get("skipSubresourcesOnDestroy")),
            "unassign_issuables": bool(state.get("unassignIssuablesOnDestroy")),
        }
        session_of(call).delete(_path(group, user), {name: str(value).lower() for name, value in query.items()})

    def _state(self, group: int, member: Properties) -> Properties:
        return {"groupId": group, **_state(member)}


def _path(group: object, *user: object) -> str:
    return "/".join([f"/groups/{segment(group)}/members", *(segment(one) for one in user)])


def _body(inputs: Properties) -> Properties:
    return {"access_level": ACCESS_LEVELS[inputs["accessLevel"]], "expires_at": inputs.get("expiresAt", "")}


def _state(member: Properties) -> Properties:
    return {
        "userId": member["id"],
        "accessLevel": level_name(member["access_level"]),
        "expiresAt": member.get("expires_at"),
    }
