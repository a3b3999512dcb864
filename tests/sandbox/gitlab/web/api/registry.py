"""Repositories and tags of the container registry, read from the registry itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from ..core import access, container_protection, db, projects
from ..core.auth import Principal
from ..core.cleanup import Policy, clean
from ..core.config import Registry
from ..core.errors import ApiError, forbidden, invalid, not_found
from ..core.job_tokens import JobToken
from ..core.registry_client import RegistryClient
from .call import Call, accepted, page, route
from .lookup import find_project


def listing(call: Call) -> Response:
    """Repositories of a project."""
    project, _ = _project(call, access.REPORTER)
    rows = call.connection.execute(
        "SELECT * FROM container_repositories WHERE project_id = ? ORDER BY id", (project["id"],)
    ).fetchall()
    return page(call, [_present(call, row, project) for row in rows])


def get(call: Call) -> dict[str, Any]:
    """One repository, by its number alone."""
    call.user()
    row = db.one(call.connection, "SELECT * FROM container_repositories WHERE id = ?", call.path("repository"))
    project = row and projects.find(call.connection, str(row["project_id"]))
    if row is None or project is None or access.project_level(call.connection, call.who, project) < access.REPORTER:
        raise not_found()
    return _present(call, row, project)


def delete(call: Call) -> Response:
    """Remove a repository with all its tags."""
    project, row = _repository(call, access.MAINTAINER)
    with _client(call, row) as client:
        if client.tags() and not container_protection.may_delete_all(call.connection, project, _caller(call)):
            raise forbidden()
        for tag in client.tags():
            client.delete_tag(tag)
    call.connection.execute("DELETE FROM container_repositories WHERE id = ?", (row["id"],))
    return accepted()


def tags(call: Call) -> Response:
    """Names of the tags of a repository."""
    _, row = _repository(call, access.REPORTER)
    with _client(call, row) as client:
        return page(call, [_tag(call, row, name) for name in client.tags()])


def tag(call: Call) -> dict[str, Any]:
    """One tag, with digest and size."""
    _, row = _repository(call, access.REPORTER)
    with _client(call, row) as client:
        details = client.details(call.path("tag"))
    if details is None:
        raise not_found("Tag")
    return _tag(call, row, call.path("tag")) | details


def delete_tag(call: Call) -> Response:
    """Remove one tag."""
    project, row = _repository(call, access.DEVELOPER)
    if not container_protection.may_delete_tag(call.connection, project, _caller(call), call.path("tag")):
        raise forbidden()
    with _client(call, row) as client:
        if not client.delete_tag(call.path("tag")):
            raise not_found("Tag")
    return Response(status_code=200)


def delete_tags(call: Call) -> Response:
    """Remove tags by pattern, as the cleanup policy does: never `latest`, nor the newest `keep_n`."""
    project, row = _repository(call, access.MAINTAINER)
    pattern = call.text("name_regex_delete") or call.text("name_regex")
    if not pattern:
        words = "name_regex_delete, name_regex are missing, at least one parameter must be provided"
        raise ApiError(400, {"error": words})
    policy = Policy(
        pattern,
        call.text("name_regex_keep") or "",
        call.integer("keep_n", 0),
        _age(call.text("older_than")),
        tuple(
            (container_protection.denied_tags(call.connection, project, _caller(call), ["delete"]) or {}).get(
                "delete", []
            )
        ),
    )
    try:
        with _client(call, row) as client:
            clean(client, policy, datetime.now(UTC))
    except re.error:
        raise invalid("name_regex_delete", "is an invalid regexp") from None
    return accepted()


def _age(text: str | None) -> timedelta | None:
    """A length of time such as `30d`, `2h` or `1month`."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+)\s*(h|d|w|month)", text)
    if found is None:
        raise invalid("older_than")
    hours = {"h": 1, "d": 24, "w": 24 * 7, "month": 24 * 30}
    return timedelta(hours=int(found[1]) * hours[found[2]])


def _project(call: Call, least: int) -> tuple[db.Row, int]:
    job = call.job()
    if job is not None:
        row, level = _project_of_job(call, job), access.DEVELOPER
        if least > level:
            raise forbidden()
    else:
        call.user()
        row, level = find_project(call, least)
    if projects.options(row)["container_registry_access_level"] == "disabled":
        raise not_found()
    return row, level


def _caller(call: Call) -> Principal:
    """The user, or the one in whose name a job asks."""
    job = call.job()
    return Principal(job.user, frozenset()) if job else call.user()


def _project_of_job(call: Call, job: JobToken) -> db.Row:
    """The project that the path names, when it is the one of the job, and its user may push there."""
    row = projects.find(call.connection, call.path("id"))
    if row is None or row["id"] != job.project["id"]:
        raise not_found("Project")
    if access.project_level(call.connection, Principal(job.user, frozenset()), row) < access.DEVELOPER:
        raise forbidden()
    return row


def _repository(call: Call, least: int) -> tuple[db.Row, db.Row]:
    project, _ = _project(call, least)
    row = db.one(
        call.connection,
        "SELECT * FROM container_repositories WHERE id = ? AND project_id = ?",
        call.path("repository"),
        project["id"],
    )
    if row is None:
        raise not_found()
    return project, row


def _registry(call: Call) -> Registry:
    if call.config.registry is None:
        raise ApiError(404, {"message": "404 Not Found"})
    return call.config.registry


def _client(call: Call, row: db.Row) -> RegistryClient:
    return RegistryClient(call.config, _registry(call), row["path"])


def _present(call: Call, row: db.Row, project: db.Row) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": row["id"],
        "name": row["path"].removeprefix(project["full_path"].lower()).removeprefix("/"),
        "path": row["path"],
        "project_id": row["project_id"],
        "location": f"{_registry(call).host}/{row['path']}",
        "created_at": row["created_at"],
        "cleanup_policy_started_at": None,
        "status": row["status"],
    }
    if call.flag("tags", False) or call.flag("tags_count", False):
        with _client(call, row) as client:
            names = client.tags()
        shown["tags_count"] = len(names)
        if call.flag("tags", False):
            shown["tags"] = [_tag(call, row, name) for name in names]
    return shown


def _tag(call: Call, row: db.Row, name: str) -> dict[str, Any]:
    return {"name": name, "path": f"{row['path']}:{name}", "location": f"{_registry(call).host}/{row['path']}:{name}"}


routes = [
    *route("/registry/repositories/{repository:int}", GET=get),
    *route("/projects/{id}/registry/repositories", GET=listing),
    *route("/projects/{id}/registry/repositories/{repository:int}", DELETE=delete),
    *route("/projects/{id}/registry/repositories/{repository:int}/tags", GET=tags, DELETE=delete_tags),
    *route("/projects/{id}/registry/repositories/{repository:int}/tags/{tag}", GET=tag, DELETE=delete_tag),
]
