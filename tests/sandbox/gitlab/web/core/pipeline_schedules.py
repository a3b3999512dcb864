"""Schedules of pipelines: records, what they may be, when the worker comes to them. It is run by `ci/scheduler.py`.

The worker looks at schedules only at times of its own (`gitlab_rails['pipeline_schedule_worker_cron']`), so that a
schedule runs at the first of these that is not before its own time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from . import db, repositories, sealing
from .config import Config
from .cron import Cron, CronError, zone
from .errors import ApiError, rejected

#: Of one project (`plan_limits.ci_pipeline_schedules`).
MAXIMUM = 10
WRONG_SYNTAX = " is invalid syntax"


def get(connection: db.Connection, identity: int) -> db.Row:
    """The row of one that exists."""
    row = db.one(connection, "SELECT * FROM ci_pipeline_schedules WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"pipeline schedule {identity}")
    return row


def of_project(connection: db.Connection, project_id: int) -> list[db.Row]:
    """All schedules of a project."""
    query = "SELECT * FROM ci_pipeline_schedules WHERE project_id = ? ORDER BY id"
    return connection.execute(query, (project_id,)).fetchall()


def check(wanted: dict[str, Any]) -> None:
    """Refuse what can be no schedule."""
    if not wanted["description"]:
        raise rejected("description", "can't be blank")
    for name, read in (("cron", Cron.parse), ("cron_timezone", zone)):
        try:
            read(str(wanted[name]))
        except CronError:
            raise rejected(name, WRONG_SYNTAX) from None


def whole_ref(config: Config, project_id: int, ref: str) -> str:
    """A ref with what says of which kind it is; as it was given when there is none, or both a branch and a tag."""
    if ref.startswith((repositories.BRANCHES, repositories.TAGS)):
        return ref
    branch, tag = (known(config, project_id).get(ref) for known in (repositories.branches, repositories.tags))
    if branch and tag:
        raise rejected("ref", "is ambiguous")
    return f"{repositories.TAGS if tag else repositories.BRANCHES}{ref}" if branch or tag else ref


def create(connection: db.Connection, config: Config, project_id: int, owner_id: int, wanted: dict[str, Any]) -> db.Row:
    """Make one."""
    check(wanted)
    if len(of_project(connection, project_id)) >= MAXIMUM:
        words = f"Maximum number of ci pipeline schedules ({MAXIMUM}) exceeded"
        raise ApiError(400, {"message": {"base": [words]}})
    values = {**wanted, "ref": whole_ref(config, project_id, wanted["ref"])}
    identity = db.insert(
        connection,
        "ci_pipeline_schedules",
        project_id=project_id,
        owner_id=owner_id,
        **values,
        next_run_at=next_run(config, values, datetime.now(UTC)),
        created_at=db.now(),
        updated_at=db.now(),
    )
    return get(connection, identity)


def update(connection: db.Connection, config: Config, row: db.Row, **values: Any) -> db.Row:
    """Change one; it is put into the worker's calendar anew."""
    wanted = {name: row[name] for name in ("description", "ref", "cron", "cron_timezone", "active")} | values
    check(wanted)
    wanted["ref"] = whole_ref(config, row["project_id"], wanted["ref"])
    wanted |= {"owner_id": values.get("owner_id", row["owner_id"]), "updated_at": db.now()}
    wanted["next_run_at"] = next_run(config, wanted, datetime.now(UTC))
    names = ", ".join(f"{name} = ?" for name in wanted)
    connection.execute(
        f"UPDATE ci_pipeline_schedules SET {names} WHERE id = ?",  # noqa: S608
        (*wanted.values(), row["id"]),
    )
    return get(connection, row["id"])


def next_run(config: Config, wanted: Any, now: datetime) -> str | None:
    """When the worker comes to a schedule next."""
    ideal = Cron.parse(wanted["cron"]).next_after(now, zone(wanted["cron_timezone"]))
    if ideal is None:
        return None
    found = Cron.parse(config.pipeline_schedule_worker_cron).next_after(ideal - timedelta(seconds=1))
    return None if found is None else db.written(found)


def variables(connection: db.Connection, config: Config, schedule_id: int) -> list[dict[str, Any]]:
    """The variables that its pipelines get."""
    rows = connection.execute(
        "SELECT * FROM ci_pipeline_schedule_variables WHERE schedule_id = ? ORDER BY id", (schedule_id,)
    ).fetchall()
    return [
        {
            "variable_type": row["variable_type"],
            "key": row["key"],
            "value": sealing.unseal(config, row["encrypted_value"]),
            "raw": False,
        }
        for row in rows
    ]


def set_variable(
    connection: db.Connection, config: Config, schedule_id: int, *, key: str, value: str, kind: str
) -> None:
    """Make or change a variable."""
    connection.execute(
        "INSERT INTO ci_pipeline_schedule_variables (schedule_id, key, encrypted_value, variable_type) "
        "VALUES (?, ?, ?, ?) ON CONFLICT (schedule_id, key) DO UPDATE SET encrypted_value = excluded.encrypted_value, "
        "variable_type = excluded.variable_type",
        (schedule_id, key, sealing.seal(config, value), kind),
    )
