"""Environments of a project. Protected ones, and approvals of deployments, are GitLab Premium's: they are not there."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..ci import environment_actions, progress
from ..ci.environment_views import environment
from ..core import access, db, environments, projects
from ..core.errors import ApiError, forbidden, rejected
from .call import Call, created, no_content, page, route
from .lookup import find_project, record_not_found

SHORTEST_SEARCH = 3


def listing(call: Call) -> Response:
    """Environments, newest first."""
    project = _project(call, access.REPORTER)
    name, search = call.text("name"), call.text("search")
    if name is not None and search is not None:
        raise ApiError(400, {"error": "name, search cannot be used together"})
    if search and len(search) < SHORTEST_SEARCH:
        raise ApiError(400, {"message": f"400 Bad request - Search query is less than {SHORTEST_SEARCH} characters"})
    state = call.choice("states", environments.STATES)
    rows = call.connection.execute(
        "SELECT * FROM environments WHERE project_id = ? ORDER BY id DESC", (project["id"],)
    ).fetchall()
    found = [
        row
        for row in rows
        if name in (None, row["name"]) and state in (None, row["state"]) and (search or "").lower() in row["name"]
    ]
    return page(call, [environment(call.connection, call.config, row) for row in found])


def get(call: Call) -> dict[str, Any]:
    """One environment, with its newest good deployment."""
    row = _find(call, _project(call, access.REPORTER))
    return environment(call.connection, call.config, row, full=True)


def create(call: Call) -> Response:
    """Make one without a job."""
    project = _project(call, access.DEVELOPER)
    call.require("name")
    name = _name(call)
    if environments.find(call.connection, project["id"], name) is not None:
        raise rejected("name", "has already been taken")
    tier = call.choice("tier", environments.TIERS)
    url = call.text("external_url")
    row = environments.create(call.connection, project["id"], name, tier=tier, external_url=url)
    return created(environment(call.connection, call.config, row))


def update(call: Call) -> dict[str, Any]:
    """Change one."""
    row = _find(call, _project(call, access.DEVELOPER))
    values: dict[str, object] = {}
    if "name" in call.params:
        values["name"] = _name(call)
    if "external_url" in call.params:
        values["external_url"] = call.text("external_url")
    if (tier := call.choice("tier", environments.TIERS)) is not None:
        values["tier"] = tier
    return environment(call.connection, call.config, environments.update(call.connection, row, **values))


def delete(call: Call) -> Response:
    """Remove one that was stopped before."""
    row = _find(call, _project(call, access.DEVELOPER))
    if row["state"] != "stopped":
        raise forbidden()
    call.connection.execute("DELETE FROM environments WHERE id = ?", (row["id"],))
    return no_content()


def stop(call: Call) -> dict[str, Any]:
    """Stop one, by its own job when it has one."""
    who = call.user()
    row = _find(call, _project(call, access.DEVELOPER))
    progress.lock(call.connection)
    if row["state"] == "available":
        force = bool(call.flag("force", False))
        environment_actions.stop(call.connection, row, who.user["id"], force=force)
    return environment(call.connection, call.config, environments.get(call.connection, row["id"]))


def _name(call: Call) -> str:
    name = call.text("name") or ""
    if not name.strip():
        raise rejected("name", "can't be blank")
    if not environments.NAME.match(name):
        raise rejected("name", environments.NAME_REFUSED)
    return name


def _project(call: Call, least: int) -> db.Row:
    call.user()
    project, _ = find_project(call, least)
    if projects.options(project)["environments_access_level"] == "disabled":
        raise forbidden()
    return project


def _find(call: Call, project: db.Row) -> db.Row:
    query = "SELECT * FROM environments WHERE id = ? AND project_id = ?"
    row = db.one(call.connection, query, call.path("environment"), project["id"])
    if row is None:
        raise record_not_found()
    return row


routes = [
    *route("/projects/{id}/environments", GET=listing, POST=create),
    *route("/projects/{id}/environments/{environment:int}", GET=get, PUT=update, DELETE=delete),
    *route("/projects/{id}/environments/{environment:int}/stop", POST=stop),
]
