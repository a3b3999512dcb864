"""Groups and users' namespaces: lookup, rules for paths, JSON."""

from __future__ import annotations

import re
from typing import Any

from . import access, db
from .auth import Principal
from .errors import ApiError, rejected

#: `lib/gitlab/regex.rb`: what can be a part of an image's name.
PATH = re.compile(r"[a-zA-Z0-9]+([._-][a-zA-Z0-9]+)*\Z")
PATH_RULE = (
    "can only include non-accented letters, digits, '_', '-' and '.'. It must not start with '-', '_', or '.', nor end "
    "with '-', '_', '.', '.git', or '.atom'."
)
LONGEST = 255
#: `lib/gitlab/path_regex.rb`: addresses of GitLab's own, below a project or a group, and at the top.
BELOW = {
    "badges", "blame", "blob", "builds", "commits", "create", "create_dir", "edit", "files", "find_file", "new",
    "preview", "raw", "refs", "tree", "update", "wikis",
}  # fmt: skip
TOP = {
    "abuse_reports", "admin", "api", "assets", "autocomplete", "dashboard", "explore", "favicon.ico", "files",
    "groups", "health_check", "help", "import", "invites", "jwt", "login", "notification_settings", "oauth",
    "profile", "projects", "public", "robots.txt", "s", "search", "sitemap", "sitemap.xml", "snippets", "unsubscribes",
    "uploads", "users", "v2",
}  # fmt: skip
#: `\p{Alnum}`, `\p{Pd}` and emoji are all that is no control or other symbol of ASCII.
NAME = re.compile(r"[\w\u00a9-\U0001f9ff][\w\u00a9-\U0001f9ff+. \-\u2010-\u2015]*\Z")
NAME_RULE = (
    "can contain only letters, digits, emoji, '_', '.', '+', dashes, or spaces. It must start with a letter, digit, "
    "emoji, or '_'."
)
VISIBILITIES = ("private", "internal", "public")


def check_path(path: str, reserved: set[str], *fields: str) -> None:
    """Refuse a path that could not be an address."""
    wrong = []
    if not PATH.match(path) or path.endswith((".git", ".atom")):
        wrong.append(PATH_RULE)
    if path.lower() in reserved:
        wrong.append(f"{path} is a reserved name")
    if len(path) > LONGEST:
        wrong.append(f"is too long (maximum is {LONGEST} characters)")
    if wrong:
        raise ApiError(400, {"message": dict.fromkeys(fields or ("path",), wrong)})


def check_project(name: str, path: str) -> None:
    """Refuse names of a project; a project has a namespace of its own, which is checked as well."""
    check_path(path, BELOW, "project_namespace.path", "path")
    if not NAME.match(name):
        raise rejected("name", NAME_RULE)


def find(connection: db.Connection, key: str, kind: str | None = None) -> db.Row | None:
    """By number or by full path."""
    column = "id" if key.isdigit() else "full_path"
    row = db.one(connection, f"SELECT * FROM namespaces WHERE {column} = ?", key)  # noqa: S608
    return row if row is None or kind in (None, row["kind"]) else None


def ensure_free(connection: db.Connection, full_path: str) -> None:
    """Refuse a path that a group, user or project has."""
    for table in ("namespaces", "projects"):
        if db.one(connection, f"SELECT 1 FROM {table} WHERE full_path = ? COLLATE NOCASE", full_path):  # noqa: S608
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
