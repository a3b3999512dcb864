"""Runners: authentication, which jobs they may take, and why a job finds none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..core import db, projects, tokens
from ..core.config import Config
from ..core.errors import forbidden

PREFIX = "glrt-"
#: Of those that have made themselves with a registration token.
REGISTERED_PREFIX = "glrtr-"
TYPES = ("instance_type", "group_type", "project_type")
ONLINE, STALE = timedelta(hours=2), timedelta(days=7)
LEVELS = ("not_protected", "ref_protected")


def create(connection: db.Connection, config: Config, prefix: str = PREFIX, **values: object) -> tuple[db.Row, str]:
    """Make a runner; its token is known only now."""
    token = tokens.generate(prefix)
    digest = tokens.digest(token, config.db_key_base)
    identity = db.insert(connection, "ci_runners", token_digest=digest, created_at=db.now(), **values)
    return get(connection, identity), token


def renew(connection: db.Connection, config: Config, runner: db.Row) -> str:
    """A new token in the place of the old one."""
    token = tokens.generate(PREFIX)
    digest = tokens.digest(token, config.db_key_base)
    connection.execute("UPDATE ci_runners SET token_digest = ? WHERE id = ?", (digest, runner["id"]))
    return token


def get(connection: db.Connection, identity: int) -> db.Row:
    """The row of a runner that exists."""
    row = db.one(connection, "SELECT * FROM ci_runners WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"runner {identity}")
    return row


def by_token(connection: db.Connection, config: Config, token: str | None) -> db.Row:
    """The runner that comes with a token; refuses all others."""
    row = db.one(
        connection, "SELECT * FROM ci_runners WHERE token_digest = ?", tokens.digest(token or "", config.db_key_base)
    )
    if row is None:
        raise forbidden()
    return row


def contact(connection: db.Connection, runner: db.Row, system_id: str, info: Mapping[str, Any], address: str) -> int:
    """Record a contact of a runner and its machine; return the ID of its manager there."""
    now = db.now()
    connection.execute("UPDATE ci_runners SET contacted_at = ? WHERE id = ?", (now, runner["id"]))
    row = db.one(
        connection,
        "SELECT * FROM ci_runner_managers WHERE runner_id = ? AND system_id = ?",
        runner["id"],
        system_id,
    )
    if row is None:
        return db.insert(
            connection,
            "ci_runner_managers",
            runner_id=runner["id"],
            system_id=system_id,
            info=json.dumps(info),
            ip_address=address,
            contacted_at=now,
            created_at=now,
        )
    connection.execute(
        "UPDATE ci_runner_managers SET contacted_at = ?, ip_address = ?, info = ? WHERE id = ?",
        (now, address, json.dumps(info) if info else row["info"], row["id"]),
    )
    return int(row["id"])


def status(row: db.Row) -> str:
    """Whether a runner (or one of its managers) was heard of lately."""
    if row["contacted_at"] is None:
        return "never_contacted"
    age = datetime.now(UTC) - datetime.fromisoformat(row["contacted_at"])
    if age < ONLINE:
        return "online"
    return "stale" if age > STALE else "offline"


def managers(connection: db.Connection, runner: db.Row) -> list[db.Row]:
    """The processes that run with a runner's token, the one heard of last first."""
    return connection.execute(
        "SELECT * FROM ci_runner_managers WHERE runner_id = ? ORDER BY contacted_at DESC, id DESC", (runner["id"],)
    ).fetchall()


def project_ids(connection: db.Connection, runner: db.Row) -> list[int]:
    """The projects that a project runner is for; the first one owns it."""
    rows = connection.execute(
        "SELECT project_id FROM ci_runner_projects WHERE runner_id = ? ORDER BY rowid", (runner["id"],)
    )
    return [row["project_id"] for row in rows]


def serves(connection: db.Connection, runner: db.Row, project: db.Row) -> bool:
    """Whether a runner is for a project, whatever the job."""
    options = projects.options(project)
    if runner["runner_type"] == "instance_type":
        return bool(options["shared_runners_enabled"])
    if runner["runner_type"] == "group_type":
        return bool(options["group_runners_enabled"]) and runner["group_id"] in _groups(connection, project)
    return project["id"] in project_ids(connection, runner)


def refusal(runner: db.Row, job: db.Row, protected: bool) -> str | None:
    """Why a runner of the right project does not take a job."""
    wanted, offered = set(json.loads(job["tags"])), set(json.loads(runner["tags"]))
    if runner["paused"]:
        return "it is paused"
    if not wanted and not runner["run_untagged"]:
        return "it does not take jobs without tags"
    if wanted - offered:
        return f"it does not have the tags: {', '.join(sorted(wanted - offered))}"
    if runner["access_level"] == "ref_protected" and not protected:
        return "it takes only jobs of protected branches and tags"
    return None


def next_job(connection: db.Connection, runner: db.Row) -> db.Row | None:
    """The job that has waited longest of those that a runner may take."""
    if runner["paused"]:
        return None
    waiting: list[db.Row] = connection.execute(
        "SELECT ci_jobs.*, ci_pipelines.protected AS protected FROM ci_jobs JOIN ci_pipelines "
        "ON ci_pipelines.id = ci_jobs.pipeline_id WHERE ci_jobs.status = 'pending' ORDER BY ci_jobs.id"
    ).fetchall()
    for job in waiting:
        if refusal(runner, job, bool(job["protected"])) is None:
            project = projects.find(connection, str(job["project_id"]))
            if project is None or project["marked_for_deletion_on"] is not None:
                continue
            if serves(connection, runner, project):
                return job
    return None


def why_stuck(connection: db.Connection, job: db.Row) -> str | None:
    """Why a waiting job finds no runner; nothing when there is one online that may take it."""
    if job["status"] != "pending":
        return None
    project = projects.find(connection, str(job["project_id"]))
    pipeline = db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", job["pipeline_id"])
    if project is None or pipeline is None:
        return None
    everyone = connection.execute("SELECT * FROM ci_runners ORDER BY id").fetchall()
    serving = [runner for runner in everyone if serves(connection, runner, project)]
    if not serving:
        shared = any(runner["runner_type"] == "instance_type" for runner in everyone)
        off = " Shared runners are turned off for this project." if shared else ""
        return f"This job is stuck because the project doesn't have any runners assigned to it.{off}"
    refusals = {runner["id"]: refusal(runner, job, bool(pipeline["protected"])) for runner in serving}
    fitting = [runner for runner in serving if refusals[runner["id"]] is None]
    if not fitting:
        reasons = "; ".join(f"runner #{identity}: {reason}" for identity, reason in refusals.items())
        tags = ", ".join(json.loads(job["tags"]))
        wanted = f"assigned to this project with any of these tags: {tags}" if tags else "that may take this job"
        return f"This job is stuck because there are no online runners {wanted} ({reasons})."
    if not any(status(runner) == "online" for runner in fitting):
        names = ", ".join(f"#{runner['id']} ({status(runner).replace('_', ' ')})" for runner in fitting)
        return f"This job is stuck because no runner that may take it is online: {names}."
    return None


def _groups(connection: db.Connection, project: db.Row) -> set[int]:
    found, identity = set(), project["namespace_id"]
    while identity is not None:
        found.add(identity)
        row = db.one(connection, "SELECT parent_id FROM namespaces WHERE id = ?", identity)
        identity = row["parent_id"] if row else None
    return found
