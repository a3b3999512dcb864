"""`/api/graphql`: what has no operation in REST, or what clients ask for here. And the same over `/-/cable`, with news.

Answers as GitLab does: a query that is wrong, or asks for what may not be seen, gets 200 with `errors` at the top; what
a mutation refuses is in the `errors` of its own payload.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import (
    FieldsOnCorrectTypeRule,
    GraphQLError,
    GraphQLResolveInfo,
    build_schema,
    execute_sync,
    get_operation_ast,
    parse,
    specified_rules,
    validate,
)
from graphql.language import FieldNode, OperationType
from graphql.validation import ValidationRule
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .core import access, auth, container_protection, db, projects
from .core.auth import Principal
from .core.config import Config
from .core.container_protection import TAG_RULES, Rule, RuleError
from .core.errors import ApiError

_GLOBAL_ID = re.compile(r"gid://gitlab/ContainerRegistry::Protection::TagRule/(\d+)")
_PIPELINE_ID = re.compile(r"gid://gitlab/Ci::Pipeline/(\d+)")
_ABSENT = (
    "The resource that you are attempting to access does not exist or you don't have permission to perform this action"
)
_SCHEMA = build_schema(Path(__file__).with_name("schema.graphql").read_text())


class _Fields(ValidationRule):
    """Refuses unknown fields in GitLab's words."""

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        kind = self.context.get_parent_type()
        if kind and not self.context.get_field_def():
            words = f"Field '{node.name.value}' doesn't exist on type '{kind.name}'"
            self.report_error(GraphQLError(words, node))


_RULES = tuple(_Fields if rule is FieldsOnCorrectTypeRule else rule for rule in specified_rules)


@dataclass(frozen=True)
class _Asked:
    """Who asks, and where the answers are."""

    connection: db.Connection
    config: Config
    who: Principal | None
    #: Whether a subscription has something to say. At its beginning it has not.
    is_news: bool = False

    def project(self, path: str, least: int) -> db.Row | None:
        """A project by its path, for somebody with this access level."""
        row = projects.find(self.connection, path)
        level = access.project_level(self.connection, self.who, row) if row is not None else 0
        seen = row is not None and access.visible(self.who, row, level)
        return row if seen and level >= least else None


Values = dict[str, Any]
Info = GraphQLResolveInfo[_Asked]


async def graphql(request: Request) -> Response:
    """Answer one query."""
    body = await request.json()
    return await run_in_threadpool(_answer, request, body if isinstance(body, dict) else {})


def _answer(request: Request, body: Values) -> Response:
    config: Config = request.app.state.config
    with db.connect(config.database) as connection:
        try:
            who = auth.identify(connection, config, request)
        except ApiError:
            return JSONResponse({"errors": [{"message": "Invalid token"}]}, 401)
        connection.commit()
        return JSONResponse(_result(_Asked(connection, config, who), body))


def _result(asked: _Asked, body: Values) -> Values:
    try:
        document = parse(str(body.get("query") or ""))
    except GraphQLError as error:
        return {"errors": [error.formatted]}
    if wrong := validate(_SCHEMA, document, _RULES):
        return {"errors": [error.formatted for error in wrong]}
    result = execute_sync(
        _SCHEMA,
        document,
        context_value=asked,
        variable_values=body.get("variables") or {},
        operation_name=body.get("operationName"),
    )
    return dict(result.formatted)


def over_cable(config: Config, who: Principal | None, params: Values, *, is_news: bool) -> tuple[Values, bool]:
    """The answer to a query that came over `/-/cable`, and whether more will follow: after a subscription."""
    with db.connect(config.database) as connection:
        result = _result(_Asked(connection, config, who, is_news), params)
    try:
        operation = get_operation_ast(parse(str(params.get("query") or "")), params.get("operationName"))
    except GraphQLError:
        return result, False
    return result, operation is not None and operation.operation is OperationType.SUBSCRIPTION


def _pipeline_status(_: Any, info: Info, *, pipelineId: str) -> Values | None:  # noqa: N803
    asked, number = info.context, _PIPELINE_ID.fullmatch(pipelineId)
    row = number and db.one(asked.connection, "SELECT * FROM ci_pipelines WHERE id = ?", number[1])
    project = row and db.one(asked.connection, "SELECT full_path FROM projects WHERE id = ?", row["project_id"])
    if row is None or project is None or asked.project(project["full_path"], 0) is None:
        raise GraphQLError("Unauthorized subscription")
    return {"id": pipelineId, "iid": str(row["iid"]), "status": row["status"].upper()} if asked.is_news else None


def _project(_: Any, info: Info, *, fullPath: str) -> Values | None:  # noqa: N803
    row = info.context.project(fullPath, 0)
    return (
        None if row is None else {"id": f"gid://gitlab/Project/{row['id']}", "fullPath": row["full_path"], "row": row}
    )


def _rules(project: Values, info: Info, first: int | None = None) -> Values:
    asked, row = info.context, project["row"]
    # Each rule is for maintainers only; others get an empty list.
    seen = asked.project(row["full_path"], access.MAINTAINER) is not None
    found = container_protection.rules(asked.connection, TAG_RULES, row["id"]) if seen else []
    return {"nodes": [_present(rule) for rule in found[:first]]}


def _create(_: Any, info: Info, *, input: Values) -> Values:  # noqa: A002
    asked = _changing(info)
    project = asked.project(input["projectPath"], access.MAINTAINER)
    if project is None:
        raise GraphQLError(_ABSENT)
    levels = [input.get(name) for name in ("minimumAccessLevelForPush", "minimumAccessLevelForDelete")]
    rule = Rule(input["tagNamePattern"], *(level.lower() if level else None for level in levels))

    def save() -> db.Row:
        return container_protection.save_tag_rule(asked.connection, asked.config, project, rule)

    return _payload(input, save)


def _delete(_: Any, info: Info, *, input: Values) -> Values:  # noqa: A002
    asked, found = _changing(info), _GLOBAL_ID.fullmatch(input["id"])
    row = container_protection.find(asked.connection, TAG_RULES, found[1]) if found else None
    project = row and projects.find(asked.connection, str(row["project_id"]))
    if row is None or project is None or asked.project(project["full_path"], access.MAINTAINER) is None:
        raise GraphQLError(_ABSENT)
    container_protection.remove(asked.connection, TAG_RULES, row)
    return _payload(input, lambda: row)


def _changing(info: Info) -> _Asked:
    """Who asks for a change, with a token that is for changes."""
    asked = info.context
    if asked.who is None or "api" not in asked.who.scopes:
        raise GraphQLError(_ABSENT)
    return asked


def _payload(given: Values, action: Callable[[], db.Row]) -> Values:
    payload: Values = {"clientMutationId": given.get("clientMutationId"), "errors": []}
    try:
        return {**payload, "containerProtectionTagRule": _present(action())}
    except RuleError as error:
        return {**payload, "errors": error.reasons}


def _present(rule: db.Row) -> Values:
    return {
        "id": f"gid://gitlab/ContainerRegistry::Protection::TagRule/{rule['id']}",
        "tagNamePattern": rule["pattern"],
        "minimumAccessLevelForPush": rule["push_level"].upper(),
        "minimumAccessLevelForDelete": rule["delete_level"].upper(),
        "immutable": False,
    }


def _resolve(kind: str, field: str, resolver: Callable[..., Any]) -> None:
    _SCHEMA.type_map[kind].fields[field].resolve = resolver  # type: ignore[attr-defined]


_resolve("Query", "project", _project)
_resolve("Subscription", "ciPipelineStatusUpdated", _pipeline_status)
_resolve("Project", "containerProtectionTagRules", _rules)
_resolve("Mutation", "createContainerProtectionTagRule", _create)
_resolve("Mutation", "deleteContainerProtectionTagRule", _delete)

routes = [Route("/api/graphql", graphql, methods=["POST"])]
