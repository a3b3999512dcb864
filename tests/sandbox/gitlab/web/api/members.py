"""Members of projects and groups."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..core import access, db, group_rules, users
from ..core.errors import ApiError, forbidden, invalid, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_group, find_project

LEVELS = (5, access.GUEST, 15, access.REPORTER, access.DEVELOPER, access.MAINTAINER, access.OWNER)


def listing(call: Call) -> Response:
    """Direct members."""
    column, number, _ = _owner(call, 0)
    return page(call, [_present(call, row) for row in _rows(call, column, number)])


def list_all(call: Call) -> Response:
    """Members, also those of the groups around; each with their highest level."""
    column, number, _ = _owner(call, 0)
    found: dict[int, db.Row] = {}
    for row in _inherited(call, column, number):
        known = found.get(row["user_id"])
        if known is None or known["access_level"] < row["access_level"]:
            found[row["user_id"]] = row
    return page(call, [_present(call, row) for row in found.values()])


def get(call: Call) -> dict[str, Any]:
    """One direct member."""
    column, number, _ = _owner(call, 0)
    return _present(call, _find(call, column, number))


def get_any(call: Call) -> dict[str, Any]:
    """One member, also of a group around."""
    column, number, _ = _owner(call, 0)
    rows = [row for row in _inherited(call, column, number) if row["user_id"] == _number(call)]
    if not rows:
        raise not_found()
    return _present(call, max(rows, key=lambda row: int(row["access_level"])))


def create(call: Call) -> Response:
    """Add a member; nobody gives more than they have."""
    column, number, level = _owner(call, access.MAINTAINER)
    call.require("access_level")
    wanted = _level(call, level)
    username, identity = call.text("username"), call.integer("user_id")
    if identity is None and not username:
        raise ApiError(400, {"error": "user_id, username are missing, at least one parameter must be provided"})
    user = db.one(call.connection, "SELECT * FROM users WHERE id = ? OR username = ?", identity, username)
    if user is None:
        raise not_found("User")
    if any(row["user_id"] == user["id"] for row in _rows(call, column, number)):
        raise ApiError(409, {"message": "Member already exists"})
    _refuse_less_than_inherited(call, column, number, user["id"], wanted)
    db.insert(call.connection, "members", user_id=user["id"], **{column: number}, access_level=wanted)
    row = next(row for row in _rows(call, column, number) if row["user_id"] == user["id"])
    return created(_present(call, row))


def update(call: Call) -> dict[str, Any]:
    """Change the level of a member."""
    column, number, level = _owner(call, access.MAINTAINER)
    call.require("access_level")
    row = _find(call, column, number)
    if row["access_level"] > level or _is_last_owner(call, column, number, row):
        raise forbidden()
    query = f"UPDATE members SET access_level = ? WHERE {column} = ? AND user_id = ?"  # noqa: S608
    call.connection.execute(query, (_level(call, level), number, row["user_id"]))
    return _present(call, _find(call, column, number))


def delete(call: Call) -> Response:
    """Take a member out; oneself always. A group's member also leaves all that is inside, unless that is skipped."""
    who = call.user()
    column, number, level = _owner(call, 0)
    row = _find(call, column, number)
    if row["user_id"] != who.user["id"] and (level < access.MAINTAINER or row["access_level"] > level):
        raise forbidden()
    if _is_last_owner(call, column, number, row):
        raise forbidden()
    query = f"DELETE FROM members WHERE {column} = ? AND user_id = ?"  # noqa: S608
    call.connection.execute(query, (number, row["user_id"]))
    if column == "namespace_id" and not call.flag("skip_subresources", False):
        _leave_what_is_inside(call, number, row["user_id"])
    return no_content()


def _is_last_owner(call: Call, column: str, number: int, row: db.Row) -> bool:
    """As `GroupMemberPolicy`: nobody may take the last owner from a group, not even an administrator."""
    return column == "namespace_id" and group_rules.is_last_owner(_inherited(call, column, number), row["user_id"])


def _leave_what_is_inside(call: Call, number: int, user_id: int) -> None:
    """As `Members::DestroyService#delete_subresources`."""
    group = db.one(call.connection, "SELECT full_path FROM namespaces WHERE id = ?", number)
    below = f"{group['full_path'] if group else ''}/"
    for column, table in (("project_id", "projects"), ("namespace_id", "namespaces")):
        inside = f"SELECT id FROM {table} WHERE substr(full_path, 1, ?) = ?"  # noqa: S608
        query = f"DELETE FROM members WHERE user_id = ? AND {column} IN ({inside})"  # noqa: S608
        call.connection.execute(query, (user_id, len(below), below))


def _owner(call: Call, least: int) -> tuple[str, int, int]:
    """Whose members the path means: a column, its value, and the level of who asks."""
    call.user()
    if call.request.url.path.startswith("/api/v4/groups/"):
        group = find_group(call, access.OWNER if least else 0)
        return "namespace_id", group["id"], access.namespace_level(call.connection, call.who, group)
    project, level = find_project(call, least)
    return "project_id", project["id"], level


def _rows(call: Call, column: str, number: int) -> list[db.Row]:
    query = f"SELECT user_id, access_level FROM members WHERE {column} = ? ORDER BY rowid"  # noqa: S608
    return call.connection.execute(query, (number,)).fetchall()


def _inherited(call: Call, column: str, number: int) -> list[db.Row]:
    rows = _rows(call, column, number)
    if column == "project_id":
        project = db.one(call.connection, "SELECT namespace_id FROM projects WHERE id = ?", number)
        following = project["namespace_id"] if project else None
    else:
        group = db.one(call.connection, "SELECT parent_id FROM namespaces WHERE id = ?", number)
        following = group["parent_id"] if group else None
    if following is None:
        return rows
    namespace = db.one(call.connection, "SELECT * FROM namespaces WHERE id = ?", following)
    if namespace is not None and namespace["kind"] == "user":
        query = "SELECT id AS user_id, 50 AS access_level FROM users WHERE id = ?"
        return rows + call.connection.execute(query, (namespace["owner_id"],)).fetchall()
    return rows + _inherited(call, "namespace_id", following)


def _number(call: Call) -> int:
    return int(call.request.path_params["user"])


def _find(call: Call, column: str, number: int) -> db.Row:
    row = next((row for row in _rows(call, column, number) if row["user_id"] == _number(call)), None)
    if row is None:
        raise not_found()
    return row


def _refuse_less_than_inherited(call: Call, column: str, number: int, user_id: int, wanted: int) -> None:
    """As GitLab's `Member#higher_access_level_than_group`: a group around gives its members at least their access."""
    direct = {row["user_id"] for row in _rows(call, column, number)} & {user_id}
    above = [row for row in _inherited(call, column, number) if row["user_id"] == user_id]
    highest = max((row["access_level"] for row in above[len(direct) :]), default=0)
    if highest > wanted:
        name = {access.GUEST: "Guest", 15: "Planner", 20: "Reporter", 30: "Developer", 40: "Maintainer"}
        words = f"should be greater than or equal to {name.get(highest, 'Owner')} inherited membership from group"
        raise ApiError(400, {"message": {"access_level": [f"{words} {_group_name(call, column, number)}"]}})


def _group_name(call: Call, column: str, number: int) -> str:
    if column == "project_id":
        query = "SELECT name FROM namespaces WHERE id = (SELECT namespace_id FROM projects WHERE id = ?)"
    else:
        query = "SELECT name FROM namespaces WHERE id = (SELECT parent_id FROM namespaces WHERE id = ?)"
    row = db.one(call.connection, query, number)
    return str(row["name"]) if row is not None else ""


def _level(call: Call, own: int) -> int:
    wanted = call.integer("access_level")
    if wanted not in LEVELS:
        raise invalid("access_level", "does not have a valid value")
    if wanted > own:
        raise forbidden()
    return wanted


def _present(call: Call, row: db.Row) -> dict[str, Any]:
    user = users.get(call.connection, row["user_id"])
    return users.present(user, call.config.external_url) | {
        "access_level": row["access_level"],
        "created_at": user["created_at"],
        "expires_at": None,
        "created_by": None,
        "membership_state": "active",
        "member_role": None,
    }


routes = [
    *(
        made
        for owner in ("projects", "groups")
        for made in (
            *route(f"/{owner}/{{id}}/members", GET=listing, POST=create),
            *route(f"/{owner}/{{id}}/members/all", GET=list_all),
            *route(f"/{owner}/{{id}}/members/all/{{user:int}}", GET=get_any),
            *route(f"/{owner}/{{id}}/members/{{user:int}}", GET=get, PUT=update, DELETE=delete),
        )
    ),
]
