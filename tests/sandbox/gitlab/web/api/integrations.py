"""Integrations of projects: those that tell of pipelines."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..core import access, db, integrations, sealing
from ..core.errors import ApiError, invalid, not_found
from .call import Call, no_content, page, route
from .lookup import find_project

_FLAGS = ("notify_only_broken_pipelines", *integrations.EVENTS)


def listing(call: Call) -> Response:
    """Integrations that are active."""
    project = _project(call)
    rows = call.connection.execute(
        "SELECT * FROM integrations WHERE project_id = ? AND active = 1 ORDER BY id", (project["id"],)
    )
    return page(call, [_basic(row) for row in rows])


def get(call: Call) -> dict[str, Any]:
    """One integration that was ever set up. GitLab never shows a webhook."""
    return _present(_find(call, _project(call)))


def put(call: Call) -> dict[str, Any]:
    """Turn an integration on, or change it. What is not given stays."""
    project, slug = _project(call), _slug(call)
    call.require("recipients" if slug == integrations.PIPELINES_EMAIL else "webhook")
    row = integrations.find(call.connection, project["id"], slug)
    properties = json.loads(row["properties"]) if row is not None else {}
    properties = {**integrations.INITIAL, **properties}
    given = {name: _value(call, name) for name in integrations.FIELDS[slug] if name in call.params}
    events = {**integrations.EVENTS, **(json.loads(row["events"]) if row is not None else {})}
    events |= {name: bool(call.flag(name)) for name in events if name in call.params}
    known = row["encrypted_webhook"] if row is not None else None
    webhook = call.text("webhook") or (sealing.unseal(call.config, known) if known else None)
    if not integrations.valid(slug, properties | given, webhook):
        raise ApiError(400, {"error": "400 Bad Request"})
    sealed = sealing.seal(call.config, webhook) if webhook else None
    key = (project["id"], slug)
    integrations.save(call.connection, key, properties=properties | given, events=events, sealed=sealed)
    return _present(_find(call, project))


def delete(call: Call) -> Response:
    """Turn an integration off, and forget its settings."""
    row = integrations.find(call.connection, _project(call)["id"], _slug(call, refusal=invalid("slug", _NO_VALUE)))
    if row is not None:
        integrations.turn_off(call.connection, row)
    return no_content()


_NO_VALUE = "does not have a valid value"


def _value(call: Call, name: str) -> Any:
    return call.flag(name) if name in _FLAGS else call.text(name)


def _project(call: Call) -> db.Row:
    call.user()
    return find_project(call, access.MAINTAINER)[0]


def _slug(call: Call, refusal: ApiError | None = None) -> str:
    slug = call.path("slug")
    if slug not in integrations.TITLES:
        raise refusal or not_found()
    return slug


def _find(call: Call, project: db.Row) -> db.Row:
    slug = _slug(call, refusal=invalid("slug", _NO_VALUE))
    row = integrations.find(call.connection, project["id"], slug)
    if row is None:
        raise not_found("Integration")
    return row


def _basic(row: db.Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "title": integrations.TITLES[row["slug"]],
        "slug": row["slug"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "active": bool(row["active"]),
        "comment_on_event_enabled": True,
        **json.loads(row["events"]),
    }


def _present(row: db.Row) -> dict[str, Any]:
    return {**_basic(row), "properties": json.loads(row["properties"])}


routes = [
    *route("/projects/{id}/integrations", GET=listing),
    *route("/projects/{id}/integrations/{slug}", GET=get, PUT=put, DELETE=delete),
    # The older paths, which clients use still.
    *route("/projects/{id}/services", GET=listing),
    *route("/projects/{id}/services/{slug}", GET=get, PUT=put, DELETE=delete),
]
