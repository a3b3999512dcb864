"""Schedules of pipelines. Their variables are for those who may set a pipeline's variables: by default, nobody."""

from __future__ import annotations

from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response

from ..ci import scheduler, views
from ..core import access, db, pipeline_schedules, projects, protection, variables
from ..core.config import Config
from ..core.errors import ApiError, forbidden, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_project
from .pipelines import may_set_variables

NOT_AUTHORIZED = "The current user is not authorized to {} the pipeline schedule"


def listing(call: Call) -> Response:
    """Schedules of a project."""
    project, _ = _project(call, access.REPORTER)
    scope = call.choice("scope", ("active", "inactive"))
    rows = pipeline_schedules.of_project(call.connection, project["id"])
    found = [row for row in rows if scope is None or bool(row["active"]) == (scope == "active")]
    return page(call, [_basic(call, row) for row in found])


def get(call: Call) -> dict[str, Any]:
    """One schedule; its variables for its owner and for maintainers."""
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    shown = _full(call, row)
    if not _may_administrate(call, level, row):
        del shown["variables"]
    return shown


def create(call: Call) -> Response:
    """Make one, owned by who makes it: its pipelines run in their name."""
    project, level = _project(call, access.DEVELOPER)
    call.require("description", "ref", "cron")
    if not call.text("ref"):
        raise ApiError(400, {"error": "ref is empty"})
    wanted: dict[str, Any] = {name: call.text(name) for name in ("description", "ref", "cron")}
    wanted |= {"cron_timezone": call.text("cron_timezone", "UTC"), "active": int(bool(call.flag("active", True)))}
    wanted["cron"] = str(wanted["cron"]).strip()
    _require_ref(call, project, level, wanted["ref"], "create")
    user = call.user().user
    row = pipeline_schedules.create(call.connection, call.config, project["id"], user["id"], wanted)
    return created(_full(call, row))


def update(call: Call) -> dict[str, Any]:
    """Change one; for its owner and for administrators."""
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    _require_owner(call, level, row)
    values: dict[str, Any] = {
        name: call.text(name) for name in ("description", "ref", "cron", "cron_timezone") if name in call.params
    }
    if (active := call.flag("active")) is not None:
        values["active"] = int(active)
    _require_ref(call, project, level, values.get("ref", row["ref"]), "update")
    return _full(call, pipeline_schedules.update(call.connection, call.config, row, **values))


def own(call: Call) -> Response:
    """Take one over: its pipelines run in the new owner's name."""
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    if not _may_administrate(call, level, row):
        raise forbidden()
    user = call.user().user
    if row["owner_id"] == user["id"]:
        return JSONResponse(_full(call, row))
    return created(_full(call, pipeline_schedules.update(call.connection, call.config, row, owner_id=user["id"])))


def delete(call: Call) -> Response:
    """Remove one."""
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    if not _may_administrate(call, level, row):
        raise forbidden()
    call.connection.execute("DELETE FROM ci_pipeline_schedules WHERE id = ?", (row["id"],))
    return no_content()


def play(call: Call) -> Response:
    """Run it now, in the name of who asks; also an inactive one. The pipeline is there some time after the response."""
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    if level < access.DEVELOPER or not _may_run(call, project, level, row["ref"]):
        raise forbidden()
    later = BackgroundTask(scheduler.play, call.config, row["id"], call.user().user["id"])
    return created({"message": "201 Created"}, later)


def pipelines_of(call: Call) -> Response:
    """The pipelines that it has started, oldest first."""
    project, _ = _project(call, access.REPORTER)
    row = _find(call, project)
    order = (call.choice("sort", ("asc", "desc"), "asc") or "asc").upper()
    query = f"SELECT * FROM ci_pipelines WHERE schedule_id = ? ORDER BY id {order}"  # noqa: S608
    found = call.connection.execute(query, (row["id"],)).fetchall()
    return page(call, [views.pipeline(call.connection, call.config, one) for one in found])


def create_variable(call: Call) -> Response:
    """Add a variable."""
    row = _settable(call)
    call.require("key", "value")
    key = call.text("key") or ""
    variables.check_key(key)
    if _variable(call, row, key) is not None:
        raise variables.taken(key)
    return created(_set(call, row, key))


def get_variable(call: Call) -> dict[str, Any]:
    """One variable."""
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    if not _may_administrate(call, level, row):
        raise forbidden()
    return _known(call, row)


def update_variable(call: Call) -> dict[str, Any]:
    """Change a variable."""
    row = _settable(call)
    _known(call, row)
    return _set(call, row, call.path("key"))


def delete_variable(call: Call) -> Response:
    """Remove a variable."""
    row = _settable(call)
    known = _known(call, row)
    call.connection.execute(
        "DELETE FROM ci_pipeline_schedule_variables WHERE schedule_id = ? AND key = ?", (row["id"], call.path("key"))
    )
    return JSONResponse(known, 202)


def _settable(call: Call) -> db.Row:
    project, level = _project(call, access.REPORTER)
    row = _find(call, project)
    if not may_set_variables(project, level):
        raise forbidden()
    _require_owner(call, level, row)
    return row


def _set(call: Call, row: db.Row, key: str) -> dict[str, Any]:
    known = _variable(call, row, key) or {"value": "", "variable_type": "env_var"}
    kind = call.choice("variable_type", variables.TYPES) or known["variable_type"]
    value = call.text("value", known["value"]) or ""
    pipeline_schedules.set_variable(call.connection, call.config, row["id"], key=key, value=value, kind=kind)
    return _variable(call, row, key) or {}


def _known(call: Call, row: db.Row) -> dict[str, Any]:
    found = _variable(call, row, call.path("key"))
    if found is None:
        raise not_found("Pipeline Schedule Variable")
    return found


def _variable(call: Call, row: db.Row, key: str) -> dict[str, Any] | None:
    known = pipeline_schedules.variables(call.connection, call.config, row["id"])
    return next((entry for entry in known if entry["key"] == key), None)


def _project(call: Call, least: int) -> tuple[db.Row, int]:
    call.user()
    project, level = find_project(call, least)
    if projects.options(project)["builds_access_level"] == "disabled":
        raise forbidden()
    return project, level


def _find(call: Call, project: db.Row) -> db.Row:
    query = "SELECT * FROM ci_pipeline_schedules WHERE id = ? AND project_id = ?"
    row = db.one(call.connection, query, call.path("schedule"), project["id"])
    if row is None:
        raise not_found("Pipeline Schedule")
    return row


def _owned(call: Call, row: db.Row) -> bool:
    return bool(row["owner_id"] == call.user().user["id"])


def _may_administrate(call: Call, level: int, row: db.Row) -> bool:
    return level >= access.MAINTAINER or (level >= access.DEVELOPER and _owned(call, row))


def _require_owner(call: Call, level: int, row: db.Row) -> None:
    if not call.user().admin and (level < access.DEVELOPER or not _owned(call, row)):
        raise forbidden()


def _may_run(call: Call, project: db.Row, level: int, ref: str) -> bool:
    whole = pipeline_schedules.whole_ref(call.config, project["id"], ref)
    name, tag = whole.removeprefix("refs/heads/").removeprefix("refs/tags/"), whole.startswith("refs/tags/")
    return protection.may_run(call.connection, project, level, call.user().admin, ref=name, tag=tag)


def _require_ref(call: Call, project: db.Row, level: int, ref: str, action: str) -> None:
    if not _may_run(call, project, level, ref):
        raise ApiError(400, {"message": {"base": [NOT_AUTHORIZED.format(action)]}})


def _basic(call: Call, row: db.Row) -> dict[str, Any]:
    names = ("id", "description", "ref", "cron", "cron_timezone", "next_run_at", "created_at", "updated_at")
    shown: dict[str, Any] = {name: row[name] for name in names}
    shown["active"] = bool(row["active"])
    shown["owner"] = views.user(call.connection, call.config, row["owner_id"])
    return shown


def _full(call: Call, row: db.Row) -> dict[str, Any]:
    query = "SELECT * FROM ci_pipelines WHERE schedule_id = ? ORDER BY id DESC"
    last = db.one(call.connection, query, row["id"])
    config: Config = call.config
    return _basic(call, row) | {
        "last_pipeline": views.pipeline(call.connection, config, last) if last is not None else None,
        "variables": pipeline_schedules.variables(call.connection, config, row["id"]),
        "inputs": [],
    }


ONE = "/projects/{id}/pipeline_schedules/{schedule:int}"
routes = [
    *route("/projects/{id}/pipeline_schedules", GET=listing, POST=create),
    *route(ONE, GET=get, PUT=update, DELETE=delete),
    *route(f"{ONE}/take_ownership", POST=own),
    *route(f"{ONE}/play", POST=play),
    *route(f"{ONE}/pipelines", GET=pipelines_of),
    *route(f"{ONE}/variables", POST=create_variable),
    *route(f"{ONE}/variables/{{key}}", GET=get_variable, PUT=update_variable, DELETE=delete_variable),
]
