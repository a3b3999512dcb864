"""Management of runners by users."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..ci import progress, runners, views
from ..core import access, db, namespaces, projects, registration
from ..core.auth import Principal
from ..core.errors import ApiError, forbidden, missing, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_group, find_project

SHORTEST_TIMEOUT = 600
#: `app/models/ci/runner.rb`.
LONGEST_TEXT, MOST_TAGS = 1024, 50
STATES = ("online", "offline", "stale", "never_contacted", "active", "paused")


def create(call: Call) -> Response:
    """Make a runner; its token is in the answer, and nowhere else after."""
    who = call.user("create_runner")
    call.require("runner_type")
    kind = call.choice("runner_type", runners.TYPES)
    group_id, project = None, None
    if kind == "instance_type":
        if not who.admin:
            raise forbidden("Insufficient permissions")
    elif kind == "group_type":
        group_id = _group(call, who)["id"]
    else:
        project = _project(call, who)
    progress.lock(call.connection)
    values = attributes(call, new=True)
    row, token = runners.create(
        call.connection,
        call.config,
        runner_type=kind,
        group_id=group_id,
        creator_id=who.user["id"],
        **values,
    )
    if project is not None:
        db.insert(call.connection, "ci_runner_projects", runner_id=row["id"], project_id=project["id"])
    return created({"id": row["id"], "token": token, "token_expires_at": None})


def own(call: Call) -> Response:
    """Runners that one looks after."""
    who = call.user("manage_runner")
    return _page(call, [row for row in _all(call) if _may(call, who, row)])


def everyone(call: Call) -> Response:
    """All runners of the instance, for administrators."""
    call.admin()
    return _page(call, _all(call))


def of_project(call: Call) -> Response:
    """Runners that a project can use."""
    project, _ = find_project(call, access.MAINTAINER)
    call.user()
    return _page(call, [row for row in _all(call) if runners.serves(call.connection, row, project)])


def of_group(call: Call) -> Response:
    """Runners of a group."""
    who = call.user()
    row = namespaces.find(call.connection, call.path("id"), "group")
    if row is None or access.namespace_level(call.connection, who, row) < access.MAINTAINER:
        raise not_found("Group")
    shared = [
        found for found in _all(call) if found["group_id"] == row["id"] or found["runner_type"] == runners.TYPES[0]
    ]
    return _page(call, shared)


def get(call: Call) -> dict[str, Any]:
    """One runner."""
    return views.runner_details(call.connection, call.config, _find(call))


def update(call: Call) -> dict[str, Any]:
    """Change a runner."""
    row = _find(call)
    progress.lock(call.connection)
    values = attributes(call, new=False)
    untagged, tags = values.get("run_untagged", row["run_untagged"]), values.get("tags", row["tags"])
    _takes_jobs(bool(untagged), tags)
    for name, value in values.items():
        call.connection.execute(f"UPDATE ci_runners SET {name} = ? WHERE id = ?", (value, row["id"]))  # noqa: S608
    return views.runner_details(call.connection, call.config, runners.get(call.connection, row["id"]))


def delete(call: Call) -> Response:
    """Remove a runner, with all its machines."""
    row = _find(call)
    progress.lock(call.connection)
    call.connection.execute("DELETE FROM ci_runners WHERE id = ?", (row["id"],))
    return no_content()


def jobs(call: Call) -> Response:
    """Jobs that a runner was given."""
    row = _find(call)
    state = call.choice("status", ("running", "success", "failed", "canceled"))
    found = call.connection.execute("SELECT * FROM ci_jobs WHERE runner_id = ? ORDER BY id DESC", (row["id"],))
    wanted = [job for job in found.fetchall() if state in (None, job["status"])]
    return page(call, [views.job(call.connection, call.config, job) for job in wanted])


def machines(call: Call) -> Response:
    """The machines that have a runner's token."""
    row = _find(call)
    return page(call, [views.manager(entry) for entry in runners.managers(call.connection, row)])


def reset(call: Call) -> Response:
    """A new token in the place of a runner's."""
    row = _find(call)
    progress.lock(call.connection)
    return created({"token": runners.renew(call.connection, call.config, row), "token_expires_at": None})


def assign(call: Call) -> Response:
    """Let a project runner work for one more project; a locked one only where an administrator says so."""
    who = call.user()
    project, _ = find_project(call, access.MAINTAINER)
    call.require("runner_id")
    progress.lock(call.connection)
    row = db.one(call.connection, "SELECT * FROM ci_runners WHERE id = ?", call.integer("runner_id"))
    if row is None:
        raise not_found("Runner")
    if row["runner_type"] != "project_type":
        raise forbidden("Runner is shared" if row["runner_type"] == "instance_type" else "Runner is a group runner")
    if row["locked"] and not who.admin:
        raise forbidden("Runner is locked")
    if not _may(call, who, row):
        raise forbidden("No access granted")
    if project["id"] in runners.project_ids(call.connection, row):
        raise ApiError(400, {"message": {"runner_projects.runner": ["has already been taken"]}})
    db.insert(call.connection, "ci_runner_projects", runner_id=row["id"], project_id=project["id"])
    return created(views.runner(call.connection, call.config, row))


def unassign(call: Call) -> Response:
    """Take a runner from a project; not from the one that it belongs to, and a locked one only as an administrator."""
    who = call.user()
    project, _ = find_project(call, access.MAINTAINER)
    progress.lock(call.connection)
    row = db.one(call.connection, "SELECT * FROM ci_runners WHERE id = ?", call.path("runner"))
    served = runners.project_ids(call.connection, row) if row else []
    if row is None or project["id"] not in served:
        raise not_found("Runner")
    if row["locked"] and not who.admin:
        raise forbidden("Runner is locked")
    if len(served) == 1:
        raise forbidden("Only one project associated with the runner. Please remove the runner instead")
    if served[0] == project["id"]:
        raise forbidden("You cannot unassign a runner from the owner project. Delete the runner instead")
    call.connection.execute(
        "DELETE FROM ci_runner_projects WHERE runner_id = ? AND project_id = ?", (row["id"], project["id"])
    )
    return no_content()


def _all(call: Call) -> list[db.Row]:
    rows = call.connection.execute("SELECT * FROM ci_runners ORDER BY id DESC").fetchall()
    kind = call.choice("type", runners.TYPES)
    state = call.choice("status", STATES)
    paused = call.flag("paused")
    tags = set(call.words("tag_list") or [])
    return [
        row
        for row in rows
        if kind in (None, row["runner_type"])
        and state in (None, runners.status(row), "paused" if row["paused"] else "active")
        and paused in (None, bool(row["paused"]))
        and tags <= set(json.loads(row["tags"]))
    ]


def _page(call: Call, rows: list[db.Row]) -> Response:
    return page(call, [views.runner(call.connection, call.config, row) for row in rows])


def _find(call: Call) -> db.Row:
    who = call.user("manage_runner")
    row = db.one(call.connection, "SELECT * FROM ci_runners WHERE id = ?", call.path("runner"))
    if row is None:
        raise not_found("Runner")
    if not _may(call, who, row):
        raise forbidden("No access granted")
    return row


def _may(call: Call, who: Principal, row: db.Row) -> bool:
    if who.admin:
        return True
    if row["runner_type"] == "group_type":
        group = namespaces.find(call.connection, str(row["group_id"]))
        return access.namespace_level(call.connection, who, group) >= access.OWNER
    found = [projects.find(call.connection, str(identity)) for identity in runners.project_ids(call.connection, row)]
    return any(
        project is not None and access.project_level(call.connection, who, project) >= access.MAINTAINER
        for project in found
    )


def _group(call: Call, who: Principal) -> db.Row:
    identity = call.integer("group_id")
    if identity is None:
        raise missing("group_id")
    row = namespaces.find(call.connection, str(identity), "group")
    if row is None:
        raise not_found("Group")
    if access.namespace_level(call.connection, who, row) < access.OWNER:
        raise forbidden("Insufficient permissions")
    return row


def _project(call: Call, who: Principal) -> db.Row:
    identity = call.integer("project_id")
    if identity is None:
        raise missing("project_id")
    row = projects.find(call.connection, str(identity))
    if row is None:
        raise not_found("Project")
    if access.project_level(call.connection, who, row) < access.MAINTAINER:
        raise forbidden("Insufficient permissions")
    return row


def reset_instance(call: Call) -> Response:
    """A new registration token of the instance."""
    call.admin()
    return _renewed(call)


def reset_project(call: Call) -> Response:
    """A new registration token of a project."""
    call.user()
    project, _ = find_project(call, access.MAINTAINER)
    return _renewed(call, project_id=project["id"])


def reset_group(call: Call) -> Response:
    """A new registration token of a group."""
    call.user()
    return _renewed(call, namespace_id=find_group(call, access.OWNER)["id"])


def _renewed(call: Call, project_id: int | None = None, namespace_id: int | None = None) -> Response:
    progress.lock(call.connection)
    token = registration.reset(call.connection, call.config, project_id, namespace_id)
    return created({"token": token, "token_expires_at": None})


def attributes(call: Call, new: bool, locked: bool = True) -> dict[str, Any]:
    """Columns that the parameters ask for; of a new runner all of them, `locked` if they do not say."""
    values: dict[str, Any] = {}
    for name in ("description", "maintenance_note"):
        if new or name in call.params:
            values[name] = call.text(name)
            if len(values[name] or "") > LONGEST_TEXT:
                raise ApiError(400, {"message": {name: [f"is too long (maximum is {LONGEST_TEXT} characters)"]}})
    for name, default in (("paused", False), ("locked", new and locked), ("run_untagged", True)):
        if new or name in call.params:
            values[name] = int(bool(call.flag(name, default)))
    if "active" in call.params and "paused" not in call.params:
        values["paused"] = int(not call.flag("active"))
    if new or "tag_list" in call.params:
        tags = sorted(dict.fromkeys(call.words("tag_list") or []))
        if len(tags) > MOST_TAGS:
            wrong = f"Too many tags specified. Please limit the number of tags to {MOST_TAGS}"
            raise ApiError(400, {"message": {"tags_list": [wrong]}})
        values["tags"] = json.dumps(tags)
    if new or "access_level" in call.params:
        values["access_level"] = call.choice("access_level", runners.LEVELS, "not_protected")
    if new or "maximum_timeout" in call.params:
        values["maximum_timeout"] = call.integer("maximum_timeout")
        if values["maximum_timeout"] is not None and values["maximum_timeout"] < SHORTEST_TIMEOUT:
            raise ApiError(400, {"message": {"maximum_timeout": ["needs to be at least 10 minutes"]}})
    if new:
        _takes_jobs(bool(values["run_untagged"]), values["tags"])
    return values


def _takes_jobs(untagged: bool, tags: str) -> None:
    if not untagged and tags == "[]":
        raise ApiError(
            400,
            {"message": {"tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"]}},
        )


routes = [
    *route("/user/runners", POST=create),
    *route("/runners", GET=own),
    *route("/runners/all", GET=everyone),
    *route("/runners/reset_registration_token", POST=reset_instance),
    *route("/projects/{id}/runners/reset_registration_token", POST=reset_project),
    *route("/groups/{id}/runners/reset_registration_token", POST=reset_group),
    *route("/runners/{runner:int}", GET=get, PUT=update, DELETE=delete),
    *route("/runners/{runner:int}/jobs", GET=jobs),
    *route("/runners/{runner:int}/managers", GET=machines),
    *route("/runners/{runner:int}/reset_authentication_token", POST=reset),
    *route("/projects/{id}/runners", GET=of_project, POST=assign),
    *route("/projects/{id}/runners/{runner:int}", DELETE=unassign),
    *route("/groups/{id}/runners", GET=of_group),
]
