"""What jobs do to environments: a deployment makes one available, the action `stop` ends it, and time may too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from ..core import db, environments
from ..core.config import Config
from . import actions, keywords, payload, progress, runners
from .conditions import expand
from .deployments import starts


def follow_job(connection: db.Connection, config: Config, job_id: int) -> None:
    """After a job has gone well: its environment is available, or it has stopped."""
    job = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", job_id)
    if job is None or job["status"] != "success" or job["environment_id"] is None:
        return
    options: dict[str, Any] = json.loads(job["options"])["environment"]
    row = environments.get(connection, job["environment_id"])
    if options.get("action") == "stop":
        environments.update(connection, row, state="stopped", auto_stop_at=None)
        return
    if options.get("action", "start") not in ("start", "prepare", "access", "verify"):
        return
    values: dict[str, object] = {}
    if options.get("auto_stop_in") and options.get("action", "start") in ("start", "prepare", "access"):
        seconds = (
            0 if options["auto_stop_in"] == "never" else keywords.duration("auto_stop_in", options["auto_stop_in"])
        )
        values["auto_stop_at"] = db.written(datetime.now(UTC) + timedelta(seconds=seconds)) if seconds else None
    if starts({"environment": options}):
        values["state"] = "available"
        if options.get("url"):
            values["external_url"] = expand(str(options["url"]), _values(connection, config, job))
    if values:
        environments.update(connection, row, **values)


def stop(connection: db.Connection, row: db.Row, user_id: int, *, force: bool = False) -> None:
    """Stop an environment: by the job that `on_stop` names, when there is one; else it is just stopped."""
    job = None if force else stopping_job(connection, row)
    if job is None or job["status"] in ("created", "skipped"):
        environments.update(connection, row, state="stopped", auto_stop_at=None)
        return
    environments.update(connection, row, state="stopping", auto_stop_at=None)
    if job["status"] in ("manual", "scheduled"):
        actions.play_job(connection, job, user_id)
    elif job["status"] in progress.FINISHED:
        actions.retry_job(connection, job, user_id)


def stopping_job(connection: db.Connection, row: db.Row) -> db.Row | None:
    """The job that stops what the newest deployment has started."""
    last = environments.last_deployment(connection, row)
    job = last and db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", last["job_id"])
    if not job:
        return None
    name = json.loads(job["options"])["environment"].get("on_stop")
    jobs = progress.latest(connection, job["pipeline_id"])
    return next((other for other in jobs if other["name"] == name), None)


def stop_due(connection: db.Connection, now: datetime) -> None:
    """Stop the environments whose time has come."""
    rows = connection.execute("SELECT * FROM environments WHERE state = 'available' AND auto_stop_at IS NOT NULL")
    for row in rows.fetchall():
        last = environments.last_deployment(connection, row)
        if db.read(row["auto_stop_at"]) <= now and last is not None and last["user_id"] is not None:
            stop(connection, row, last["user_id"])


def _values(connection: db.Connection, config: Config, job: db.Row) -> dict[str, str]:
    runner = runners.get(connection, job["runner_id"])
    entries = payload.variables_of(connection, config, job, runner, "")
    return {entry["key"]: entry["value"] for entry in entries} | dict(json.loads(job["dotenv"]))
