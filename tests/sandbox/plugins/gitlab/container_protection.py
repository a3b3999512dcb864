"""Protected tags and repositories of the container registry.

The official provider makes rules for tags through GraphQL, and does not look at what the mutation refuses: it waits for
a rule with this expression to appear. So an existing one is taken over, whatever its levels are, and one that GitLab
refused is a timeout. A replacement with the same expression needs `delete_before_replace`, as the old rule would be
taken over and then deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, PluginError, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.gitlab.session import ApiError, project_path, session_of, split

_PUSH, _DELETE = "minimumAccessLevelForPush", "minimumAccessLevelForDelete"
_LEVELS = ("maintainer", "owner", "admin")
_UPPER = tuple(level.upper() for level in _LEVELS)
_GLOBAL_ID = "gid://gitlab/ContainerRegistry::Protection::TagRule/"
_CREATE = """
mutation createContainerProtectionTagRule($input: createContainerProtectionTagRuleInput!) {
  createContainerProtectionTagRule(input: $input) { errors }
}
"""
_DELETE_RULE = """
mutation deleteContainerProtectionTagRule($input: DeleteContainerProtectionTagRuleInput!) {
  deleteContainerProtectionTagRule(input: $input) { errors }
}
"""
_LIST = """
query getProjectContainerProtectionTagRules($projectPath: ID!) {
  project(fullPath: $projectPath) {
    id
    containerProtectionTagRules(first: 100) {
      nodes { tagNamePattern minimumAccessLevelForPush minimumAccessLevelForDelete id immutable }
    }
  }
}
"""


class ProjectContainerTagProtection(Resource):
    """Who may push and delete the tags that an expression matches."""

    full_name = "gitlab:index/projectContainerTagProtection:ProjectContainerTagProtection"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "tagNameRegex": Field(required=True, replace=True),
        "immutable": Field(Kind.BOOLEAN, default=False, replace=True),
        _PUSH: Field(choices=_UPPER, replace=True, computed=True),
        _DELETE: Field(choices=_UPPER, replace=True, computed=True),
    }
    outputs = ("protectionRuleId",)

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        given = [name for name in (_PUSH, _DELETE) if inputs.get(name)]
        if inputs.get("tagNameRegex") == "":
            yield Failure("tagNameRegex", "string length must be at least 1")
        if len(given) == 1:
            yield Failure(given[0], f"{_PUSH} and {_DELETE} must be specified together")
        if given and inputs.get("immutable"):
            yield Failure("immutable", f"cannot be specified when {given[0]} is specified")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project = self._project(call, inputs["project"])
        path, pattern = project["path_with_namespace"], inputs["tagNameRegex"]
        levels = {name: None if inputs.get("immutable") else inputs.get(name) for name in (_PUSH, _DELETE)}
        body = {"input": {"projectPath": path, "tagNamePattern": pattern, **levels}}
        answer = session_of(call).graphql(_CREATE, body)
        if answer.get("errors"):
            raise PluginError(f"GraphQL errors: {[error['message'] for error in answer['errors']]}")
        found: list[Properties] = []

        def appeared() -> bool:
            found.extend(rule for rule in self._rules(call, path) if rule["tagNamePattern"] == pattern)
            return bool(found)

        call.wait_until("rule to be created", appeared, timeout=300)
        state = self._state(inputs["project"], found[0])
        return f"{project['id']}:{state['protectionRuleId']}", state

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        project_id, rule_id = split(identifier, "project", "protection_rule_id")
        # A project that is gone is an error here, unlike in other resources.
        project = self._project(call, project_id)
        wanted = f"{_GLOBAL_ID}{rule_id}"
        for rule in self._rules(call, project["path_with_namespace"]):
            if rule["id"] == wanted:
                return identifier, self._state(state.get("project") or str(project["id"]), rule)
        return None

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        _, rule_id = split(identifier, "project", "protection_rule_id")
        answer = session_of(call).graphql(_DELETE_RULE, {"input": {"id": f"{_GLOBAL_ID}{rule_id}"}})
        # What is wrong with the whole query, such as an ID that nothing has, is not looked at.
        payload = (answer.get("data") or {}).get("deleteContainerProtectionTagRule") or {}
        if payload.get("errors"):
            raise PluginError(f"GraphQL errors: {payload['errors']}")

    def _project(self, call: Call, project: str) -> Properties:
        try:
            found: Properties = session_of(call).get(project_path(project))
        except ApiError as error:
            raise PluginError(f"Unable to get project: {error}") from error
        return found

    def _rules(self, call: Call, path: str) -> list[Properties]:
        answer = session_of(call).graphql(_LIST, {"projectPath": path})
        project = (answer.get("data") or {}).get("project") or {}
        return list((project.get("containerProtectionTagRules") or {}).get("nodes") or [])

    def _state(self, project: str, rule: Properties) -> Properties:
        number = re.fullmatch(rf"{_GLOBAL_ID}(\d+)", rule["id"])
        if number is None:
            raise PluginError(f"unexpected ID of a container tag protection rule: {rule['id']}")
        return {
            "project": project,
            "tagNameRegex": rule["tagNamePattern"],
            "immutable": rule["immutable"],
            _PUSH: rule[_PUSH],
            _DELETE: rule[_DELETE],
            "protectionRuleId": int(number[1]),
        }


class ProjectContainerRepositoryProtection(Resource):
    """Who may push to and delete the repositories that a path with wildcards matches."""

    full_name = "gitlab:index/projectContainerRepositoryProtection:ProjectContainerRepositoryProtection"
    inputs: ClassVar[Fields] = {
        "project": Field(required=True, replace=True),
        "repositoryPathPattern": Field(required=True),
        _PUSH: Field(choices=_LEVELS),
        _DELETE: Field(choices=_LEVELS),
    }
    outputs = ("protectionRuleId",)

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if not inputs.get(_PUSH) and not inputs.get(_DELETE):
            yield Failure(_PUSH, f"at least one of {_PUSH}, {_DELETE} must be specified")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        project = inputs["project"]
        made = session_of(call).post(self._path(project), self._body(inputs))
        return f"{project}:{made['id']}", self._state(project, made)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        project, rule_id = split(identifier, "project", "protection_rule_id")
        for rule in session_of(call).find(self._path(project)) or []:
            if str(rule["id"]) == rule_id:
                return identifier, self._state(project, rule)
        return None

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        project, rule_id = split(identifier, "project", "protection_rule_id")
        return self._state(project, session_of(call).patch(self._path(project, rule_id), self._body(inputs)))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        # One that is gone already is an error, as in the official provider.
        session_of(call).request("delete", self._path(*split(identifier, "project", "protection_rule_id")))

    def _path(self, project: str, *rule: str) -> str:
        return project_path(project, "registry/protection/repository/rules", *rule)

    def _body(self, inputs: Properties) -> Properties:
        body = {
            "repository_path_pattern": inputs["repositoryPathPattern"],
            "minimum_access_level_for_push": inputs.get(_PUSH),
            "minimum_access_level_for_delete": inputs.get(_DELETE),
        }
        return {name: value for name, value in body.items() if value is not None}

    def _state(self, project: str, rule: Properties) -> Properties:
        levels = {_PUSH: rule["minimum_access_level_for_push"], _DELETE: rule["minimum_access_level_for_delete"]}
        return {
            "project": project,
            "repositoryPathPattern": rule["repository_path_pattern"],
            "protectionRuleId": rule["id"],
            **{name: level for name, level in levels.items() if level},
        }
