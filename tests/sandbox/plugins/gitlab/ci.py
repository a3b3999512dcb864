"""Resources for pipelines: variables and runners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.names import from_api, or_none, to_api
from tests.sandbox.plugins.gitlab.session import project_path, segment, session_of, split


class ProjectVariable(Resource):
    """A variable of a project's jobs. Its value is secret if the program says so: the official one does not either."""

    full_name = "gitlab:index/projectVariable:ProjectVariable"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "key": Field(required=True, replace=True),
        "environmentScope": Field(default="*", replace=True),
        "value": Field(required=True),
        "variableType": Field(default="env_var", choices=("env_var", "file")),
        "protected": Field(Kind.BOOLEAN, default=False),
        "masked": Field(Kind.BOOLEAN, default=False),
        "hidden": Field(Kind.BOOLEAN, default=False, replace=True),
        "raw": Field(Kind.BOOLEAN, default=False),
        "description": Field(normal=or_none),
    }
    _names: ClassVar = {
        "key": "key",
        "environmentScope": "environment_scope",
        "value": "value",
        "variableType": "variable_type",
        "protected": "protected",
        "masked": "masked",
        "hidden": "hidden",
        "raw": "raw",
        "description": "description",
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project, key, scope = inputs["project"], inputs["key"], inputs["environmentScope"]
        body = self._body(inputs)
        if inputs["hidden"]:
            # Hiding is only possible from the start, and goes with masking.
            body["masked_and_hidden"] = True
        variable = session_of(call).post(project_path(project, "variables"), body)
        return f"{project}:{key}:{scope}", self._state(project, variable)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, key, scope = split(identifier, "project", "key", "environment scope")
        found = session_of(call).find(self._path(project, key), self._filter(scope))
        return found and (identifier, self._state(project, found))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        project, key, scope = split(identifier, "project", "key", "environment scope")
        body = {**self._body(inputs), "filter": {"environment_scope": scope}}
        body["description"] = inputs.get("description", "")
        return self._state(project, session_of(call).put(self._path(project, key), body))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        project, key, scope = split(identifier, "project", "key", "environment scope")
        session_of(call).delete(self._path(project, key), self._filter(scope))

    def _path(self, project: str, key: str) -> str:
        return project_path(project, "variables", segment(key))

    def _filter(self, scope: str) -> Properties:
        return {"filter[environment_scope]": scope}

    def _body(self, inputs: Properties) -> Properties:
        return to_api({name: api for name, api in self._names.items() if name != "hidden"}, inputs)

    def _state(self, project: str, variable: Properties) -> Properties:
        state = {"project": project, **from_api(self._names, variable)}
        if variable.get("hidden"):
            # GitLab never returns the value of a hidden variable.
            del state["value"]
        return state


_RUNNER_TYPES = ("instance_type", "group_type", "project_type")


class UserRunner(Resource):
    """A runner as GitLab knows it. Its token (`glrt-`), returned once, is what a host registers with."""

    full_name = "gitlab:index/userRunner:UserRunner"
    inputs: ClassVar[Fields] = {
        "runnerType": Field(required=True, choices=_RUNNER_TYPES, replace=True),
        "projectId": Field(Kind.INTEGER, replace=True),
        "groupId": Field(Kind.INTEGER, replace=True),
        "description": Field(computed=True, normal=or_none),
        "paused": Field(Kind.BOOLEAN, computed=True),
        "locked": Field(Kind.BOOLEAN, computed=True),
        "untagged": Field(Kind.BOOLEAN, computed=True),
        "tagLists": Field(Kind.LIST, items=Kind.STRING, unordered=True, computed=True),
        "accessLevel": Field(choices=("not_protected", "ref_protected"), computed=True),
        "maximumTimeout": Field(Kind.INTEGER, computed=True),
        "maintenanceNote": Field(computed=True, normal=or_none),
    }
    outputs = ("token", *(name for name, field in inputs.items() if field.computed))
    secret_outputs = frozenset({"token"})
    _changeable: ClassVar = {
        "description": "description",
        "paused": "paused",
        "locked": "locked",
        "untagged": "run_untagged",
        "tagLists": "tag_list",
        "accessLevel": "access_level",
        "maximumTimeout": "maximum_timeout",
        "maintenanceNote": "maintenance_note",
    }
    _names: ClassVar = {
        "runnerType": "runner_type",
        "projectId": "project_id",
        "groupId": "group_id",
        **_changeable,
    }

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        kind = inputs["runnerType"]
        for name, needing in (("projectId", "project_type"), ("groupId", "group_type")):
            if kind == needing and name not in inputs:
                yield Failure(name, f"is needed for a runner of type {kind}")
            if kind in _RUNNER_TYPES and kind != needing and name in inputs:
                yield Failure(name, f"must not be given for a runner of type {kind}")
        timeout = inputs.get("maximumTimeout")
        if isinstance(timeout, int) and timeout < 600:
            yield Failure("maximumTimeout", f"must be at least 600 seconds, got {timeout}")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        session = session_of(call)
        runner = session.post("/user/runners", to_api(self._names, inputs))
        identifier, token = str(runner["id"]), {"token": runner["token"]}
        with made(identifier, {**inputs, **token}):
            return identifier, {**self._state(session.get(f"/runners/{identifier}")), **token}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        found = session_of(call).find(f"/runners/{segment(identifier)}")
        if found is None:
            return None
        observed = self._state(found)
        if not state:
            observed |= self._owner(found)
        return identifier, observed

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        return self._state(session_of(call).put(f"/runners/{identifier}", to_api(self._changeable, inputs)))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/runners/{identifier}")

    def _state(self, runner: Properties) -> Properties:
        return from_api({"runnerType": "runner_type", **self._changeable}, runner)

    def _owner(self, runner: Properties) -> Properties:
        """Whose runner it is, which an import has to find out: the first project is the one that it was made for."""
        for name, owners in (("projectId", "projects"), ("groupId", "groups")):
            if runner["runner_type"] == f"{owners[:-1]}_type" and runner.get(owners):
                return {name: runner[owners][0]["id"]}
        return {}


class ProjectRunnerEnablement(Resource):
    """A runner of another project that may take jobs of this one too."""

    full_name = "gitlab:index/projectRunnerEnablement:ProjectRunnerEnablement"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "runnerId": Field(Kind.INTEGER, required=True, replace=True),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project, runner = inputs["project"], inputs["runnerId"]
        session_of(call).post(project_path(project, "runners"), {"runner_id": runner})
        return f"{project}:{runner}", {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, runner = split(identifier, "project", "runner id")
        if session_of(call).find(project_path(project)) is None:
            return None
        there: Any = session_of(call).every(project_path(project, "runners"))
        if runner not in {str(item["id"]) for item in there}:
            return None
        return identifier, {"project": project, "runnerId": int(runner)}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        project, runner = split(identifier, "project", "runner id")
        session_of(call).delete(project_path(project, "runners", runner))
