"""Accounts that a provider of sign-in or a directory brings."""

from __future__ import annotations

import re
import secrets

from . import db, users


def create(connection: db.Connection, wanted: str, name: str | None, email: str, *, blocked: bool) -> db.Row:
    """An account with a free name close to the wanted one, which may wait for an administrator's approval."""
    base = re.sub(r"[^A-Za-z0-9_.-]", "", wanted or email.partition("@")[0]) or "user"
    number, username = 0, base
    while db.one(connection, "SELECT 1 FROM namespaces WHERE full_path = ?", username):
        number += 1
        username = f"{base}{number}"
    user = users.create(
        connection, username=username, name=name or username, email=email, password=secrets.token_urlsafe(32)
    )
    state = "blocked_pending_approval" if blocked else "active"
    connection.execute("UPDATE users SET password_automatically_set = 1, state = ? WHERE id = ?", (state, user["id"]))
    return users.get(connection, user["id"])
