r"""How pipelines progress: which job may start, the status of a pipeline, what follows when a job ends.

created -> (waiting_for_resource ->) pending -> running -> success | failed | canceled
         \-> manual, scheduled, skipped
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ..core import db, environments
from . import deployments, hooks, resources

ACTIVE = ("pending", "running", "canceling")
FINISHED = ("success", "failed", "canceled", "skipped")
CANCELABLE = ("created", "pending", "running", "manual", "scheduled", "waiting_for_resource")
FITTING = {
    "on_success": ("success", "skipped"),
    "manual": ("success", "skipped"),
    "delayed": ("success", "skipped"),
    "on_failure": ("failed",),
    "always": ("success", "failed", "skipped"),
}
#: How long a runner may say nothing of a job before it counts as lost.
SILENCE = timedelta(hours=1)
#: How long a job may wait for a runner.
PATIENCE = timedelta(hours=24)


def lock(connection: db.Connection) -> None:
    """Be the only one that changes anything until the end of the transaction."""
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")


def latest(connection: db.Connection, pipeline_id: int) -> list[db.Row]:
    """The jobs of a pipeline, without those that were tried again."""
    return connection.execute(
        "SELECT * FROM ci_jobs WHERE pipeline_id = ? AND retried = 0 ORDER BY stage_index, id", (pipeline_id,)
    ).fetchall()


def composite(jobs: Sequence[db.Row]) -> str:
    """What jobs come to together.

    One that may fail counts as passed, and a manual one that holds nothing up as left out.
    """
    states = {_effective(job) for job in jobs}
    for state, of_these in (("skipped", {"skipped"}), ("success", {"success", "skipped"}), ("created", {"created"})):
        if states <= of_these:
            return state
    for state in ("canceling", "running"):
        if state in states:
            return state
    if "pending" in states:
        return "running" if states & {"success", "failed", "canceled"} else "pending"
    if "waiting_for_resource" in states:
        return "waiting_for_resource"
    if states & {"created"} and not states & {"manual", "scheduled"}:
        return "running"
    return next(state for state in ("manual", "scheduled", "failed", "canceled") if state in states)


def advance(connection: db.Connection, pipeline_id: int) -> None:
    """Start what may start, leave out what will not, and note what the pipeline comes to."""
    moved = True
    while moved:
        jobs = latest(connection, pipeline_id)
        moved = any(_advance_job(connection, job, jobs) for job in jobs if job["status"] == "created")
    note(connection, pipeline_id)


def note(connection: db.Connection, pipeline_id: int) -> None:
    """Write down what a pipeline comes to now, and have those go on that waited for what its jobs had."""
    _write_down(connection, pipeline_id)
    for other in resources.assign(connection):
        _write_down(connection, other)


def _write_down(connection: db.Connection, pipeline_id: int) -> None:
    jobs = latest(connection, pipeline_id)
    before = db.one(connection, "SELECT status, yaml_errors FROM ci_pipelines WHERE id = ?", pipeline_id)
    status, now = composite(jobs), db.now()
    started = min((job["started_at"] for job in jobs if job["started_at"]), default=None)
    finished = now if status in FINISHED else None
    connection.execute(
        "UPDATE ci_pipelines SET status = ?, updated_at = ?, started_at = IFNULL(started_at, ?), "
        "finished_at = CASE WHEN ? IS NULL THEN NULL ELSE IFNULL(finished_at, ?) END "
        "WHERE id = ? AND yaml_errors IS NULL",
        (status, now, started, finished, finished, pipeline_id),
    )
    if before is not None and before["yaml_errors"] is None:
        hooks.note(connection, pipeline_id, before["status"], status)


def finish(
    connection: db.Connection, job: db.Row, state: str, reason: str | None = None, exit_code: int | None = None
) -> None:
    """End a job, try it again when it is to be, and let the pipeline go on."""
    options = json.loads(job["options"])
    forgiven = bool(job["allow_failure"]) or (
        state == "failed" and exit_code is not None and exit_code in options.get("allow_failure_exit_codes", [])
    )
    connection.execute(
        "UPDATE ci_jobs SET status = ?, failure_reason = ?, exit_code = ?, allow_failure = ?, finished_at = ? "
        "WHERE id = ?",
        (state, reason if state == "failed" else None, exit_code, int(forgiven), db.now(), job["id"]),
    )
    if state == "failed" and _again(options.get("retry"), job, reason, exit_code):
        copy(connection, job, job["attempt"] + 1)
    advance(connection, job["pipeline_id"])


def copy(connection: db.Connection, job: db.Row, attempt: int = 0, user_id: int | None = None) -> int:
    """A job in the place of one that has ended, waiting for a runner."""
    kept = (
        "pipeline_id", "project_id", "name", "stage", "stage_index", "run_when", "options", "variables", "tags",
        "needs", "timeout", "environment_id", "resource_group",
    )  # fmt: skip
    options = json.loads(job["options"])
    identity = db.insert(
        connection,
        "ci_jobs",
        **{name: job[name] for name in kept},
        allow_failure=0 if "allow_failure_exit_codes" in options else job["allow_failure"],
        user_id=user_id or job["user_id"],
        attempt=attempt,
        status="created",
        created_at=db.now(),
    )
    connection.execute("UPDATE ci_jobs SET retried = 1 WHERE id = ?", (job["id"],))
    if job["environment_id"] is not None:
        deployments.record(connection, identity, environments.get(connection, job["environment_id"]), options)
    enqueue(connection, identity)
    return identity


def enqueue(connection: db.Connection, job_id: int, user_id: int | None = None) -> None:
    """Have a job wait for a runner, or first for the resource that it must have alone."""
    connection.execute(
        "UPDATE ci_jobs SET status = CASE WHEN resource_group IS NULL THEN 'pending' ELSE 'waiting_for_resource' END, "
        "queued_at = ?, user_id = IFNULL(?, user_id) WHERE id = ?",
        (db.now(), user_id, job_id),
    )


def revive(connection: db.Connection, pipeline_id: int) -> None:
    """Have jobs that were left out or stopped before they ran considered again."""
    connection.execute(
        "UPDATE ci_jobs SET status = 'created', finished_at = NULL WHERE pipeline_id = ? AND retried = 0 AND "
        "(status = 'skipped' OR (status = 'canceled' AND started_at IS NULL))",
        (pipeline_id,),
    )
    connection.execute("UPDATE ci_pipelines SET finished_at = NULL WHERE id = ?", (pipeline_id,))


def cancel(connection: db.Connection, job: db.Row) -> None:
    """Stop a job: at once when no runner has it, else as soon as its runner hears of it and has cleaned up."""
    graceful = job["status"] == "running" and _graceful(connection, job)
    connection.execute(
        "UPDATE ci_jobs SET status = ?, finished_at = ? WHERE id = ?",
        ("canceling" if graceful else "canceled", None if graceful else db.now(), job["id"]),
    )


def sweep(connection: db.Connection) -> None:
    """What time brings: delayed jobs begin to wait, jobs without a sign of life end, what was removed frees others."""
    moment = datetime.now(UTC)
    touched = set()
    for job in connection.execute(
        "SELECT * FROM ci_jobs WHERE status IN ('pending', 'running', 'canceling', 'scheduled')"
    ).fetchall():
        if job["status"] == "scheduled":
            if _time(job["scheduled_at"]) <= moment:
                enqueue(connection, job["id"])
                touched.add(job["pipeline_id"])
        elif job["status"] == "pending":
            if moment - _time(job["queued_at"]) > PATIENCE:
                finish(connection, job, "failed", "stuck_or_timeout_failure")
        elif moment - _time(job["seen_at"]) > SILENCE:
            state = "canceled" if job["status"] == "canceling" else "failed"
            finish(connection, job, state, "stuck_or_timeout_failure")
        elif moment - _time(job["started_at"]) > timedelta(seconds=job["timeout"] + 600):
            finish(connection, job, "failed", "job_execution_timeout")
    for pipeline_id in touched | resources.assign(connection):
        note(connection, pipeline_id)


def _advance_job(connection: db.Connection, job: db.Row, jobs: Sequence[db.Row]) -> bool:
    before = _waits_for(job, jobs)
    if any(not _settled(other) for other in before):
        return False
    status = composite(before) if before else "success"
    if job["needs"] is not None and any(_effective(other) == "skipped" for other in before):
        status = "blocked"  # A needed job has to have run, also one that somebody may start and did not.
    if status not in FITTING[job["run_when"]]:
        connection.execute("UPDATE ci_jobs SET status = 'skipped', finished_at = ? WHERE id = ?", (db.now(), job["id"]))
    elif job["run_when"] == "manual":
        connection.execute("UPDATE ci_jobs SET status = 'manual' WHERE id = ?", (job["id"],))
    elif job["run_when"] == "delayed":
        due = datetime.now(UTC) + timedelta(seconds=json.loads(job["options"]).get("start_in", 0))
        connection.execute(
            "UPDATE ci_jobs SET status = 'scheduled', scheduled_at = ? WHERE id = ?", (due.isoformat(), job["id"])
        )
    elif deployments.outdated(connection, job):
        connection.execute(
            "UPDATE ci_jobs SET status = 'failed', failure_reason = ?, finished_at = ? WHERE id = ?",
            (deployments.OUTDATED, db.now(), job["id"]),
        )
    else:
        enqueue(connection, job["id"])
    return True


def _waits_for(job: db.Row, jobs: Sequence[db.Row]) -> list[db.Row]:
    if job["needs"] is None:
        return [other for other in jobs if other["stage_index"] < job["stage_index"]]
    names = {need["job"] for need in json.loads(job["needs"])}
    return [other for other in jobs if other["name"] in names]


def _settled(job: db.Row) -> bool:
    return job["status"] in FINISHED or (job["status"] == "manual" and bool(job["allow_failure"]))


def _effective(job: db.Row) -> str:
    if job["allow_failure"] and job["status"] in ("failed", "canceled"):
        return "success"
    if job["allow_failure"] and job["status"] == "manual":
        return "skipped"
    return str(job["status"])


def _again(retry: dict[str, object] | None, job: db.Row, reason: str | None, exit_code: int | None) -> bool:
    if not retry or job["attempt"] >= int(str(retry["max"])):
        return False
    whens, codes = retry["when"], retry["exit_codes"]
    by_reason = isinstance(whens, list) and ("always" in whens or reason in whens)
    if isinstance(codes, list) and codes:
        return exit_code in codes or ("always" not in (whens or []) and by_reason)  # type: ignore[operator]
    return by_reason


def _graceful(connection: db.Connection, job: db.Row) -> bool:
    manager = db.one(connection, "SELECT info FROM ci_runner_managers WHERE id = ?", job["manager_id"])
    info = json.loads(manager["info"]) if manager else {}
    return bool((info.get("features") or {}).get("cancel_gracefully"))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
