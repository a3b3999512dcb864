"""Rules that protect tags and repositories of the container registry."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from ..core import access, container_protection, db
from ..core.container_protection import LEVELS, REPOSITORY_RULES, TAG_RULES, Rule, RuleError
from ..core.errors import ApiError, not_found
from .call import Call, created, no_content, route
from .lookup import find_project

_PUSH, _DELETE = "minimum_access_level_for_push", "minimum_access_level_for_delete"
_NAMES = {TAG_RULES: "tag_name_pattern", REPOSITORY_RULES: "repository_path_pattern"}


def list_tag_rules(call: Call) -> Response:
    """All rules for tags: there are few, and no pages."""
    return _all(call, TAG_RULES)


def create_tag_rule(call: Call) -> Response:
    """Protect the tags that an expression matches."""
    project = _project(call)
    call.require(_NAMES[TAG_RULES], _PUSH, _DELETE)
    try:
        row = container_protection.save_tag_rule(call.connection, call.config, project, _asked(call, TAG_RULES))
    except RuleError as error:
        raise ApiError(422, {"message": error.message}) from None
    return created(_present(TAG_RULES, row))


def update_tag_rule(call: Call) -> dict[str, Any]:
    """Change a rule for tags."""
    project, row = _rule(call, TAG_RULES)
    try:
        merged = _merged(call, TAG_RULES, row)
        saved = container_protection.save_tag_rule(call.connection, call.config, project, merged, row["id"])
    except RuleError as error:
        raise _refused(error) from None
    return _present(TAG_RULES, saved)


def delete_tag_rule(call: Call) -> Response:
    """Take a rule for tags away."""
    return _delete(call, TAG_RULES)


def list_repository_rules(call: Call) -> Response:
    """All rules for repositories."""
    return _all(call, REPOSITORY_RULES)


def create_repository_rule(call: Call) -> Response:
    """Protect the repositories that a path with wildcards matches."""
    project = _project(call)
    call.require(_NAMES[REPOSITORY_RULES])
    if not {_PUSH, _DELETE} & call.params.keys():
        words = f"{_PUSH}, {_DELETE} are missing, at least one parameter must be provided"
        raise ApiError(400, {"error": words})
    try:
        row = container_protection.save_repository_rule(call.connection, project, _asked(call, REPOSITORY_RULES))
    except RuleError as error:
        raise _refused(error) from None
    return created(_present(REPOSITORY_RULES, row))


def update_repository_rule(call: Call) -> dict[str, Any]:
    """Change a rule for repositories."""
    project, row = _rule(call, REPOSITORY_RULES)
    try:
        merged = _merged(call, REPOSITORY_RULES, row)
        saved = container_protection.save_repository_rule(call.connection, project, merged, row["id"])
    except RuleError as error:
        raise _refused(error) from None
    return _present(REPOSITORY_RULES, saved)


def delete_repository_rule(call: Call) -> Response:
    """Take a rule for repositories away."""
    return _delete(call, REPOSITORY_RULES)


def _refused(error: RuleError) -> ApiError:
    return ApiError(422, {"message": {"error": error.message}})


def _project(call: Call) -> db.Row:
    call.user()
    return find_project(call, access.MAINTAINER)[0]


def _rule(call: Call, table: str) -> tuple[db.Row, db.Row]:
    project = _project(call)
    row = container_protection.find(call.connection, table, call.path("rule"))
    if row is None or row["project_id"] != project["id"]:
        raise not_found()
    return project, row


def _level(call: Call, name: str, *also: str) -> str | None:
    return call.choice(name, (*LEVELS, *also))


def _asked(call: Call, table: str) -> Rule:
    return Rule(call.text(_NAMES[table]) or "", _level(call, _PUSH), _level(call, _DELETE))


def _merged(call: Call, table: str, row: db.Row) -> Rule:
    """What a change leaves: an empty level unsets it."""
    push, delete = (
        _level(call, name, "") if name in call.params else row[column]
        for name, column in ((_PUSH, "push_level"), (_DELETE, "delete_level"))
    )
    return Rule(call.text(_NAMES[table], row["pattern"]) or "", push, delete)


def _all(call: Call, table: str) -> Response:
    project = _project(call)
    found = container_protection.rules(call.connection, table, project["id"])
    return JSONResponse([_present(table, row) for row in found])


def _delete(call: Call, table: str) -> Response:
    container_protection.remove(call.connection, table, _rule(call, table)[1])
    return no_content()


def _present(table: str, row: db.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "project_id": row["project_id"],
        _NAMES[table]: row["pattern"],
        _PUSH: row["push_level"],
        _DELETE: row["delete_level"],
    }


_TAGS, _REPOSITORIES = (f"/projects/{{id}}/registry/protection/{kind}/rules" for kind in ("tag", "repository"))
routes = [
    *route(_TAGS, GET=list_tag_rules, POST=create_tag_rule),
    *route(f"{_TAGS}/{{rule:int}}", PATCH=update_tag_rule, DELETE=delete_tag_rule),
    *route(_REPOSITORIES, GET=list_repository_rules, POST=create_repository_rule),
    *route(f"{_REPOSITORIES}/{{rule:int}}", PATCH=update_repository_rule, DELETE=delete_repository_rule),
]
