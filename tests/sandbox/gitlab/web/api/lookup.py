"""Finds what the path of a request names: a group, a project, a job. The caller states the required access level.

Callers who may not see it get 404; those who may, but lack the access level, get 403.
"""

from __future__ import annotations

from ..core import access, db, merge_requests, namespaces, projects, protection
from ..core.auth import Principal
from ..core.errors import ApiError, forbidden, not_found
from .call import Call


def find_group(call: Call, least: int) -> db.Row:
    """The group."""
    row = namespaces.find(call.connection, call.path("id"), "group")
    if row is None:
        raise not_found("Group")
    level = access.namespace_level(call.connection, call.who, row)
    access.require_level(level, least, call.who, row, "Group")
    return row


def find_project(call: Call, least: int, *scopes: str) -> tuple[db.Row, int]:
    """The project, and the caller's access level in it. A token needs one of `scopes`."""
    if call.who is not None:
        call.user(*scopes)
    row = projects.find(call.connection, call.path("id"))
    if row is None:
        raise not_found("Project")
    level = access.project_level(call.connection, call.who, row)
    access.require_level(level, least, call.who, row, "Project")
    return row, level


def find_building_project(call: Call, least: int) -> tuple[db.Row, int]:
    """The project, as `find_project`; forbidden when CI is switched off in it."""
    project, level = find_project(call, least)
    if projects.options(project)["builds_access_level"] == "disabled":
        raise forbidden()
    return project, level


def find_project_by_job(call: Call, least: int) -> tuple[db.Row, Principal | None]:
    """The project, and who asks. Also a running job of the same project may, in the name of its user."""
    job = call.job()
    if job is None:
        return find_project(call, least)[0], call.who
    row = projects.find(call.connection, call.path("id"))
    if row is None or row["id"] != job.project["id"]:
        raise not_found("Project")
    who = Principal(job.user, frozenset({"read_api"}))
    access.require_level(access.project_level(call.connection, who, row), least, who, row, "Project")
    return row, who


def find_merge_request(call: Call, project: db.Row, who: Principal | None) -> db.Row:
    """The merge request, for somebody who may see those of the project."""
    least = access.REPORTER if project["visibility"] == "private" else 0
    row = merge_requests.find(call.connection, project["id"], call.path("iid"))
    if row is None:
        raise record_not_found()
    if projects.options(project)["merge_requests_access_level"] == "disabled":
        raise forbidden()
    if access.project_level(call.connection, who, project) < least:
        raise forbidden()
    return row


def record_not_found() -> ApiError:
    """There is no such record; GitLab writes it like this where the database says so."""
    return ApiError(404, {"message": "404 Not found"})


def require_running(call: Call, project: db.Row, level: int, pipeline: db.Row) -> None:
    """Forbid changing what runs for a protected branch or tag to those who may not change that itself."""
    admin = call.user().admin
    ref, tag = pipeline["ref"], bool(pipeline["tag"])
    if not protection.may_run(call.connection, project, level, admin, ref=ref, tag=tag):
        raise forbidden()


def find_job(call: Call, project: db.Row) -> db.Row:
    """The job, in this project."""
    job = db.one(
        call.connection,
        "SELECT * FROM ci_jobs WHERE id = ? AND project_id = ?",
        call.path("job"),
        project["id"],
    )
    if job is None:
        raise not_found()
    return job
