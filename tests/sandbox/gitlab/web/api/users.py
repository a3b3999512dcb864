"""Users."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.responses import Response

from ..core import db, passwords, users
from ..core.errors import ApiError, not_found, rejected
from .call import Call, created, no_content, page, route


def current(call: Call) -> dict[str, Any]:
    """Who asks."""
    who = call.user("read_user")
    return users.present(who.user, call.config.external_url, full=True)


def listing(call: Call) -> Response:
    """Users, by name or by a part of it."""
    who = call.user("read_user")
    query, values = "SELECT * FROM users", []
    if username := call.text("username"):
        query, values = f"{query} WHERE username = ?", [username]
    elif search := call.text("search"):
        query, values = f"{query} WHERE username LIKE ? OR name LIKE ? OR email = ?", [f"%{search}%"] * 2 + [search]
    rows = call.connection.execute(f"{query} ORDER BY id DESC", values).fetchall()
    return page(call, [users.present(row, call.config.external_url, full=who.admin) for row in rows])


def get(call: Call) -> dict[str, Any]:
    """One user."""
    who = call.user("read_user")
    return users.present(find(call), call.config.external_url, full=who.admin)


def create(call: Call) -> Response:
    """Make a user; for administrators."""
    call.admin()
    call.require("email", "name", "username")
    random = call.flag("force_random_password") or call.flag("reset_password")
    password = secrets.token_urlsafe(24) if random else call.text("password")
    if not password:
        raise ApiError(
            400,
            {
                "error": "password, reset_password, force_random_password are missing, at least one parameter "
                "must be provided"
            },
        )
    row = users.create(
        call.connection,
        username=call.text("username") or "",
        name=call.text("name") or "",
        email=call.text("email") or "",
        password=password,
        admin=bool(call.flag("admin", False)),
    )
    return created(users.present(row, call.config.external_url, full=True))


def update(call: Call) -> dict[str, Any]:
    """Change name, password or rights of a user; for administrators."""
    call.admin()
    row = find(call)
    changes: dict[str, object] = {}
    if name := call.text("name"):
        changes["name"] = name
    if (admin := call.flag("admin")) is not None:
        changes["admin"] = int(admin)
    if password := call.text("password"):
        reason = passwords.weakness(password, row["username"], row["name"], row["email"])
        if reason:
            raise rejected("password", reason)
        changes["password_digest"] = passwords.digest(password)
    for column, value in changes.items():
        call.connection.execute(f"UPDATE users SET {column} = ? WHERE id = ?", (value, row["id"]))  # noqa: S608
    return users.present(users.get(call.connection, row["id"]), call.config.external_url, full=True)


def approve(call: Call) -> Response:
    """Let in a user who waits for it; for administrators."""
    call.admin()
    row = find(call)
    if row["state"] != "blocked_pending_approval":
        raise ApiError(409, {"message": "The user you are trying to approve is not pending approval"})
    call.connection.execute("UPDATE users SET state = 'active' WHERE id = ?", (row["id"],))
    return created({"message": "Success"})


def delete(call: Call) -> Response:
    """Remove a user and what is theirs; for administrators."""
    who = call.admin()
    row = find(call)
    if row["id"] == who.user["id"]:
        raise ApiError(409, {"message": "409 Conflict: you can not delete yourself"})
    call.connection.execute("DELETE FROM users WHERE id = ?", (row["id"],))
    return no_content()


def find(call: Call) -> db.Row:
    """The user that the path names."""
    row = db.one(call.connection, "SELECT * FROM users WHERE id = ?", call.path("id"))
    if row is None:
        raise not_found("User")
    return row


routes = [
    *route("/user", GET=current),
    *route("/users", GET=listing, POST=create),
    *route("/users/{id:int}", GET=get, PUT=update, DELETE=delete),
    *route("/users/{id:int}/approve", POST=approve),
]
