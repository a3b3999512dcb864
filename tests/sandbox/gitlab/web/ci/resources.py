"""Resource groups: jobs that must not run beside each other wait for a resource, one of them has it.

The resource is had from when a job waits for a runner until the job ends.
"""

from __future__ import annotations

from ..core import db

MODES = ("unordered", "oldest_first", "newest_first", "newest_ready_first")
HOLDING = ("pending", "running", "canceling")
ORDERS = {
    "unordered": "id",
    "oldest_first": "pipeline_id, id",
    "newest_first": "pipeline_id DESC, id",
    "newest_ready_first": "pipeline_id DESC, id",
}


def ensure(connection: db.Connection, project_id: int, key: str, mode: str) -> None:
    """Know a resource group; a new one works as the project says."""
    connection.execute(
        "INSERT OR IGNORE INTO ci_resource_groups (project_id, key, process_mode, created_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?)",
        (project_id, key, mode, db.now(), db.now()),
    )


def groups(connection: db.Connection, project_id: int) -> list[db.Row]:
    """The groups of a project."""
    query = "SELECT * FROM ci_resource_groups WHERE project_id = ? ORDER BY id"
    return connection.execute(query, (project_id,)).fetchall()


def holder(connection: db.Connection, project_id: int, key: str) -> db.Row | None:
    """The job that has the resource."""
    return db.one(
        connection,
        "SELECT * FROM ci_jobs WHERE project_id = ? AND resource_group = ? AND status IN "
        "('pending', 'running', 'canceling')",
        project_id,
        key,
    )


def waiting(connection: db.Connection, project_id: int, key: str) -> list[db.Row]:
    """The jobs that wait for it, the next one first. `oldest_first` waits for an older pipeline that is not so far."""
    group = db.one(connection, "SELECT * FROM ci_resource_groups WHERE project_id = ? AND key = ?", project_id, key)
    mode = group["process_mode"] if group is not None else "unordered"
    rows: list[db.Row] = connection.execute(
        "SELECT * FROM ci_jobs WHERE project_id = ? AND resource_group = ? AND status = 'waiting_for_resource' "  # noqa: S608
        f"ORDER BY {ORDERS[mode]}",
        (project_id, key),
    ).fetchall()
    if mode != "oldest_first" or not rows:
        return rows
    older = db.one(
        connection,
        "SELECT 1 FROM ci_jobs WHERE project_id = ? AND resource_group = ? AND retried = 0 AND pipeline_id < ? AND "
        "status IN ('created', 'scheduled')",
        project_id,
        key,
        rows[0]["pipeline_id"],
    )
    return [] if older else rows


def assign(connection: db.Connection) -> set[int]:
    """Give free resources to the jobs that are next; answers the pipelines that this has changed."""
    changed = set()
    wanted = connection.execute(
        "SELECT DISTINCT project_id, resource_group FROM ci_jobs WHERE status = 'waiting_for_resource'"
    ).fetchall()
    for entry in wanted:
        project_id, key = entry["project_id"], entry["resource_group"]
        following = waiting(connection, project_id, key)
        if following and holder(connection, project_id, key) is None:
            job = following[0]
            query = "UPDATE ci_jobs SET status = 'pending', queued_at = ? WHERE id = ?"
            connection.execute(query, (db.now(), job["id"]))
            changed.add(job["pipeline_id"])
    return changed
