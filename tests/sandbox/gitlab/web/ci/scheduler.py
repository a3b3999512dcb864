"""What time brings, as Sidekiq does in GitLab: pipelines of schedules, delayed and lost jobs, environments that end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from ..core import db, events, pipeline_schedules, projects, repositories, users
from ..core.config import Config
from ..core.cron import Cron
from . import environment_actions, merging, pipelines, progress

#: `environments_auto_stop_cron_worker`.
ENVIRONMENTS_CRON = Cron.parse("24 * * * *")
#: Longest time between two looks at the clock and at delayed jobs, in seconds.
LOOK_S = 1
Clock = Callable[[], datetime]


def run_due(config: Config, now: datetime) -> list[int]:
    """Start the pipelines of the schedules whose time has come; answers the schedules."""
    with db.connect(config.database) as connection:
        progress.lock(connection)
        rows = connection.execute(
            "SELECT * FROM ci_pipeline_schedules WHERE active = 1 AND next_run_at < ? ORDER BY id", (db.written(now),)
        ).fetchall()
        for row in rows:
            following = pipeline_schedules.next_run(config, row, now)
            connection.execute("UPDATE ci_pipeline_schedules SET next_run_at = ? WHERE id = ?", (following, row["id"]))
            if row["owner_id"] is not None:
                start(connection, config, row, users.get(connection, row["owner_id"]))
    return [row["id"] for row in rows]


def start(connection: db.Connection, config: Config, row: db.Row, user: db.Row) -> tuple[db.Row | None, str | None]:
    """Start a schedule's pipeline in the name of a user. Nobody is told when there is none, as in GitLab."""
    project = projects.find(connection, str(row["project_id"]))
    sha = repositories.resolve(config, row["project_id"], row["ref"])
    if project is None or sha is None or project["marked_for_deletion_on"] is not None:
        return None, "Reference not found"
    whole = row["ref"] if row["ref"].startswith("refs/") else f"{repositories.BRANCHES}{row['ref']}"
    begun = pipelines.Start(project, user, whole, sha, events.NO_COMMIT, "schedule", schedule=row)
    return pipelines.create(connection, config, begun)


def play(config: Config, schedule_id: int, user_id: int) -> None:
    """Start a schedule's pipeline now."""
    with db.connect(config.database) as connection:
        progress.lock(connection)
        row = pipeline_schedules.get(connection, schedule_id)
        start(connection, config, row, users.get(connection, user_id))


def watch(config: Config, clock: Clock = lambda: datetime.now(UTC), longest_look_s: float = LOOK_S) -> threading.Event:
    """Do in the background what is due, until the event that is returned is set."""
    stopped = threading.Event()
    schedules_cron = Cron.parse(config.pipeline_schedule_worker_cron)

    def work() -> None:
        schedules_at, environments_at = schedules_cron.next_after(clock()), ENVIRONMENTS_CRON.next_after(clock())
        while not stopped.is_set():
            now = clock()
            if schedules_at is not None and now >= schedules_at:
                _safely(run_due, config, now)
                schedules_at = schedules_cron.next_after(now)
            if environments_at is not None and now >= environments_at:
                _safely(_stop_environments, config, now)
                environments_at = ENVIRONMENTS_CRON.next_after(now)
            _safely(_sweep, config, now)
            _safely(lambda *_: merging.prepare_left(config), config, now)
            known = [due for due in (schedules_at, environments_at) if due is not None]
            stopped.wait(min(longest_look_s, *(max((due - now).total_seconds(), 0) for due in known)))

    threading.Thread(target=work, daemon=True).start()
    return stopped


def _sweep(config: Config, _now: datetime) -> None:
    with db.connect(config.database) as connection:
        progress.lock(connection)
        progress.sweep(connection)


def _stop_environments(config: Config, now: datetime) -> None:
    with db.connect(config.database) as connection:
        progress.lock(connection)
        environment_actions.stop_due(connection, now)


def _safely(work: Callable[[Config, datetime], object], config: Config, now: datetime) -> None:
    try:
        work(config, now)
    except Exception as trouble:
        print(f"scheduler: {trouble!r}", flush=True)
