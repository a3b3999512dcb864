"""Groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import camel, fields, from_api, or_none, own_names, to_api
from tests.sandbox.plugins.gitlab.projects import remove
from tests.sandbox.plugins.gitlab.session import segment, session_of

_FLAGS = (
    "auto_devops_enabled",
    "emails_enabled",
    "lfs_enabled",
    "mentions_disabled",
    "request_access_enabled",
    "require_two_factor_authentication",
    "share_with_group_lock",
)
_CHOICES = {
    "project_creation_level": ("noone", "owner", "maintainer", "developer", "administrator"),
    "shared_runners_setting": ("enabled", "disabled_and_overridable", "disabled_and_unoverridable"),
    "subgroup_creation_level": ("owner", "maintainer"),
}
_NUMBERS = ("default_branch_protection", "max_artifacts_size", "two_factor_grace_period")
_NAMES = {
    **own_names((*_FLAGS, *_CHOICES, *_NUMBERS, "default_branch", "description", "name", "parent_id", "path")),
    "visibilityLevel": "visibility",
}
_OUTPUTS = own_names(("avatar_url", "full_name", "full_path", "runners_token", "web_url"))


def group_state(group: Properties) -> Properties:
    """Inputs and outputs of a group that the API returned."""
    return from_api({**_NAMES, **_OUTPUTS}, group)


class Group(Resource):
    """A group. Of the official one's inputs it has those of the Community Edition."""

    full_name = "gitlab:index/group:Group"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "path": Field(required=True),
        "parentId": Field(Kind.INTEGER, computed=True),
        "description": Field(normal=or_none),
        "defaultBranch": Field(normal=or_none),
        "visibilityLevel": Field(choices=("private", "internal", "public"), computed=True),
        **fields(Kind.BOOLEAN, _FLAGS, computed=True),
        **fields(Kind.INTEGER, _NUMBERS, computed=True),
        **{camel(name): Field(choices=choices, computed=True) for name, choices in _CHOICES.items()},
        # How the provider removes it; GitLab knows nothing of this.
        "permanentlyRemoveOnDelete": Field(Kind.BOOLEAN),
    }
    outputs = (*_OUTPUTS, *(name for name, field in inputs.items() if field.computed))
    secret_outputs = frozenset({"runnersToken"})

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        group = session_of(call).post("/groups", to_api(_NAMES, inputs))
        return str(group["id"]), group_state(group)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/groups/{segment(identifier)}", {"with_projects": "false"})
        if found is None or found.get("marked_for_deletion_on"):
            return None
        return str(found["id"]), group_state(found)

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        session, path = session_of(call), f"/groups/{segment(identifier)}"
        changed = {name for name, _ in self.differences(old, inputs)}
        body = to_api(_NAMES, {name: inputs.get(name) for name in changed - {"parentId"}})
        body |= {_NAMES[name]: "" for name in changed & {"description", "defaultBranch"} if not inputs.get(name)}
        group = session.put(path, {"name": inputs["name"], **body})
        if "parentId" in changed:
            session.post(f"{path}/transfer", {"group_id": inputs["parentId"]})
            group = session.get(path)
        return group_state(group)

    def unknown_during(self, old: Properties, inputs: Properties) -> Iterable[str]:
        changed = {name for name, _ in self.differences(old, inputs)}
        return ("fullName", "fullPath", "webUrl") if changed & {"name", "parentId", "path"} else ()

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        for_good = bool(state.get("permanentlyRemoveOnDelete"))
        remove(call, f"/groups/{segment(identifier)}", "full_path", for_good=for_good)
