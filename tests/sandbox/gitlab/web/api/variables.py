"""CI variables of projects, groups and the instance."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..core import access, db, sealing, variables
from ..core.errors import ApiError, not_found, rejected
from .call import Call, created, no_content, page, route
from .lookup import find_group, find_project

FLAGS = ("protected", "masked", "raw")


def listing(call: Call) -> Response:
    """All variables of an owner."""
    column, number = _owner(call)
    rows = call.connection.execute(f"SELECT * FROM variables WHERE {column} IS ? AND {_rest(column)}", (number,))  # noqa: S608
    return page(call, [_present(call, row) for row in rows])


def get(call: Call) -> dict[str, Any]:
    """One variable."""
    return _present(call, _find(call))


def create(call: Call) -> Response:
    """Make a variable."""
    column, number = _owner(call)
    call.require("key", "value")
    key, value = call.text("key") or "", call.text("value") or ""
    hidden = bool(call.flag("masked_and_hidden", False))
    masked = bool(call.flag("masked", False)) or hidden
    variables.check_key(key)
    raw = bool(call.flag("raw", False))
    variables.check_value(value, masked, raw)
    scope = call.text("environment_scope", "*") or "*"
    if any(row["environment_scope"] == scope for row in _named(call, key)):
        raise variables.taken(key)
    identity = db.insert(
        call.connection,
        "variables",
        **({column: number} if number is not None else {}),
        key=key,
        encrypted_value=sealing.seal(call.config, value),
        variable_type=call.choice("variable_type", variables.TYPES, "env_var"),
        protected=int(bool(call.flag("protected", False))),
        masked=int(masked),
        hidden=int(hidden),
        raw=int(raw),
        environment_scope=scope,
        description=call.text("description"),
    )
    return created(_present(call, _row(call, identity)))


def update(call: Call) -> dict[str, Any]:
    """Change a variable."""
    _owner(call)
    row = _find(call)
    changes: dict[str, object] = {name: int(bool(call.flag(name))) for name in FLAGS if call.flag(name) is not None}
    if row["hidden"] and not changes.get("masked", 1):
        raise rejected("masked", "Masked and Hidden variables can't be unmasked.")
    value = call.text("value")
    known = sealing.unseal(call.config, row["encrypted_value"])
    masked, raw = (bool(changes.get(name, row[name])) for name in ("masked", "raw"))
    variables.check_value(known if value is None else value, masked, raw)
    if value is not None:
        changes["encrypted_value"] = sealing.seal(call.config, value)
    if kind := call.choice("variable_type", variables.TYPES):
        changes["variable_type"] = kind
    for name in ("environment_scope", "description"):
        if name in call.params:
            changes[name] = call.text(name)
    for column, new in changes.items():
        call.connection.execute(f"UPDATE variables SET {column} = ? WHERE id = ?", (new, row["id"]))  # noqa: S608
    return _present(call, _row(call, row["id"]))


def delete(call: Call) -> Response:
    """Remove a variable."""
    call.connection.execute("DELETE FROM variables WHERE id = ?", (_find(call)["id"],))
    return no_content()


def _owner(call: Call) -> tuple[str, int | None]:
    """Whose variables the path means, for somebody who may see them: a column and its value."""
    call.user()
    path = call.request.url.path.removeprefix("/api/v4/")
    if path.startswith("admin/"):
        call.admin()
        return "project_id", None
    if path.startswith("groups/"):
        return "namespace_id", find_group(call, access.OWNER)["id"]
    project, _ = find_project(call, access.MAINTAINER)
    return "project_id", project["id"]


def _rest(column: str) -> str:
    return "project_id IS NULL" if column == "namespace_id" else "namespace_id IS NULL"


def _named(call: Call, key: str) -> list[db.Row]:
    column, number = _owner(call)
    query = f"SELECT * FROM variables WHERE {column} IS ? AND {_rest(column)} AND key = ? ORDER BY id"  # noqa: S608
    return call.connection.execute(query, (number, key)).fetchall()


def _find(call: Call) -> db.Row:
    rows = _named(call, call.path("key"))
    wanted = call.params.get("filter")
    if isinstance(wanted, dict) and "environment_scope" in wanted:
        rows = [row for row in rows if row["environment_scope"] == wanted["environment_scope"]]
    if not rows:
        raise not_found("Variable" if "projects/" in call.request.url.path else "GroupVariable")
    if len(rows) > 1:
        words = "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'"
        raise ApiError(409, {"message": words})
    return rows[0]


def _row(call: Call, identity: int) -> db.Row:
    row = db.one(call.connection, "SELECT * FROM variables WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"variable {identity}")
    return row


def _present(call: Call, row: db.Row) -> dict[str, Any]:
    shown = {
        "variable_type": row["variable_type"],
        "key": row["key"],
        "value": None if row["hidden"] else sealing.unseal(call.config, row["encrypted_value"]),
        "protected": bool(row["protected"]),
        "masked": bool(row["masked"]),
        "raw": bool(row["raw"]),
        "description": row["description"],
    }
    if row["project_id"] is not None or row["namespace_id"] is not None:
        shown |= {"hidden": bool(row["hidden"]), "environment_scope": row["environment_scope"]}
    return shown


routes = [
    *route("/projects/{id}/variables", GET=listing, POST=create),
    *route("/projects/{id}/variables/{key}", GET=get, PUT=update, DELETE=delete),
    *route("/groups/{id}/variables", GET=listing, POST=create),
    *route("/groups/{id}/variables/{key}", GET=get, PUT=update, DELETE=delete),
    *route("/admin/ci/variables", GET=listing, POST=create),
    *route("/admin/ci/variables/{key}", GET=get, PUT=update, DELETE=delete),
]
