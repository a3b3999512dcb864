"""Jobs of a project, and the job that a job token belongs to."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import PlainTextResponse, Response

from ..ci import actions, progress, storage, views
from ..core import access, db, job_tokens
from ..core.errors import forbidden, not_found, unauthorized
from .call import Call, created, open_route, page, route
from .lookup import find_building_project, find_job, require_running
from .pipelines import may_set_variables


def listing(call: Call) -> Response:
    """Jobs of a project, newest first."""
    project, _ = find_building_project(call, access.REPORTER)
    scope = call.words("scope")
    retried = call.flag("include_retried", False)
    rows = call.connection.execute("SELECT * FROM ci_jobs WHERE project_id = ? ORDER BY id DESC", (project["id"],))
    found = [
        row for row in rows.fetchall() if (retried or not row["retried"]) and (not scope or row["status"] in scope)
    ]
    return page(call, [views.job(call.connection, call.config, row) for row in found])


def get(call: Call) -> dict[str, Any]:
    """One job."""
    return _present(call, _find(call, access.REPORTER))


def log(call: Call) -> Response:
    """The log so far, as the runner sent it."""
    row = _find(call, access.REPORTER)
    text = storage.log(call.connection, call.config, row["id"]).decode(errors="replace")
    return PlainTextResponse(text)


def cancel(call: Call) -> Response:
    """Stop a job."""
    call.user()
    row = _changeable(call, access.DEVELOPER)
    actions.cancel_job(call.connection, row)
    return created(_again(call, row["id"]))


def retry(call: Call) -> Response:
    """Run a job again that has ended."""
    who = call.user()
    row = _changeable(call, access.DEVELOPER)
    return created(_again(call, actions.retry_job(call.connection, row, who.user["id"])))


def play(call: Call) -> dict[str, Any]:
    """Start a job that waits for somebody to do so."""
    who = call.user()
    row = _changeable(call, access.DEVELOPER)
    given = call.params.get("job_variables_attributes") or []
    if given:
        if not may_set_variables(*find_building_project(call, access.DEVELOPER)):
            raise forbidden()
        own = json.loads(row["variables"])
        own |= {str(entry["key"]): {"value": str(entry["value"]), "expand": True} for entry in given}
        call.connection.execute("UPDATE ci_jobs SET variables = ? WHERE id = ?", (json.dumps(own), row["id"]))
    actions.play_job(call.connection, row, who.user["id"])
    return _again(call, row["id"])


def erase(call: Call) -> Response:
    """Remove log and artifacts of a job that has ended."""
    call.user()
    row = _changeable(call, access.MAINTAINER)
    progress.lock(call.connection)
    if row["status"] not in progress.FINISHED or row["erased_at"]:
        raise forbidden("Job is not erasable!")
    storage.remove(call.connection, call.config, row["id"])
    call.connection.execute("UPDATE ci_jobs SET erased_at = ? WHERE id = ?", (db.now(), row["id"]))
    return created(_again(call, row["id"]))


def itself(call: Call) -> dict[str, Any]:
    """The job that the token in `JOB-TOKEN` belongs to."""
    token = call.request.headers.get("job-token") or call.text("job_token") or ""
    found = job_tokens.find(call.connection, call.config, token)
    if found is None:
        raise unauthorized()
    return _present(call, found.job)


def _find(call: Call, least: int) -> db.Row:
    project, _ = find_building_project(call, least)
    return find_job(call, project)


def _changeable(call: Call, least: int) -> db.Row:
    project, level = find_building_project(call, least)
    row = find_job(call, project)
    pipeline = db.one(call.connection, "SELECT * FROM ci_pipelines WHERE id = ?", row["pipeline_id"])
    if pipeline is not None:
        require_running(call, project, level, pipeline)
    return row


def _present(call: Call, row: db.Row) -> dict[str, Any]:
    return views.job(call.connection, call.config, row)


def _again(call: Call, identity: int) -> dict[str, Any]:
    row = db.one(call.connection, "SELECT * FROM ci_jobs WHERE id = ?", identity)
    if row is None:
        raise not_found()
    return _present(call, row)


routes = [
    *open_route("/job", GET=itself),
    *route("/projects/{id}/jobs", GET=listing),
    *route("/projects/{id}/jobs/{job:int}", GET=get),
    *route("/projects/{id}/jobs/{job:int}/trace", GET=log),
    *route("/projects/{id}/jobs/{job:int}/cancel", POST=cancel),
    *route("/projects/{id}/jobs/{job:int}/retry", POST=retry),
    *route("/projects/{id}/jobs/{job:int}/play", POST=play),
    *route("/projects/{id}/jobs/{job:int}/erase", POST=erase),
]
