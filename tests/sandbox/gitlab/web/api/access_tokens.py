"""Project access tokens. Each belongs to a bot user that is a member of that project only."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from ..core import access, db, passwords, tokens, users
from ..core.errors import ApiError, forbidden, invalid, missing, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_project

LEVELS = (access.GUEST, 15, access.REPORTER, access.DEVELOPER, access.MAINTAINER, access.OWNER)
#: Scopes that only a user's own token can have.
USERS_ONLY = {"read_user"}
TOO_HIGH = "Access level of the token can't be greater the access level of the user who created the token."
ROTATED_FOR = timedelta(days=7)


def listing(call: Call) -> Response:
    """Access tokens of a project."""
    project, _ = _project(call)
    query = (
        "SELECT personal_access_tokens.* FROM personal_access_tokens JOIN users ON users.id = user_id "
        "WHERE bot_of_project = ? ORDER BY personal_access_tokens.id"
    )
    found = [_present(call, row, project) for row in call.connection.execute(query, (project["id"],)).fetchall()]
    if (state := call.choice("state", ("active", "inactive"))) is not None:
        found = [token for token in found if token["active"] == (state == "active")]
    if (revoked := call.flag("revoked")) is not None:
        found = [token for token in found if token["revoked"] == revoked]
    return page(call, found)


def get(call: Call) -> dict[str, Any]:
    """One token, without its value."""
    project, _ = _project(call)
    return _present(call, _find(call, project), project)


def create(call: Call) -> Response:
    """Make a token, and the user that it belongs to; its value is shown this once."""
    project, own = _project(call)
    call.require("name", "scopes")
    name, scopes = call.text("name"), call.words("scopes") or []
    if not name:
        raise missing("name")
    level = call.integer("access_level", access.MAINTAINER)
    if level not in LEVELS:
        raise invalid("access_level", "does not have a valid value")
    if set(scopes) & USERS_ONLY:
        raise ApiError(400, {"error": "scopes does not have a valid value"})
    if level > own:
        raise ApiError(400, {"message": TOO_HIGH})
    bot = _bot(call, project, name)
    db.insert(call.connection, "members", user_id=bot["id"], project_id=project["id"], access_level=level)
    row, token = tokens.create(
        call.connection,
        call.config.db_key_base,
        bot,
        name=name,
        scopes=scopes,
        expires=call.day("expires_at"),
        description=call.text("description"),
    )
    return created(_present(call, row, project, token))


def revoke(call: Call) -> Response:
    """Take a token back; its user is a member no longer."""
    project, _ = _project(call)
    row = _find(call, project)
    _revoke(call, row)
    call.connection.execute("DELETE FROM members WHERE user_id = ? AND project_id = ?", (row["user_id"], project["id"]))
    return no_content()


def rotate(call: Call) -> dict[str, Any]:
    """A new token of the same user in the place of one; that one is taken back."""
    project, own = _project(call)
    row = _find(call, project)
    shown = _present(call, row, project)
    if not shown["active"]:
        raise forbidden()
    if shown["access_level"] > own:
        raise forbidden()
    fresh, token = tokens.create(
        call.connection,
        call.config.db_key_base,
        users.get(call.connection, row["user_id"]),
        name=row["name"],
        scopes=shown["scopes"],
        expires=call.day("expires_at") or db.today() + ROTATED_FOR,
        description=row["description"],
    )
    _revoke(call, row)
    return _present(call, fresh, project, token)


def _project(call: Call) -> tuple[db.Row, int]:
    call.user()
    return find_project(call, access.MAINTAINER)


def _bot(call: Call, project: db.Row, name: str) -> db.Row:
    username = f"project_{project['id']}_bot_{secrets.token_hex(16)}"
    identity = db.insert(
        call.connection,
        "users",
        username=username,
        name=name,
        email=f"{username}@noreply.{call.config.external_url.partition('://')[2].partition(':')[0]}",
        password_digest=passwords.digest(secrets.token_urlsafe(32)),
        bot_of_project=project["id"],
        created_at=db.now(),
    )
    return users.get(call.connection, identity)


def _find(call: Call, project: db.Row) -> db.Row:
    row = db.one(
        call.connection,
        "SELECT personal_access_tokens.* FROM personal_access_tokens JOIN users ON users.id = user_id "
        "WHERE bot_of_project = ? AND personal_access_tokens.id = ?",
        project["id"],
        call.path("token"),
    )
    if row is None:
        raise not_found(f"Could not find project access token with token_id: {call.path('token')}")
    return row


def _revoke(call: Call, row: db.Row) -> None:
    call.connection.execute("UPDATE personal_access_tokens SET revoked = 1 WHERE id = ?", (row["id"],))


def _present(call: Call, row: db.Row, project: db.Row, token: str | None = None) -> dict[str, Any]:
    member = db.one(
        call.connection,
        "SELECT access_level FROM members WHERE user_id = ? AND project_id = ?",
        row["user_id"],
        project["id"],
    )
    return tokens.present(row, token) | {
        "access_level": member["access_level"] if member else None,
        "resource_type": "project",
        "resource_id": project["id"],
    }


routes = [
    *route("/projects/{id}/access_tokens", GET=listing, POST=create),
    *route("/projects/{id}/access_tokens/{token:int}", GET=get, DELETE=revoke),
    *route("/projects/{id}/access_tokens/{token:int}/rotate", POST=rotate),
]
