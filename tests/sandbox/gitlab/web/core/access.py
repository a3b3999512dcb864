"""Access levels: who may do what with a project or a group."""

from __future__ import annotations

from . import db
from .auth import Principal
from .errors import forbidden, not_found

GUEST, REPORTER, DEVELOPER, MAINTAINER, OWNER = 10, 20, 30, 40, 50


def namespace_level(connection: db.Connection, who: Principal | None, namespace: db.Row | None) -> int:
    """The access level of a user in a namespace, inherited from those around it; 0 for a stranger."""
    if who is None:
        return 0
    level = OWNER if who.admin else 0
    while namespace is not None and level < OWNER:
        if namespace["owner_id"] == who.user["id"]:
            return OWNER
        member = db.one(
            connection,
            "SELECT access_level FROM members WHERE namespace_id = ? AND user_id = ?",
            namespace["id"],
            who.user["id"],
        )
        level = max(level, member["access_level"] if member else 0)
        namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", namespace["parent_id"])
    return level


def project_level(connection: db.Connection, who: Principal | None, project: db.Row) -> int:
    """The access level of a user in a project."""
    namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", project["namespace_id"])
    level = namespace_level(connection, who, namespace)
    if who is not None and level < OWNER:
        member = db.one(
            connection,
            "SELECT access_level FROM members WHERE project_id = ? AND user_id = ?",
            project["id"],
            who.user["id"],
        )
        level = max(level, member["access_level"] if member else 0)
    return level


def visible(who: Principal | None, row: db.Row, level: int) -> bool:
    """Whether a project or group can be seen at all."""
    return bool(level) or row["visibility"] == "public" or (who is not None and row["visibility"] == "internal")


def require_level(level: int, least: int, who: Principal | None, row: db.Row, what: str) -> None:
    """Refuse: as absent to who may not see it, as forbidden to who may."""
    if not visible(who, row, level):
        raise not_found(what)
    if level < least:
        raise forbidden()
