"""Deploy tokens of projects and groups."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..core import access, db, deploy_tokens
from ..core.errors import invalid, missing, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_group, find_project


def listing(call: Call) -> Response:
    """All deploy tokens of an owner; with `active`, those that are good today."""
    column, number = _owner(call)
    rows = call.connection.execute(f"SELECT * FROM deploy_tokens WHERE {column} = ? ORDER BY id", (number,)).fetchall()  # noqa: S608
    wanted = call.flag("active")
    chosen = [row for row in rows if wanted is None or deploy_tokens.active(row) == wanted]
    return page(call, [deploy_tokens.present(row) for row in chosen])


def list_all(call: Call) -> Response:
    """All deploy tokens there are; for administrators."""
    call.admin()
    rows = call.connection.execute("SELECT * FROM deploy_tokens ORDER BY id").fetchall()
    return page(call, [deploy_tokens.present(row) for row in rows])


def get(call: Call) -> dict[str, Any]:
    """One deploy token, without its value."""
    return deploy_tokens.present(_find(call))


def create(call: Call) -> Response:
    """Make a deploy token; its value is shown this once."""
    owner = _owner(call)
    call.require("name", "scopes")
    name = call.text("name")
    if not name:
        raise missing("name")
    row, token = deploy_tokens.create(
        call.connection,
        call.config,
        owner=owner,
        creator_id=call.user().user["id"],
        name=name,
        scopes=call.words("scopes") or [],
        username=call.text("username"),
        expires_at=_moment(call),
    )
    return created(deploy_tokens.present(row, token))


def delete(call: Call) -> Response:
    """Revoke a deploy token, which then is gone."""
    call.connection.execute("DELETE FROM deploy_tokens WHERE id = ?", (_find(call)["id"],))
    return no_content()


def _owner(call: Call) -> tuple[str, int]:
    call.user()
    if call.request.url.path.startswith("/api/v4/groups/"):
        return "namespace_id", find_group(call, access.OWNER)["id"]
    return "project_id", find_project(call, access.MAINTAINER)[0]["id"]


def _find(call: Call) -> db.Row:
    column, number = _owner(call)
    query = f"SELECT * FROM deploy_tokens WHERE {column} = ? AND id = ?"  # noqa: S608
    row = db.one(call.connection, query, number, call.path("token"))
    if row is None:
        raise not_found("Deploy Token")
    return row


def _moment(call: Call) -> str | None:
    """When it expires, as GitLab writes it: a day alone is its first moment."""
    text = call.text("expires_at")
    if not text:
        return None
    try:
        return db.written(db.read(text))
    except ValueError:
        raise invalid("expires_at") from None


routes = [
    *route("/deploy_tokens", GET=list_all),
    *route("/projects/{id}/deploy_tokens", GET=listing, POST=create),
    *route("/projects/{id}/deploy_tokens/{token:int}", GET=get, DELETE=delete),
    *route("/groups/{id}/deploy_tokens", GET=listing, POST=create),
    *route("/groups/{id}/deploy_tokens/{token:int}", GET=get, DELETE=delete),
]
