"""Deploy tokens: access to one project, or to the projects of one group, without a user."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from . import db, sealing, tokens
from .config import Config
from .errors import ApiError

PREFIX = "gldt-"
SCOPES = (
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "read_virtual_registry",
    "write_virtual_registry",
    "read_package_registry",
    "write_package_registry",
)
#: The jobs of a project receive its deploy token of this name.
FOR_JOBS = "gitlab-deploy-token"


def create(
    connection: db.Connection,
    config: Config,
    *,
    owner: tuple[str, int],
    creator_id: int,
    name: str,
    scopes: list[str],
    username: str | None,
    expires_at: str | None,
) -> tuple[db.Row, str]:
    """Make a token; `owner` is `project_id` or `namespace_id` with its number. The token itself is known only now."""
    if not scopes or set(scopes) - set(SCOPES):
        raise ApiError(400, {"error": "scopes does not have a valid value"})
    if username and not all(character.isalnum() or character in "_+.-" for character in username):
        reason = "can contain only letters, digits, '_', '-', '+', and '.'"
        raise ApiError(400, {"message": {"username": [reason]}})
    column, number = owner
    token = tokens.generate(PREFIX)
    identity = db.insert(
        connection,
        "deploy_tokens",
        **{column: number},
        creator_id=creator_id,
        name=name,
        username=username,
        scopes=json.dumps(sorted(scopes, key=SCOPES.index)),
        token_digest=tokens.digest(token, config.db_key_base),
        encrypted_token=sealing.seal(config, token),
        expires_at=expires_at,
        created_at=db.now(),
    )
    if not username:
        connection.execute(
            "UPDATE deploy_tokens SET username = ? WHERE id = ?", (f"gitlab+deploy-token-{identity}", identity)
        )
    row = db.one(connection, "SELECT * FROM deploy_tokens WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"deploy token {identity}")
    return row, token


def find(connection: db.Connection, config: Config, username: str, token: str) -> db.Row | None:
    """The token that fits a name, unless it was revoked or has expired."""
    row = db.one(
        connection,
        "SELECT * FROM deploy_tokens WHERE username = ? AND token_digest = ?",
        username,
        tokens.digest(token, config.db_key_base),
    )
    return row if row is not None and active(row) else None


def active(row: db.Row) -> bool:
    """Whether a token is good today."""
    return not row["revoked"] and not expired(row)


def expired(row: db.Row) -> bool:
    """Whether its moment has come."""
    text = row["expires_at"]
    return text is not None and db.read(text) <= datetime.now(UTC)


def reaches(connection: db.Connection, row: db.Row, project: db.Row) -> bool:
    """Whether a token is for a project: its own, or one somewhere in its group."""
    if row["project_id"] is not None:
        return bool(row["project_id"] == project["id"])
    namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", project["namespace_id"])
    while namespace is not None:
        if namespace["id"] == row["namespace_id"]:
            return True
        namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", namespace["parent_id"])
    return False


def for_jobs(connection: db.Connection, config: Config, project_id: int) -> tuple[str, str] | None:
    """Name and token that jobs of a project receive as CI_DEPLOY_USER and CI_DEPLOY_PASSWORD."""
    rows = connection.execute(
        "SELECT * FROM deploy_tokens WHERE project_id = ? AND name = ? ORDER BY id", (project_id, FOR_JOBS)
    )
    return next(
        (
            (row["username"], sealing.unseal(config, row["encrypted_token"]))
            for row in rows
            if active(row) and row["encrypted_token"]
        ),
        None,
    )


def present(row: db.Row, token: str | None = None) -> dict[str, Any]:
    """A token as the API shows it; its value only right after it was made."""
    shown: dict[str, Any] = {
        "id": row["id"],
        "name": row["name"],
        "username": row["username"],
        "expires_at": row["expires_at"],
        "scopes": json.loads(row["scopes"]),
        "revoked": bool(row["revoked"]),
        "expired": expired(row),
    }
    if token is not None:
        shown["token"] = token
    return shown
