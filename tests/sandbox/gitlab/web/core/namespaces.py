"""Groups and users' namespaces: lookup, rules for paths, JSON."""

from __future__ import annotations

import re
from typing import Any

from . import access, db
from .auth import Principal
from .errors import ApiError, rejected

PATH = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*\Z")
PATH_RULE = (
    "can only include non-accented letters, digits, '_', '-' and '.'. It must not start with '-', '_', or '.', nor end "
    "with '-', '_', '.', '.git', or '.atom'."
)
BAD_ENDS = ("-", "_", ".", ".git", ".atom")
VISIBILITIES = ("private", "internal", "public")


def check_path(path: str) -> None:
    """Refuse a path that could not be an address."""
    if not PATH.match(path) or path.startswith(("-", "_", ".")) or path.endswith(BAD_ENDS):
        raise rejected("path", PATH_RULE)


def find(connection: db.Connection, key: str, kind: str | None = None) -> db.Row | None:
    """By number or by full path."""
    column = "id" if key.isdigit() else "full_path"
    row = db.one(connection, f"SELECT * FROM namespaces WHERE {column} = ?", key)  # noqa: S608
    return row if row is None or kind in (None, row["kind"]) else None


def ensure_free(connection: db.Connection, full_path: str) -> None:
    """Refuse a path that a group, user or project has."""
    for table in ("namespaces", "projects"):
        if db.one(connection, f"SELECT 1 FROM {table} WHERE full_path = ?", full_path):  # noqa: S608
            raise ApiError(400, {"message": {"path": ["has already been taken"], "name": ["has already been taken"]}})


def move(connection: db.Connection, old: str, new: str) -> None:
    """Give a group another full path, and with it all groups and projects inside."""
    for table in ("namespaces", "projects"):
        connection.execute(
            f"UPDATE {table} SET full_path = ? || substr(full_path, ?) "  # noqa: S608
            "WHERE full_path = ? OR substr(full_path, 1, ?) = ?",
            (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
        )


def brief(row: db.Row, external_url: str) -> dict[str, Any]:
    """A namespace inside of something else."""
    prefix = "groups/" if row["kind"] == "group" else ""
    return {
        "id": row["id"],
        "name": row["name"],
        "path": row["path"],
        "kind": row["kind"],
        "full_path": row["full_path"],
        "parent_id": row["parent_id"],
        "avatar_url": None,
        "web_url": f"{external_url}/{prefix}{row['full_path']}",
    }


def visible(connection: db.Connection, who: Principal | None, kind: str | None = None) -> list[db.Row]:
    """All that a user may see; users' namespaces only to themselves and administrators."""
    rows = connection.execute("SELECT * FROM namespaces ORDER BY full_path").fetchall()
    return [
        row
        for row in rows
        if kind in (None, row["kind"]) and access.visible(who, row, access.namespace_level(connection, who, row))
    ]
