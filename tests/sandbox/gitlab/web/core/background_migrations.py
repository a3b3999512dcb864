"""Batched background migrations: an upgrade queues them, they run with GitLab, and the next upgrade needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from . import db

PAUSED, ACTIVE, FINISHED, FAILED, FINALIZING, FINALIZED = 0, 1, 3, 4, 5, 6
NAMES = {PAUSED: "paused", ACTIVE: "active", FAILED: "failed", FINALIZING: "finalizing"}
#: How long one takes. In the real GitLab, two minutes is the shortest.
DURATION = timedelta(seconds=20)


class UnfinishedError(Exception):
    """An upgrade needs a migration that has not finished."""


def advance(connection: db.Connection) -> None:
    """Finish those whose time has come, as Sidekiq does."""
    due = db.written(datetime.now(UTC) - DURATION)
    connection.execute(
        "UPDATE batched_background_migrations SET status = ? WHERE status = ? AND created_at <= ?",
        (FINISHED, ACTIVE, due),
    )


def upgrade(connection: db.Connection, version: str) -> None:
    """Note the version that runs, and queue the migration that comes with it. A new database needs none.

    Raises:
        UnfinishedError: the version is another one, and a migration of the last one has not finished.
    """
    last = db.one(connection, "SELECT version FROM installed_versions ORDER BY id DESC")
    if last is not None and last["version"] == version:
        return
    advance(connection)
    query = "SELECT * FROM batched_background_migrations WHERE status NOT IN (?, ?) ORDER BY id"
    if last is not None and (row := db.one(connection, query, FINISHED, FINALIZED)) is not None:
        raise UnfinishedError(_words(row))
    db.insert(connection, "installed_versions", version=version)
    if last is not None:
        db.insert(
            connection,
            "batched_background_migrations",
            job_class_name=f"BackfillAfter{last['version'].replace('.', '')}",
            table_name="projects",
            column_name="id",
            status=ACTIVE,
            created_at=db.now(),
        )


def _words(row: db.Row) -> str:
    names = ("job_class_name", "table_name", "column_name", "job_arguments")
    configuration = ", ".join(f":{name}=>{row[name]!r}" for name in names)
    task = f"gitlab:background_migrations:finalize[{','.join(str(row[name]) for name in names)}]"
    return (
        "Expected batched background migration for the given configuration to be marked as 'finished', but it is "
        f"'{NAMES[row['status']]}':\t{{{configuration}}}\n\nFinalize it manually by running the following command in a "
        f"`bash` or `sh` shell:\n\n\tsudo gitlab-rake {task}"
    )
