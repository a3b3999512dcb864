"""Environments, deployments and resource groups as JSON."""

from __future__ import annotations

from typing import Any

from ..core import db, environments, projects
from ..core.config import Config
from . import views


def environment(connection: db.Connection, config: Config, row: db.Row, *, full: bool = False) -> dict[str, Any]:
    """An environment; `full` with its newest good deployment, on its own."""
    shown = {name: row[name] for name in ("id", "name", "slug", "external_url", "created_at", "updated_at")}
    shown |= {"tier": row["tier"], "state": row["state"], "auto_stop_at": row["auto_stop_at"], "description": None}
    shown |= {"auto_stop_setting": "always", "cluster_agent": None, "kubernetes_namespace": None}
    if full:
        last = environments.last_deployment(connection, row)
        shown["last_deployment"] = None
        if last is not None:
            shown["last_deployment"] = deployment(connection, config, last)
            del shown["last_deployment"]["environment"]
        return shown
    found = projects.find(connection, str(row["project_id"]))
    shown["project"] = views.project(connection, config, found) if found is not None else None
    return shown


def deployment(connection: db.Connection, config: Config, row: db.Row) -> dict[str, Any]:
    """A deployment, of the view `deployment_states`. The user is who started the job, if that is known."""
    job = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", row["job_id"])
    where = environments.get(connection, row["environment_id"])
    basic = {name: where[name] for name in ("id", "name", "slug", "external_url", "created_at", "updated_at")}
    return {
        "id": row["id"],
        "iid": row["iid"],
        "ref": row["ref"],
        "sha": row["sha"],
        "created_at": row["created_at"],
        "updated_at": row["finished_at"] or row["updated_at"],
        "user": views.user(connection, config, job["user_id"] if job is not None else row["user_id"]),
        "environment": basic,
        "deployable": views.job(connection, config, job) if job is not None else None,
        "status": row["state"],
    }


def resource_group(row: db.Row) -> dict[str, Any]:
    """A resource group."""
    return {name: row[name] for name in ("id", "key", "process_mode", "created_at", "updated_at")}
