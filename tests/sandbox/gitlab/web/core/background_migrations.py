"""Batched background migrations: a release queues them, they run with GitLab, and a later release needs them.

Like the real ones, they work through a table in batches, one batch an interval, and try a batch that fails three times.
The first release after the next required stop finishes them before it changes the schema, and stops if that fails. What
makes them slow or fail is in the database: the interval of a migration, or a trigger that refuses a change.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from . import db

PAUSED, ACTIVE, FINISHED, FAILED, FINALIZING, FINALIZED = 0, 1, 3, 4, 5, 6
NAMES = {
    PAUSED: "paused",
    ACTIVE: "active",
    FINISHED: "finished",
    FAILED: "failed",
    FINALIZING: "finalizing",
    FINALIZED: "finalized",
}
_JOB_FAILED, _JOB_SUCCEEDED = 2, 3
MAX_ATTEMPTS = 3
_TICK_S = 0.5


@dataclass(frozen=True)
class Backfill:
    """A migration that fills one column from another: which release queues it, and which one needs it."""

    job_class_name: str
    table: str
    source: str
    target: str
    queued_by: tuple[int, int]
    needed_by: tuple[int, int]


#: GitLab's own are others. A release needs those that were queued up to the last required stop before it.
BACKFILLS = (
    Backfill("BackfillProjectsPathDigest", "projects", "path", "path_digest", (19, 3), (19, 6)),
    Backfill("BackfillUsersUsernameDigest", "users", "username", "username_digest", (19, 5), (19, 6)),
)


class UnfinishedError(Exception):
    """A release needs a migration that could not be finished."""


def queue(connection: db.Connection, release: tuple[int, int]) -> None:
    """Queue what a release brings. An empty table needs no migration, and a migration is queued once."""
    for one in BACKFILLS:
        if one.queued_by != release or _find(connection, one.job_class_name) is not None:
            continue
        [last] = connection.execute(f"SELECT MAX(id) FROM {one.table}").fetchone()  # noqa: S608
        db.insert(
            connection,
            "batched_background_migrations",
            job_class_name=one.job_class_name,
            table_name=one.table,
            column_name="id",
            status=FINISHED if last is None else ACTIVE,
            max_value=last or 1,
            created_at=db.now(),
            started_at=db.now(),
        )


def require_finished(path: db.Database, release: tuple[int, int]) -> None:
    """Finish what a release needs, at once and without the usual pauses.

    Raises:
        UnfinishedError: one cannot be finished.
    """
    for one in BACKFILLS:
        if one.needed_by == release:
            _finalize(path, one.job_class_name)


def finalize(path: db.Database, job_class_name: str, table: str, column: str, arguments: str) -> None:
    """Finish one migration now, as `gitlab:background_migrations:finalize` does; an unknown one is ignored.

    Raises:
        UnfinishedError: it cannot be finished.
    """
    with db.connect(path) as connection:
        found = _find(connection, job_class_name)
    wanted = (table, column, json.loads(arguments))
    if found is not None and (found["table_name"], found["column_name"], json.loads(found["job_arguments"])) == wanted:
        _finalize(path, job_class_name)


def _finalize(path: db.Database, job_class_name: str) -> None:
    with db.connect(path) as connection:
        found = _find(connection, job_class_name)
        if found is None or found["status"] in (FINISHED, FINALIZED):
            _set(connection, found["id"] if found else 0, FINALIZED)
            return
        _set(connection, found["id"], FINALIZING)
    while True:
        # Each batch is a transaction of its own, so that what is done stays done.
        with db.connect(path) as connection:
            _run_job(connection, _row(connection, found["id"]))
            status = _row(connection, found["id"])["status"]
            if status == FINISHED:
                _set(connection, found["id"], FINALIZED)
                return
        if status != FINALIZING:
            raise UnfinishedError("Gitlab::Database::BackgroundMigration::BatchedMigrationRunner::FailedToFinalize")


def work(path: db.Database) -> None:
    """Run one batch of the first active migration whose interval has passed."""
    with db.connect(path) as connection:
        query = "SELECT * FROM batched_background_migrations WHERE status = ? ORDER BY id"
        for row in connection.execute(query, (ACTIVE,)).fetchall():
            last = db.one(
                connection,
                "SELECT MAX(created_at) AS at FROM batched_background_migration_jobs "
                "WHERE batched_background_migration_id = ?",
                row["id"],
            )
            pause = timedelta(seconds=row["interval"])
            if last is None or last["at"] is None or db.read(last["at"]) + pause <= datetime.now(UTC):
                _run_job(connection, row)
                return


def start(path: db.Database) -> threading.Event:
    """Work in the background, as Sidekiq does, until the event that is returned is set."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(_TICK_S):
            try:
                work(path)
            except db.errors() as trouble:
                print(f"background migrations: {trouble!r}", flush=True)

    threading.Thread(target=run, daemon=True).start()
    return stopped


def status_lines(connection: db.Connection) -> list[str]:
    """What `gitlab:background_migrations:status` prints."""
    width = max(map(len, NAMES.values()))
    rows = connection.execute("SELECT * FROM batched_background_migrations ORDER BY id").fetchall()
    names = ("job_class_name", "table_name", "column_name", "job_arguments")
    return ["Database: main", *(f"{NAMES[row['status']]:<{width}} | {','.join(row[n] for n in names)}" for row in rows)]


def progress(connection: db.Connection, row: db.Row) -> float:
    """How many percent of a migration are done."""
    if row["status"] in (FINISHED, FINALIZED):
        return 100.0
    [done] = connection.execute(
        "SELECT COUNT(*) FROM batched_background_migration_jobs "
        "WHERE batched_background_migration_id = ? AND status = ?",
        (row["id"], _JOB_SUCCEEDED),
    ).fetchone()
    size, values = int(row["batch_size"]), int(row["max_value"]) - int(row["min_value"]) + 1
    return round(min(100.0, 100.0 * int(done) * size / values), 2)


def _run_job(connection: db.Connection, migration: db.Row) -> None:
    job = _next_job(connection, migration)
    if job is None:
        [failed] = connection.execute(
            "SELECT COUNT(*) FROM batched_background_migration_jobs "
            "WHERE batched_background_migration_id = ? AND status = ?",
            (migration["id"], _JOB_FAILED),
        ).fetchone()
        _set(connection, migration["id"], FAILED if failed else FINISHED)
        return
    backfill = next(one for one in BACKFILLS if one.job_class_name == migration["job_class_name"])
    connection.execute("SAVEPOINT batch")
    try:
        _fill(connection, backfill, job)
    except db.errors() as error:
        connection.execute("ROLLBACK TO batch")
        db.insert(
            connection,
            "batched_background_migration_job_transition_logs",
            batched_background_migration_job_id=job["id"],
            exception_class="ActiveRecord::StatementInvalid",
            exception_message=f"PG::RaiseException: ERROR:  {error}",
            created_at=db.now(),
        )
        status = _JOB_FAILED
    else:
        status = _JOB_SUCCEEDED
    connection.execute("RELEASE batch")
    connection.execute(
        "UPDATE batched_background_migration_jobs SET status = ?, attempts = attempts + 1, created_at = ? WHERE id = ?",
        (status, db.now(), job["id"]),
    )


def _fill(connection: db.Connection, backfill: Backfill, job: db.Row) -> None:
    rows = connection.execute(
        f"SELECT id, {backfill.source} AS source FROM {backfill.table} WHERE id BETWEEN ? AND ?",  # noqa: S608
        (job["min_value"], job["max_value"]),
    ).fetchall()
    for row in rows:
        digest = hashlib.sha256(str(row["source"]).encode()).hexdigest()
        connection.execute(
            f"UPDATE {backfill.table} SET {backfill.target} = ? WHERE id = ?",  # noqa: S608
            (digest, row["id"]),
        )


def _next_job(connection: db.Connection, migration: db.Row) -> db.Row | None:
    jobs = "SELECT * FROM batched_background_migration_jobs WHERE batched_background_migration_id = ?"
    last = db.one(connection, f"{jobs} ORDER BY max_value DESC", migration["id"])
    first = last["max_value"] + 1 if last is not None else migration["min_value"]
    if first > migration["max_value"]:
        retriable = f"{jobs} AND status = ? AND attempts < ? ORDER BY id"
        return db.one(connection, retriable, migration["id"], _JOB_FAILED, MAX_ATTEMPTS)
    number = db.insert(
        connection,
        "batched_background_migration_jobs",
        batched_background_migration_id=migration["id"],
        min_value=first,
        max_value=min(first + migration["batch_size"] - 1, migration["max_value"]),
        batch_size=migration["batch_size"],
        created_at=db.now(),
    )
    return db.one(connection, "SELECT * FROM batched_background_migration_jobs WHERE id = ?", number)


def _find(connection: db.Connection, job_class_name: str) -> db.Row | None:
    return db.one(connection, "SELECT * FROM batched_background_migrations WHERE job_class_name = ?", job_class_name)


def _row(connection: db.Connection, number: int) -> db.Row:
    row = db.one(connection, "SELECT * FROM batched_background_migrations WHERE id = ?", number)
    if row is None:
        raise UnfinishedError(f"Couldn't find BatchedMigration with 'id'={number}")
    return row


def _set(connection: db.Connection, number: int, status: int) -> None:
    ended = db.now() if status in (FINISHED, FINALIZED) else None
    connection.execute(
        "UPDATE batched_background_migrations SET status = ?, finished_at = COALESCE(finished_at, ?) WHERE id = ?",
        (status, ended, number),
    )
