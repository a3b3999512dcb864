"""Finds what the path of a request names: a group, a project, a job. The caller states the required access level.

Callers who may not see it get 404; those who may, but lack the access level, get 403.
"""

from __future__ import annotations

from ..core import access, db, namespaces, projects
from ..core.errors import forbidden, not_found
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
