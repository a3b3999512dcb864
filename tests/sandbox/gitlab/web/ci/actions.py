"""What users do with pipelines and jobs: retry, cancel, play. Each locks the database first."""

from __future__ import annotations

from ..core import db
from ..core.errors import ApiError, forbidden
from . import deployments, progress


def retry_pipeline(connection: db.Connection, pipeline: db.Row, user_id: int) -> None:
    """Run again what failed or was canceled, and what was left out because of it."""
    progress.lock(connection)
    for job in progress.latest(connection, pipeline["id"]):
        if job["status"] == "failed" or (job["status"] == "canceled" and job["started_at"]):
            progress.copy(connection, job, user_id=user_id)
    progress.revive(connection, pipeline["id"])
    progress.advance(connection, pipeline["id"])


def cancel_pipeline(connection: db.Connection, pipeline: db.Row) -> None:
    """Stop all jobs of a pipeline."""
    progress.lock(connection)
    for job in progress.latest(connection, pipeline["id"]):
        if job["status"] in progress.CANCELABLE:
            progress.cancel(connection, job)
    progress.note(connection, pipeline["id"])


def retry_job(connection: db.Connection, job: db.Row, user_id: int) -> int:
    """Run a job again that has ended; return the ID of the new one."""
    progress.lock(connection)
    if job["retried"] or job["status"] not in ("success", "failed", "canceled"):
        raise forbidden("Job is not retryable")
    if deployments.outdated(connection, job):
        raise forbidden()
    identity = progress.copy(connection, job, user_id=user_id)
    _revive_later(connection, job)
    progress.advance(connection, job["pipeline_id"])
    return identity


def play_job(connection: db.Connection, job: db.Row, user_id: int) -> None:
    """Start a job that waits for somebody to do so."""
    progress.lock(connection)
    if job["status"] not in ("manual", "scheduled"):
        raise ApiError(400, {"message": "400 Bad request - Unplayable Job"})
    if deployments.outdated(connection, job):
        raise forbidden()
    progress.enqueue(connection, job["id"], user_id)
    _revive_later(connection, job)
    progress.advance(connection, job["pipeline_id"])


def cancel_job(connection: db.Connection, job: db.Row) -> None:
    """Stop a job; one that has ended stays as it is."""
    progress.lock(connection)
    if job["status"] in progress.CANCELABLE:
        progress.cancel(connection, job)
        progress.advance(connection, job["pipeline_id"])


def _revive_later(connection: db.Connection, job: db.Row) -> None:
    connection.execute(
        "UPDATE ci_jobs SET status = 'created', finished_at = NULL WHERE pipeline_id = ? AND retried = 0 AND "
        "status = 'skipped' AND (stage_index > ? OR needs IS NOT NULL)",
        (job["pipeline_id"], job["stage_index"]),
    )
    connection.execute("UPDATE ci_pipelines SET finished_at = NULL WHERE id = ?", (job["pipeline_id"],))
