"""Projects."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from .. import access, db, namespaces, projects
from ..auth import Principal
from ..call import Call, accepted, created, page, route
from ..errors import ApiError, missing, not_found

LEVELS = ("disabled", "private", "enabled")


def listing(call: Call) -> Response:
    """Projects that can be seen."""
    found = projects.visible(call.connection, call.who)
    if call.flag("owned", False) and call.who:
        found = [(row, level) for row, level in found if level >= access.OWNER]
    if call.flag("membership", False):
        found = [(row, level) for row, level in found if level]
    search = (call.text("search") or "").lower()
    shown = [
        _present(call, row, level) for row, level in found if search in row["name"].lower() or search in row["path"]
    ]
    return page(call, shown)


def get(call: Call) -> dict[str, Any]:
    """One project."""
    row, level = find(call, 0)
    return _present(call, row, level)


def create(call: Call) -> Response:
    """Make a project in a group or in one's own namespace."""
    who = call.user()
    name = call.text("name") or call.text("path")
    if not name:
        raise ApiError(400, {"error": "name, path are missing, at least one parameter must be provided"})
    path = call.text("path") or "-".join(name.lower().split())
    namespaces.check_path(path)
    namespace = _namespace(call, who)
    full_path = f"{namespace['full_path']}/{path}"
    namespaces.ensure_free(call.connection, full_path)
    identity = db.insert(
        call.connection,
        "projects",
        namespace_id=namespace["id"],
        creator_id=who.user["id"],
        path=path,
        full_path=full_path,
        name=name,
        description=call.text("description"),
        visibility=call.choice("visibility", namespaces.VISIBILITIES, "private"),
        default_branch=call.text("default_branch"),
        options=json.dumps(_options(call)),
        created_at=db.now(),
    )
    row = projects.find(call.connection, str(identity))
    if row is None:
        raise LookupError(f"project {identity}")
    return created(_present(call, row, access.project_level(call.connection, who, row)))


def update(call: Call) -> dict[str, Any]:
    """Change a project. Its path stays."""
    call.user()
    row, _ = find(call, access.MAINTAINER)
    call.connection.execute(
        "UPDATE projects SET name = ?, description = ?, visibility = ?, default_branch = ?, options = ? WHERE id = ?",
        (
            call.text("name", row["name"]),
            call.text("description", row["description"]),
            call.choice("visibility", namespaces.VISIBILITIES, row["visibility"]),
            call.text("default_branch", row["default_branch"]),
            json.dumps(json.loads(row["options"]) | _options(call)),
            row["id"],
        ),
    )
    return get(call)


def delete(call: Call) -> Response:
    """Mark a project for deletion, which frees its path; with `permanently_remove`, remove one that is marked."""
    call.user()
    row, _ = find(call, access.OWNER)
    if call.flag("permanently_remove", False):
        if row["marked_for_deletion_on"] is None:
            raise ApiError(400, {"message": "Project must be marked for deletion first."})
        if call.text("full_path") != row["full_path"]:
            raise ApiError(
                400, {"message": "`full_path` is incorrect. You must enter the complete path for the project."}
            )
        call.connection.execute("DELETE FROM projects WHERE id = ?", (row["id"],))
        return accepted()
    if row["marked_for_deletion_on"] is None:
        suffix = f"-deletion_scheduled-{row['id']}"
        call.connection.execute(
            "UPDATE projects SET marked_for_deletion_on = ?, path = path || ?, full_path = full_path || ?, "
            "name = name || ? WHERE id = ?",
            (db.today().isoformat(), suffix, suffix, suffix, row["id"]),
        )
    return accepted()


def find(call: Call, least: int) -> tuple[db.Row, int]:
    """The project that the path names, for somebody with at least this access; and their access level."""
    if call.who is not None:
        call.user()
    row = projects.find(call.connection, call.path("id"))
    if row is None:
        raise not_found("Project")
    level = access.project_level(call.connection, call.who, row)
    access.require_level(level, least, call.who, row, "Project")
    return row, level


def _present(call: Call, row: db.Row, level: int) -> dict[str, Any]:
    return projects.present(call.connection, call.config, row, level)


def _namespace(call: Call, who: Principal) -> db.Row:
    identity = call.integer("namespace_id")
    if identity is None:
        own = db.one(call.connection, "SELECT * FROM namespaces WHERE owner_id = ?", who.user["id"])
        if own is None:
            raise missing("namespace_id")
        return own
    row = namespaces.find(call.connection, str(identity))
    if row is None or access.namespace_level(call.connection, who, row) < access.DEVELOPER:
        raise ApiError(400, {"message": {"namespace": ["is not valid"], "limit_reached": []}})
    return row


def _options(call: Call) -> dict[str, Any]:
    chosen = {name: call.params[name] for name in projects.OPTIONS if name in call.params}
    for name in chosen:
        if name.endswith("_access_level"):
            call.choice(name, (*LEVELS, "public"))
        elif isinstance(projects.OPTIONS[name], bool):
            chosen[name] = call.flag(name)
    enabled = call.flag("container_registry_enabled")
    if enabled is not None and "container_registry_access_level" not in chosen:
        chosen["container_registry_access_level"] = "enabled" if enabled else "disabled"
    return chosen


routes = [
    *route("/projects", GET=listing, POST=create),
    *route("/projects/{id}", GET=get, PUT=update, DELETE=delete),
]
