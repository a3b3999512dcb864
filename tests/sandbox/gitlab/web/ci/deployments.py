"""Jobs with `environment`, as records: they make the environment, and those with the action `start` are deployments.

A deployment that is older than one that has gone well is outdated: it does not start any more.
"""

from __future__ import annotations

from ..core import db, environments, projects
from .documents import Document

OUTDATED = "failed_outdated_deployment_job"
#: A job whose environment has a name that none can have.
NOT_MADE = "environment_creation_failure"
ENDED = ("success", "failed", "canceled", "skipped")


def ensure(connection: db.Connection, project: db.Row, environment: Document | None) -> db.Row | None:
    """The environment that a job names, made when there is none. Its name has no variables any more."""
    if not environment or not environment.get("name"):
        return None
    name = str(environment["name"])
    if not environments.NAME.match(name) or len(name) > environments.LONGEST_NAME:
        return None
    found = environments.find(connection, project["id"], name)
    return found or environments.create(connection, project["id"], name, tier=environment.get("deployment_tier"))


def record(connection: db.Connection, job_id: int, environment: db.Row | None, options: Document) -> None:
    """Record the deployment of a job that was just made."""
    if environment is None or not starts(options):
        return
    job = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", job_id)
    pipeline = job and db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", job["pipeline_id"])
    if job is None or pipeline is None:
        raise LookupError(f"job {job_id}")
    environments.deploy(
        connection,
        environment,
        user_id=job["user_id"],
        ref=pipeline["ref"],
        tag=bool(pipeline["tag"]),
        sha=pipeline["sha"],
        job_id=job_id,
    )


def starts(options: Document) -> bool:
    """Whether a job deploys."""
    environment = options.get("environment") or {}
    return bool(environment) and environment.get("action", "start") == "start"


def outdated(connection: db.Connection, job: db.Row) -> bool:
    """Whether a newer deployment to the same environment has gone well. One that was done before may be done again."""
    project = projects.find(connection, str(job["project_id"]))
    if project is None or not projects.options(project)["ci_forward_deployment_enabled"]:
        return False
    rollback = projects.options(project)["ci_forward_deployment_rollback_allowed"]
    if rollback and job["status"] in ENDED:
        return False
    own = db.one(connection, "SELECT * FROM deployments WHERE job_id = ?", job["id"])
    if own is None:
        return False
    last = environments.last_deployment(connection, environments.get(connection, own["environment_id"]))
    return last is not None and last["id"] > own["id"]
