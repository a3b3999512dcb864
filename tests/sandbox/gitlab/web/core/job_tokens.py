"""Job tokens (`CI_JOB_TOKEN`): created when a runner takes a job, valid while the job runs."""

from __future__ import annotations

from dataclasses import dataclass

from . import db, tokens, users
from .config import Config

PREFIX = "glcbt-"
#: Name to go with the token where there has to be one: git over HTTPS, `docker login`.
USERNAME = "gitlab-ci-token"
ALIVE = ("running", "canceling")


@dataclass(frozen=True)
class JobToken:
    """A running job, its project, and the user in whose name it runs."""

    job: db.Row
    project: db.Row
    user: db.Row


def issue(connection: db.Connection, config: Config, job_id: int) -> str:
    """Make the token of a job; it is known only now."""
    token = tokens.generate(PREFIX)
    connection.execute(
        "UPDATE ci_jobs SET token_digest = ? WHERE id = ?", (tokens.digest(token, config.db_key_base), job_id)
    )
    return token


def find_job(connection: db.Connection, config: Config, token: str) -> db.Row | None:
    """The job that a token was made for, in whatever state it is now."""
    if not token.startswith(PREFIX):
        return None
    return db.one(connection, "SELECT * FROM ci_jobs WHERE token_digest = ?", tokens.digest(token, config.db_key_base))


def find(connection: db.Connection, config: Config, token: str) -> JobToken | None:
    """Who comes with a token; nobody when the job has ended, or its user is blocked."""
    job = find_job(connection, config, token)
    if job is None or job["status"] not in ALIVE or job["user_id"] is None:
        return None
    project = db.one(connection, "SELECT * FROM projects WHERE id = ?", job["project_id"])
    user = users.get(connection, job["user_id"])
    if project is None or user["state"] != "active":
        return None
    return JobToken(job, project, user)
