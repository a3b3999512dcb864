"""Members of projects."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import ACCESS_LEVELS, day, level_name
from tests.sandbox.plugins.gitlab.session import project_path, session_of, split


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
        body = {"user_id": user, **self._body(inputs)}
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
        return self._state(project, session_of(call).put(project_path(project, "members", user), self._body(inputs)))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        project, user = split(identifier, "project", "user id")
        session_of(call).delete(project_path(project, "members", user))

    def _body(self, inputs: Properties) -> Properties:
        return {"access_level": ACCESS_LEVELS[inputs["accessLevel"]], "expires_at": inputs.get("expiresAt", "")}

    def _state(self, project: str, member: Properties) -> Properties:
        return {
            "project": project,
            "userId": member["id"],
            "accessLevel": level_name(member["access_level"]),
            "expiresAt": member.get("expires_at"),
        }
