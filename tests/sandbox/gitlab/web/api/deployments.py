"""Deployments of a project, and the resource groups that keep them from running beside each other."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..ci import progress, resources, views
from ..ci.environment_views import deployment, resource_group
from ..core import access, db, environments
from ..core.errors import ApiError, forbidden, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_building_project, find_project, find_project_by_job, record_not_found

STATUSES = ("created", "running", "success", "failed", "canceled", "skipped", "blocked")
GIVEN = ("running", "success", "failed", "canceled")
ORDERS = ("id", "iid", "created_at", "updated_at", "finished_at", "ref")


def listing(call: Call) -> Response:
    """Deployments, oldest first unless it is asked otherwise. A job may read them as well."""
    project, _ = find_project_by_job(call, access.REPORTER)
    status, where = call.choice("status", STATUSES), call.text("environment")
    order = call.choice("order_by", ORDERS, "id")
    rows = call.connection.execute(
        "SELECT deployment_states.*, environments.name AS environment FROM deployment_states JOIN environments ON "  # noqa: S608
        f"environments.id = environment_id WHERE deployment_states.project_id = ? ORDER BY deployment_states.{order}",
        (project["id"],),
    ).fetchall()
    found = [row for row in rows if status in (None, row["state"]) and where in (None, row["environment"])]
    if call.choice("sort", ("asc", "desc"), "asc") == "desc":
        found.reverse()
    return page(call, [deployment(call.connection, call.config, row) for row in found])


def get(call: Call) -> dict[str, Any]:
    """One deployment. A job may read it as well."""
    project, _ = find_project_by_job(call, access.REPORTER)
    return deployment(call.connection, call.config, _find(call, project["id"]))


def create(call: Call) -> Response:
    """Record a deployment that no job has done."""
    who = call.user()
    project, _ = find_project(call, access.DEVELOPER)
    call.require("environment", "sha", "ref", "tag", "status")
    status = call.choice("status", GIVEN)
    name = call.text("environment") or ""
    where = environments.find(call.connection, project["id"], name)
    made = environments.deploy(
        call.connection,
        where or environments.create(call.connection, project["id"], name),
        user_id=who.user["id"],
        ref=call.text("ref") or "",
        tag=bool(call.flag("tag")),
        sha=call.text("sha") or "",
        status=status,
    )
    return created(deployment(call.connection, call.config, _row(call, made, project["id"])))


def update(call: Call) -> dict[str, Any]:
    """Say how a deployment without a job goes on."""
    call.user()
    project, _ = find_project(call, access.DEVELOPER)
    row = _find(call, project["id"])
    call.require("status")
    status = call.choice("status", GIVEN)
    if row["job_id"] is not None:
        raise forbidden()
    if row["state"] == status:
        raise ApiError(400, {"message": {"status": ["has not changed"]}})
    call.connection.execute(
        "UPDATE deployments SET status = ?, updated_at = ? WHERE id = ?", (status, db.now(), row["id"])
    )
    return deployment(call.connection, call.config, _row(call, row["id"], project["id"]))


def delete(call: Call) -> Response:
    """Remove the record of one that neither runs nor was the last good one."""
    call.user()
    project, _ = find_project(call, access.MAINTAINER)
    row = _find(call, project["id"])
    if row["state"] == "running":
        raise ApiError(400, {"message": "Cannot destroy running deployment"})
    last = environments.last_deployment(call.connection, environments.get(call.connection, row["environment_id"]))
    if last is not None and last["id"] == row["id"]:
        raise ApiError(400, {"message": "Deployment currently deployed to environment"})
    call.connection.execute("DELETE FROM deployments WHERE id = ?", (row["id"],))
    return no_content()


def list_groups(call: Call) -> Response:
    """Resource groups."""
    call.user()
    project, _ = find_building_project(call, access.DEVELOPER)
    return page(call, [resource_group(row) for row in resources.groups(call.connection, project["id"])])


def get_group(call: Call) -> dict[str, Any]:
    """One resource group."""
    return resource_group(_group(call))


def update_group(call: Call) -> dict[str, Any]:
    """Change in which order jobs get the resource."""
    row = _group(call)
    if (mode := call.choice("process_mode", resources.MODES)) is not None:
        call.connection.execute(
            "UPDATE ci_resource_groups SET process_mode = ?, updated_at = ? WHERE id = ?", (mode, db.now(), row["id"])
        )
    return resource_group(_group(call))


def current_job(call: Call) -> dict[str, Any]:
    """The job that has the resource."""
    row = _group(call)
    progress.lock(call.connection)
    job = resources.holder(call.connection, row["project_id"], row["key"])
    if job is None:
        raise not_found("Job")
    return views.job(call.connection, call.config, job)


def upcoming_jobs(call: Call) -> Response:
    """The jobs that wait for the resource, the next one first."""
    row = _group(call)
    found = resources.waiting(call.connection, row["project_id"], row["key"])
    return page(call, [views.job(call.connection, call.config, job) for job in found])


def _group(call: Call) -> db.Row:
    call.user()
    project, _ = find_building_project(call, access.DEVELOPER)
    query = "SELECT * FROM ci_resource_groups WHERE project_id = ? AND key = ?"
    row = db.one(call.connection, query, project["id"], call.path("key"))
    if row is None:
        raise record_not_found()
    return row


def _find(call: Call, project_id: int) -> db.Row:
    return _row(call, int(call.path("deployment")), project_id)


def _row(call: Call, identity: int, project_id: int) -> db.Row:
    query = "SELECT * FROM deployment_states WHERE id = ? AND project_id = ?"
    row = db.one(call.connection, query, identity, project_id)
    if row is None:
        raise record_not_found()
    return row


GROUP = "/projects/{id}/resource_groups/{key}"
routes = [
    *route("/projects/{id}/deployments", GET=listing, POST=create),
    *route("/projects/{id}/deployments/{deployment:int}", GET=get, PUT=update, DELETE=delete),
    *route("/projects/{id}/resource_groups", GET=list_groups),
    *route(GROUP, GET=get_group, PUT=update_group),
    *route(f"{GROUP}/current_job", GET=current_job),
    *route(f"{GROUP}/upcoming_jobs", GET=upcoming_jobs),
]
