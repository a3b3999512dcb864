"""Personal access tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from ..core import db, tokens, users
from ..core.auth import Principal, require_admin
from ..core.errors import ApiError, forbidden, missing, not_found, unauthorized
from .call import Call, created, no_content, page, route
from .users import find as find_user

WEEK = timedelta(days=7)
OWN_SCOPES = {"k8s_proxy", "self_rotate"}


def listing(call: Call) -> Response:
    """Tokens: one's own, or everybody's for administrators."""
    who = call.user()
    owner = call.integer("user_id")
    if not who.admin and owner not in (None, who.user["id"]):
        raise unauthorized()
    rows = call.connection.execute("SELECT * FROM personal_access_tokens ORDER BY id").fetchall()
    wanted = owner if who.admin else who.user["id"]
    found = [tokens.present(row) for row in rows if wanted in (None, row["user_id"])]
    if (state := call.choice("state", ("active", "inactive"))) is not None:
        found = [token for token in found if token["active"] == (state == "active")]
    if (revoked := call.flag("revoked")) is not None:
        found = [token for token in found if token["revoked"] == revoked]
    if search := call.text("search"):
        found = [token for token in found if search.lower() in token["name"].lower()]
    return page(call, found)


def itself(call: Call) -> dict[str, Any]:
    """The token that the request came with; any scope will do."""
    return tokens.present(_own(call))


def get(call: Call) -> dict[str, Any]:
    """One token."""
    return tokens.present(_find(call, call.user()))


def create_for_user(call: Call) -> Response:
    """Make a token for any user; for administrators."""
    call.admin()
    return _create(call, find_user(call), call.words("scopes") or [])


def create_own(call: Call) -> Response:
    """Make a token for oneself: only of the scopes that can do little."""
    who = call.user()
    scopes = call.words("scopes") or []
    if set(scopes) - OWN_SCOPES:
        raise ApiError(400, {"error": "scopes does not have a valid value"})
    return _create(call, who.user, scopes)


def revoke(call: Call) -> Response:
    """Take a token back."""
    return _revoke(call, _find(call, call.user()))


def revoke_itself(call: Call) -> Response:
    """Take back the token that the request came with."""
    return _revoke(call, _own(call))


def rotate(call: Call) -> dict[str, Any]:
    """A new token in the place of one; that one is taken back."""
    return _rotate(call, _find(call, call.user()))


def rotate_itself(call: Call) -> dict[str, Any]:
    """A new token in the place of the one that the request came with."""
    call.user("self_rotate")
    return _rotate(call, _own(call))


def _own(call: Call) -> db.Row:
    if call.who is None or call.who.token is None:
        raise unauthorized()
    return tokens.find(call.connection, call.who.token["id"])


def _find(call: Call, who: Principal) -> db.Row:
    row = db.one(call.connection, "SELECT * FROM personal_access_tokens WHERE id = ?", call.path("id"))
    if row is None:
        raise not_found() if who.admin else unauthorized()
    if row["user_id"] != who.user["id"]:
        require_admin(who)
    return row


def _create(call: Call, user: db.Row, scopes: list[str]) -> Response:
    call.require("name", "scopes")
    name = call.text("name")
    if not name:
        raise missing("name")
    key = call.config.db_key_base
    row, token = tokens.create(
        call.connection,
        key,
        user,
        name=name,
        scopes=scopes,
        expires=call.day("expires_at"),
        description=call.text("description"),
    )
    return created(tokens.present(row, token))


def _revoke(call: Call, row: db.Row) -> Response:
    call.connection.execute("UPDATE personal_access_tokens SET revoked = 1 WHERE id = ?", (row["id"],))
    return no_content()


def _rotate(call: Call, row: db.Row) -> dict[str, Any]:
    shown = tokens.present(row)
    if not shown["active"]:
        raise forbidden() if row["revoked"] else unauthorized()
    user = users.get(call.connection, row["user_id"])
    expires = call.day("expires_at") or db.today() + WEEK
    key = call.config.db_key_base
    fresh, token = tokens.create(
        call.connection,
        key,
        user,
        name=row["name"],
        scopes=shown["scopes"],
        expires=expires,
        description=row["description"],
    )
    _revoke(call, row)
    return tokens.present(fresh, token)


routes = [
    *route("/personal_access_tokens", GET=listing),
    *route("/personal_access_tokens/self", GET=itself, DELETE=revoke_itself),
    *route("/personal_access_tokens/self/rotate", POST=rotate_itself),
    *route("/personal_access_tokens/{id:int}", GET=get, DELETE=revoke),
    *route("/personal_access_tokens/{id:int}/rotate", POST=rotate),
    *route("/users/{id:int}/personal_access_tokens", POST=create_for_user),
    *route("/user/personal_access_tokens", POST=create_own),
]
