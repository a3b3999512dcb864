"""Users, and each user's own namespace."""

from __future__ import annotations

from typing import Any

from . import db, passwords
from .errors import ApiError, rejected


def create(
    connection: db.Connection, *, username: str, name: str, email: str, password: str, admin: bool = False
) -> db.Row:
    """Make a user with a namespace. Refuses taken names and weak passwords."""
    reason = passwords.weakness(password, username, name, email)
    if reason:
        raise rejected("password", reason)
    if db.one(connection, "SELECT 1 FROM users WHERE email = ?", email):
        raise ApiError(409, {"message": "Email has already been taken"})
    if db.one(connection, "SELECT 1 FROM namespaces WHERE full_path = ?", username):
        raise ApiError(409, {"message": "Username has already been taken"})
    identity = db.insert(
        connection,
        "users",
        username=username,
        name=name,
        email=email,
        password_digest=passwords.digest(password),
        admin=int(admin),
        created_at=db.now(),
    )
    db.insert(
        connection,
        "namespaces",
        kind="user",
        path=username,
        full_path=username,
        name=name,
        owner_id=identity,
        created_at=db.now(),
    )
    return get(connection, identity)


def get(connection: db.Connection, identity: int) -> db.Row:
    """The row of a user who exists."""
    row = db.one(connection, "SELECT * FROM users WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"user {identity}")
    return row


def by_login(connection: db.Connection, login: str) -> db.Row | None:
    """By name or by address of mail, as the sign-in does."""
    return db.one(connection, "SELECT * FROM users WHERE username = ? OR email = ?", login, login)


def present(row: db.Row, external_url: str, full: bool = False) -> dict[str, Any]:
    """A user as the API shows them; `full` for themselves and for administrators."""
    shown: dict[str, Any] = {
        "id": row["id"],
        "username": row["username"],
        "public_email": "",
        "name": row["name"],
        "state": row["state"],
        "locked": False,
        "avatar_url": None,
        "web_url": f"{external_url}/{row['username']}",
    }
    if full:
        shown |= {
            "created_at": row["created_at"],
            "email": row["email"],
            "commit_email": row["email"],
            "confirmed_at": row["created_at"],
            "is_admin": bool(row["admin"]),
            "bot": row["bot_of_project"] is not None,
            "two_factor_enabled": bool(row["otp_required_for_login"]),
            "external": False,
            "private_profile": False,
            "can_create_group": True,
            "can_create_project": True,
            "projects_limit": 100_000,
            "identities": [],
        }
    return shown
