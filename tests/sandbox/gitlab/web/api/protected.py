"""Protected branches and protected tags."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..core import access, db, protection
from ..core.errors import ApiError, invalid, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_project

BRANCHES, TAGS = "protected_branches", "protected_tags"


def list_branches(call: Call) -> Response:
    """Rules for branches."""
    return page(call, [present_branch(row) for row in _rows(call, BRANCHES)])


def get_branch(call: Call) -> dict[str, Any]:
    """One rule, by its name or pattern."""
    return present_branch(_find(call, BRANCHES))


def create_branch(call: Call) -> Response:
    """Protect a branch, or all that a pattern means."""
    project = _project(call)
    name = _new_name(call, project, BRANCHES, "Protected branch '{}' already exists")
    identity = db.insert(
        call.connection,
        BRANCHES,
        project_id=project["id"],
        name=name,
        push_level=_level(call, "push_access_level"),
        merge_level=_level(call, "merge_access_level"),
        allow_force_push=int(bool(call.flag("allow_force_push", False))),
    )
    row = db.one(call.connection, "SELECT * FROM protected_branches WHERE id = ?", identity)
    if row is None:
        raise LookupError(name)
    return created(present_branch(row))


def update_branch(call: Call) -> dict[str, Any]:
    """Change whether history may be rewritten. Levels stay: Community Edition changes them only by a new rule."""
    row = _find(call, BRANCHES)
    force = call.flag("allow_force_push")
    if force is not None:
        call.connection.execute(
            "UPDATE protected_branches SET allow_force_push = ? WHERE id = ?", (int(force), row["id"])
        )
    return present_branch(_find(call, BRANCHES))


def delete_branch(call: Call) -> Response:
    """Take a rule away."""
    call.connection.execute("DELETE FROM protected_branches WHERE id = ?", (_find(call, BRANCHES)["id"],))
    return no_content()


def list_tags(call: Call) -> Response:
    """Rules for tags."""
    return page(call, [present_tag(row) for row in _rows(call, TAGS)])


def get_tag(call: Call) -> dict[str, Any]:
    """One rule, by its name or pattern."""
    return present_tag(_find(call, TAGS))


def create_tag(call: Call) -> Response:
    """Protect a tag, or all that a pattern means."""
    project = _project(call)
    name = _new_name(call, project, TAGS, "Protected tag '{}' already exists")
    level = _level(call, "create_access_level")
    db.insert(call.connection, TAGS, project_id=project["id"], name=name, create_level=level)
    row = db.one(call.connection, "SELECT * FROM protected_tags WHERE project_id = ? AND name = ?", project["id"], name)
    if row is None:
        raise LookupError(name)
    return created(present_tag(row))


def delete_tag(call: Call) -> Response:
    """Take a rule away."""
    call.connection.execute("DELETE FROM protected_tags WHERE id = ?", (_find(call, TAGS)["id"],))
    return no_content()


def present_branch(row: db.Row) -> dict[str, Any]:
    """A rule as the API of Community Edition shows it."""
    return {
        "id": row["id"],
        "name": row["name"],
        "push_access_levels": [_present_level(row, row["push_level"])],
        "merge_access_levels": [_present_level(row, row["merge_level"])],
        "allow_force_push": bool(row["allow_force_push"]),
    }


def present_tag(row: db.Row) -> dict[str, Any]:
    """A rule as the API of Community Edition shows it."""
    return {"name": row["name"], "create_access_levels": [_present_level(row, row["create_level"])]}


def _present_level(row: db.Row, level: int) -> dict[str, Any]:
    return {
        "id": row["id"],
        "access_level": level,
        "access_level_description": protection.DESCRIPTIONS[level],
        "deploy_key_id": None,
    }


def _level(call: Call, name: str) -> int:
    level = call.integer(name, access.MAINTAINER)
    if level not in protection.DESCRIPTIONS:
        raise invalid(name, "does not have a valid value")
    return level


def _project(call: Call) -> db.Row:
    call.user()
    return find_project(call, access.MAINTAINER)[0]


def _new_name(call: Call, project: db.Row, table: str, taken: str) -> str:
    call.require("name")
    name = call.text("name") or ""
    if not name:
        raise ApiError(422, {"message": ["Name can't be blank"]})
    query = f"SELECT 1 FROM {table} WHERE project_id = ? AND name = ?"  # noqa: S608
    if db.one(call.connection, query, project["id"], name):
        raise ApiError(409, {"message": taken.format(name)})
    return name


def _rows(call: Call, table: str) -> list[db.Row]:
    call.user()
    project, _ = find_project(call, access.DEVELOPER)
    search = call.text("search") or ""
    query = f"SELECT * FROM {table} WHERE project_id = ? ORDER BY name"  # noqa: S608
    return [row for row in call.connection.execute(query, (project["id"],)) if search in row["name"]]


def _find(call: Call, table: str) -> db.Row:
    least = access.DEVELOPER if call.request.method == "GET" else access.MAINTAINER
    call.user()
    project, _ = find_project(call, least)
    query = f"SELECT * FROM {table} WHERE project_id = ? AND name = ?"  # noqa: S608
    row = db.one(call.connection, query, project["id"], call.path("name"))
    if row is None:
        raise not_found()
    return row


routes = [
    *route("/projects/{id}/protected_branches", GET=list_branches, POST=create_branch),
    *route("/projects/{id}/protected_branches/{name}", GET=get_branch, PATCH=update_branch, DELETE=delete_branch),
    *route("/projects/{id}/protected_tags", GET=list_tags, POST=create_tag),
    *route("/projects/{id}/protected_tags/{name}", GET=get_tag, DELETE=delete_tag),
]
