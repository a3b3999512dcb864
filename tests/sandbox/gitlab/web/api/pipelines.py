"""Pipelines of a project."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..ci import actions, pipelines, progress, storage, views
from ..core import access, db, events, projects, repositories
from ..core.errors import ApiError, forbidden, missing, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_building_project, require_running

STATUSES = (
    "created", "waiting_for_resource", "preparing", "pending", "running", "success", "failed", "canceled", "canceling",
    "skipped", "manual", "scheduled",
)  # fmt: skip
SCOPES = {"running": ("running",), "pending": ("pending",), "finished": ("success", "failed", "canceled")}
#: Least access for variables of a pipeline, by the setting of the project.
OVERRIDE = {
    "developer": access.DEVELOPER,
    "maintainer": access.MAINTAINER,
    "owner": access.OWNER,
    "no_one_allowed": access.OWNER + 1,
}


def listing(call: Call) -> Response:
    """Pipelines, newest first."""
    project, _ = find_building_project(call, access.REPORTER)
    rows = call.connection.execute(
        "SELECT * FROM ci_pipelines WHERE project_id = ? ORDER BY id DESC", (project["id"],)
    ).fetchall()
    status = call.choice("status", STATUSES)
    scope = call.choice("scope", (*SCOPES, "branches", "tags"))
    wanted = {name: call.text(name) for name in ("ref", "sha", "source", "name")}
    found = [
        row
        for row in rows
        if status in (None, row["status"])
        and (scope not in SCOPES or row["status"] in SCOPES[scope])
        and all(value in (None, row[name]) for name, value in wanted.items())
    ]
    if call.choice("sort", ("asc", "desc"), "desc") == "asc":
        found.reverse()
    return page(call, [views.pipeline(call.connection, call.config, row) for row in found])


def get(call: Call) -> dict[str, Any]:
    """One pipeline."""
    return _full(call, _find(call, access.REPORTER))


def newest(call: Call) -> dict[str, Any]:
    """The newest pipeline of a ref, by default of the default branch, for its newest commit."""
    project, _ = find_building_project(call, access.REPORTER)
    ref = call.text("ref") or project["default_branch"] or "main"
    row = db.one(
        call.connection,
        "SELECT * FROM ci_pipelines WHERE project_id = ? AND ref = ? ORDER BY id DESC",
        project["id"],
        ref,
    )
    if row is None or row["sha"] != repositories.resolve(call.config, project["id"], ref):
        raise forbidden()
    return _full(call, row)


def create(call: Call) -> Response:
    """Start a pipeline for the newest commit of a branch or tag."""
    who = call.user()
    project, level = find_building_project(call, access.DEVELOPER)
    ref = call.text("ref")
    if not ref:
        raise missing("ref")
    branches = repositories.branches(call.config, project["id"])
    tags = repositories.tags(call.config, project["id"])
    name = ref.removeprefix(repositories.BRANCHES).removeprefix(repositories.TAGS)
    kind = repositories.TAGS if name in tags and name not in branches else repositories.BRANCHES
    sha = tags.get(name) if kind == repositories.TAGS else branches.get(name)
    if sha is None:
        raise _refused("Reference not found")
    given = _variables(call)
    if given and not may_set_variables(project, level):
        raise _refused("Insufficient permissions to set pipeline variables")
    start = pipelines.Start(project, who.user, f"{kind}{name}", sha, events.NO_COMMIT, "api", given)
    row, reason = pipelines.create(call.connection, call.config, start)
    if row is None or row["yaml_errors"]:
        call.connection.commit()
        raise _refused(reason or "Pipeline could not be created")
    return created(_full(call, row))


def retry(call: Call) -> Response:
    """Run again what failed or was canceled in a pipeline, and what was left out because of it."""
    who = call.user()
    row = _changeable(call)
    actions.retry_pipeline(call.connection, row, who.user["id"])
    return created(_full(call, pipelines.find(call.connection, row["id"])))


def cancel(call: Call) -> dict[str, Any]:
    """Stop all jobs of a pipeline."""
    call.user()
    row = _changeable(call)
    actions.cancel_pipeline(call.connection, row)
    return _full(call, pipelines.find(call.connection, row["id"]))


def delete(call: Call) -> Response:
    """Remove a pipeline with its jobs and what they left."""
    call.user()
    row = _find(call, access.OWNER)
    progress.lock(call.connection)
    for job in call.connection.execute("SELECT id FROM ci_jobs WHERE pipeline_id = ?", (row["id"],)).fetchall():
        storage.remove(call.connection, call.config, job["id"])
    call.connection.execute("DELETE FROM ci_pipelines WHERE id = ?", (row["id"],))
    return no_content()


def variables(call: Call) -> Response:
    """Variables that a pipeline was started with."""
    row = _find(call, access.DEVELOPER)
    return page(call, [{"raw": False, **entry} for entry in json.loads(row["variables"])])


def jobs(call: Call) -> Response:
    """Jobs of a pipeline, newest first; without those that were tried again."""
    row = _find(call, access.REPORTER)
    retried = call.flag("include_retried", False)
    scope = call.words("scope")
    rows = call.connection.execute("SELECT * FROM ci_jobs WHERE pipeline_id = ? ORDER BY id DESC", (row["id"],))
    found = [
        job for job in rows.fetchall() if (retried or not job["retried"]) and (not scope or job["status"] in scope)
    ]
    return page(call, [views.job(call.connection, call.config, job) for job in found])


def bridges(call: Call) -> Response:
    """Jobs that start other pipelines: there are none here."""
    _find(call, access.REPORTER)
    return page(call, [])


def may_set_variables(project: db.Row, level: int) -> bool:
    """Whether somebody with this access may give variables to a pipeline or a job that they start."""
    return level >= OVERRIDE[projects.options(project)["ci_pipeline_variables_minimum_override_role"]]


def _changeable(call: Call) -> db.Row:
    row = _find(call, access.DEVELOPER)
    project, level = find_building_project(call, access.DEVELOPER)
    require_running(call, project, level, row)
    return row


def _find(call: Call, least: int) -> db.Row:
    project, _ = find_building_project(call, least)
    row = db.one(
        call.connection,
        "SELECT * FROM ci_pipelines WHERE id = ? AND project_id = ?",
        call.path("pipeline"),
        project["id"],
    )
    if row is None:
        raise not_found()
    return row


def _full(call: Call, row: db.Row) -> dict[str, Any]:
    return views.pipeline(call.connection, call.config, row, full=True)


def _variables(call: Call) -> tuple[dict[str, Any], ...]:
    given = call.params.get("variables") or []
    if not isinstance(given, list) or not all(isinstance(entry, dict) and "key" in entry for entry in given):
        raise ApiError(400, {"error": "variables is invalid"})
    return tuple(
        {
            "key": str(entry["key"]),
            "value": str(entry.get("value", "")),
            "variable_type": entry.get("variable_type", "env_var"),
        }
        for entry in given
    )


def _refused(reason: str) -> ApiError:
    return ApiError(400, {"message": {"base": [reason]}})


routes = [
    *route("/projects/{id}/pipelines", GET=listing),
    *route("/projects/{id}/pipeline", POST=create),
    *route("/projects/{id}/pipelines/latest", GET=newest),
    *route("/projects/{id}/pipelines/{pipeline:int}", GET=get, DELETE=delete),
    *route("/projects/{id}/pipelines/{pipeline:int}/retry", POST=retry),
    *route("/projects/{id}/pipelines/{pipeline:int}/cancel", POST=cancel),
    *route("/projects/{id}/pipelines/{pipeline:int}/variables", GET=variables),
    *route("/projects/{id}/pipelines/{pipeline:int}/jobs", GET=jobs),
    *route("/projects/{id}/pipelines/{pipeline:int}/bridges", GET=bridges),
]
