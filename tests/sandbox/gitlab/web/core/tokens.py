"""Personal access tokens: format, scopes, expiry."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from datetime import date, timedelta
from typing import Any

from . import db
from .errors import ApiError

#: Scopes that Community Edition takes for a user's token.
USER_SCOPES = (
    "api",
    "read_api",
    "read_user",
    "create_runner",
    "manage_runner",
    "k8s_proxy",
    "self_rotate",
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "read_virtual_registry",
    "write_virtual_registry",
    "ai_features",
)
#: Scopes that only an administrator's token can have.
ADMIN_SCOPES = ("sudo", "admin_mode", "read_service_ping")
LONGEST = timedelta(days=365)
PREFIX = "glpat-"


def generate(prefix: str = PREFIX) -> str:
    """A new token of the real shape."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    return prefix + "".join(secrets.choice(alphabet) for _ in range(20))


def digest(token: str, key: str) -> str:
    """What is kept of a token."""
    return base64.b64encode(hashlib.sha256((token + key).encode()).digest()).decode()


def check_scopes(scopes: list[str], admin: bool) -> None:
    """Refuse scopes that there are not."""
    known = {*USER_SCOPES, *(ADMIN_SCOPES if admin else ())}
    if not scopes:
        raise ApiError(400, {"message": "Scopes can't be blank"})
    if set(scopes) - known:
        raise ApiError(400, {"message": "Scopes can only contain available scopes"})


def check_expiry(expires: date) -> None:
    """Refuse a day that is too far off."""
    last = db.today() + LONGEST
    if expires > last:
        raise ApiError(400, {"message": f"Expiration date must be before {last.isoformat()}"})


def create(
    connection: db.Connection,
    key: str,
    user: db.Row,
    *,
    name: str,
    scopes: list[str],
    expires: date | None,
    description: str | None = None,
) -> tuple[db.Row, str]:
    """Make a token; answer its row and the token itself, which is known only now."""
    check_scopes(scopes, bool(user["admin"]))
    expires = expires or db.today() + LONGEST
    check_expiry(expires)
    token = generate()
    identity = db.insert(
        connection,
        "personal_access_tokens",
        user_id=user["id"],
        name=name,
        description=description,
        scopes=json.dumps(scopes),
        token_digest=digest(token, key),
        expires_at=expires.isoformat(),
        created_at=db.now(),
    )
    return find(connection, identity), token


def find(connection: db.Connection, identity: int) -> db.Row:
    """The row of a token that exists."""
    row = db.one(connection, "SELECT * FROM personal_access_tokens WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"token {identity}")
    return row


def expired(row: db.Row) -> bool:
    """A token is good until the day before the one it expires on."""
    return row["expires_at"] is not None and date.fromisoformat(row["expires_at"]) <= db.today()


def present(row: db.Row, token: str | None = None) -> dict[str, Any]:
    """A token as the API shows it; its value only right after it was made."""
    shown: dict[str, Any] = {
        "id": row["id"],
        "name": row["name"],
        "revoked": bool(row["revoked"]),
        "created_at": row["created_at"],
        "description": row["description"],
        "scopes": json.loads(row["scopes"]),
        "user_id": row["user_id"],
        "last_used_at": row["last_used_at"],
        "active": not row["revoked"] and not expired(row),
        "expires_at": row["expires_at"],
    }
    if token is not None:
        shown["token"] = token
    return shown
