"""Tokens of a project. GitLab returns their secret once; from then on only the state has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import ACCESS_LEVELS, day, from_api, instant, level_name
from tests.sandbox.plugins.gitlab.session import project_path, session_of, split

_DEPLOY_SCOPES = (
    "read_repository",
    "read_registry",
    "write_registry",
    "read_virtual_registry",
    "write_virtual_registry",
    "read_package_registry",
    "write_package_registry",
)
_ACCESS_SCOPES = (
    "api",
    "read_api",
    "read_registry",
    "write_registry",
    "read_repository",
    "write_repository",
    "create_runner",
    "manage_runner",
    "ai_features",
    "k8s_proxy",
    "self_rotate",
)


def _wrong_scopes(inputs: Properties, known: tuple[str, ...]) -> Iterable[Failure]:
    scopes = inputs["scopes"]
    if not isinstance(scopes, list):
        return
    if not scopes:
        yield Failure("scopes", "at least one is needed")
    for place, scope in enumerate(scopes):
        if isinstance(scope, str) and scope not in known:
            yield Failure(f"scopes[{place}]", f"expected one of {', '.join(known)}, got {scope!r}")


class _Token(Resource):
    """What the tokens of a project have in common: the secret comes with the first answer, and nothing can change."""

    secret_outputs = frozenset({"token"})
    #: The part of the API's path, and the names of the API's own.
    kind: ClassVar[str]
    scopes: ClassVar[tuple[str, ...]]
    names: ClassVar[dict[str, str]]

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        return _wrong_scopes(inputs, self.scopes)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project = inputs["project"]
        given = {name: value for name, value in self.body(inputs).items() if value is not None}
        made = session_of(call).post(project_path(project, self.kind), given)
        return f"{project}:{made['id']}", {**self.state(project, made), "token": made["token"]}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, number = split(identifier, "project", "token id")
        found = session_of(call).find(project_path(project, self.kind, number))
        return found and (identifier, self.state(project, found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        # Only how the provider checks the date can have changed.
        del call, identifier, old, inputs
        return {}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        project, number = split(identifier, "project", "token id")
        session_of(call).delete(project_path(project, self.kind, number))

    def body(self, inputs: Properties) -> Properties:
        """What the API is sent; what is None is left out."""
        return {"name": inputs["name"], "scopes": inputs["scopes"], "expires_at": inputs.get("expiresAt")}

    def state(self, project: str, token: Properties) -> Properties:
        """Inputs and outputs of a token that the API returned."""
        return {"project": project, **from_api(self.names, token)}


class ProjectDeployToken(_Token):
    """A name and password for what a project has in its repository and registries. No change is possible."""

    full_name = "gitlab:index/projectDeployToken:ProjectDeployToken"
    autoname = True
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "name": Field(replace=True),
        "scopes": Field(Kind.LIST, items=Kind.STRING, required=True, unordered=True, replace=True),
        "username": Field(computed=True, replace=True),
        "expiresAt": Field(computed=True, replace=True, normal=instant),
        "validatePastExpirationDate": Field(Kind.BOOLEAN, default=False),
    }
    outputs = ("expired", "expiresAt", "revoked", "token", "username")
    kind = "deploy_tokens"
    scopes = _DEPLOY_SCOPES
    names: ClassVar = {
        "name": "name",
        "username": "username",
        "scopes": "scopes",
        "expiresAt": "expires_at",
        "expired": "expired",
        "revoked": "revoked",
    }

    def body(self, inputs: Properties) -> Properties:
        return {**super().body(inputs), "username": inputs.get("username")}


class ProjectAccessToken(_Token):
    """A token of a bot that is a member of a project.

    The official plugin rotates the token when its date changes. A rotated one has another ID, so this plugin makes a
    new one and then revokes the old, which comes to the same. Rotation by itself (`rotationConfiguration`) is left out.
    """

    full_name = "gitlab:index/projectAccessToken:ProjectAccessToken"
    autoname = True
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "name": Field(replace=True),
        "scopes": Field(Kind.LIST, items=Kind.STRING, required=True, unordered=True, replace=True),
        "accessLevel": Field(default="maintainer", choices=tuple(ACCESS_LEVELS), replace=True),
        "description": Field(computed=True, replace=True),
        "expiresAt": Field(computed=True, replace=True, normal=day),
        "validatePastExpirationDate": Field(Kind.BOOLEAN, default=False),
    }
    outputs = ("active", "createdAt", "description", "expiresAt", "revoked", "token", "userId")
    kind = "access_tokens"
    scopes = _ACCESS_SCOPES
    names: ClassVar = {
        "name": "name",
        "scopes": "scopes",
        "description": "description",
        "expiresAt": "expires_at",
        "active": "active",
        "createdAt": "created_at",
        "revoked": "revoked",
        "userId": "user_id",
    }

    def body(self, inputs: Properties) -> Properties:
        level = ACCESS_LEVELS[inputs["accessLevel"]]
        return {**super().body(inputs), "access_level": level, "description": inputs.get("description")}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        super().delete(call, identifier, state)
        project, number = split(identifier, "project", "token id")
        session, path = session_of(call), project_path(project, self.kind, number)

        def revoked() -> bool:
            found = session.find(path)
            return found is None or bool(found.get("revoked"))

        call.wait_until(f"access token {number} to be revoked", revoked, timeout=300)

    def state(self, project: str, token: Properties) -> Properties:
        return {**super().state(project, token), "accessLevel": level_name(token["access_level"])}
