"""Pipelines, jobs and runners as JSON."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..core import db, namespaces, projects, repositories, users
from ..core.config import Config
from . import runners, storage

#: What a status is called where people read it.
LABELS = {
    "success": "passed",
    "manual": "waiting for manual action",
    "scheduled": "waiting for delayed job",
    "waiting_for_resource": "waiting for resource",
}
TEXTS = {"manual": "Blocked", "scheduled": "Scheduled", "waiting_for_resource": "Waiting"}


def seconds(start: str | None, end: str | None) -> float | None:
    """Time between two moments; until now when it has not ended."""
    if start is None:
        return None
    last = datetime.fromisoformat(end or db.now())
    return round((last - datetime.fromisoformat(start)).total_seconds(), 3)


def user(connection: db.Connection, config: Config, identity: int | None) -> dict[str, Any] | None:
    """A user inside of something else."""
    if identity is None:
        return None
    return users.present(users.get(connection, identity), config.external_url)


def project_path(connection: db.Connection, identity: int) -> str:
    """The path of a project."""
    row = projects.find(connection, str(identity))
    if row is None:
        raise LookupError(f"project {identity}")
    return str(row["full_path"])


def pipeline(connection: db.Connection, config: Config, row: db.Row, full: bool = False) -> dict[str, Any]:
    """A pipeline; `full` on its own."""
    path = project_path(connection, row["project_id"])
    shown: dict[str, Any] = {
        "id": row["id"],
        "iid": row["iid"],
        "project_id": row["project_id"],
        "sha": row["sha"],
        "ref": row["ref"],
        "status": row["status"],
        "source": row["source"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "web_url": f"{config.external_url}/{path}/-/pipelines/{row['id']}",
        "name": row["name"],
    }
    if full:
        ran = seconds(row["started_at"], row["finished_at"]) if row["finished_at"] else None
        shown |= {
            "before_sha": row["before_sha"],
            "tag": bool(row["tag"]),
            "yaml_errors": row["yaml_errors"],
            "user": user(connection, config, row["user_id"]),
            "started_at": row["started_at"],
            "finished_at": row["finished_at"],
            "committed_at": None,
            "duration": None if ran is None else round(ran),
            "queued_duration": None,
            "coverage": None,
            "archived": False,
            "detailed_status": _detailed(row["status"], f"/{path}/-/pipelines/{row['id']}"),
        }
    return shown


def job(connection: db.Connection, config: Config, row: db.Row) -> dict[str, Any]:
    """A job."""
    path = project_path(connection, row["project_id"])
    owner = db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", row["pipeline_id"])
    if owner is None:
        raise LookupError(f"pipeline {row['pipeline_id']}")
    archive = storage.artifact(connection, row["id"], "archive")
    kept = connection.execute("SELECT * FROM ci_artifacts WHERE job_id = ? ORDER BY id", (row["id"],)).fetchall()
    files = [_artifact(entry) for entry in kept]
    if size := storage.live_size(config, row["id"]):
        files.append({"file_type": "trace", "size": size, "filename": "job.log", "file_format": None})
    shown = {
        "id": row["id"],
        "status": row["status"],
        "stage": row["stage"],
        "name": row["name"],
        "ref": owner["ref"],
        "tag": bool(owner["tag"]),
        "coverage": row["coverage"],
        "allow_failure": bool(row["allow_failure"]),
        "created_at": row["created_at"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "erased_at": row["erased_at"],
        "duration": seconds(row["started_at"], row["finished_at"]),
        "queued_duration": seconds(row["queued_at"], row["started_at"]),
        "user": user(connection, config, row["user_id"]),
        "commit": commit(config, row["project_id"], owner["sha"], path),
        "pipeline": pipeline(connection, config, owner),
        "failure_reason": row["failure_reason"],
        "web_url": f"{config.external_url}/{path}/-/jobs/{row['id']}",
        "project": {"ci_job_token_scope_enabled": False},
        "artifacts": files,
        "runner": None,
        "runner_manager": None,
        "artifacts_expire_at": archive["expire_at"] if archive else None,
        "archived": False,
        "tag_list": json.loads(row["tags"]),
    }
    if shown["failure_reason"] is None:
        del shown["failure_reason"]
    if archive:
        shown["artifacts_file"] = {"filename": archive["filename"], "size": archive["size"]}
    if row["runner_id"]:
        shown["runner"] = runner(connection, config, runners.get(connection, row["runner_id"]))
        manager_row = db.one(connection, "SELECT * FROM ci_runner_managers WHERE id = ?", row["manager_id"])
        shown["runner_manager"] = manager(manager_row) if manager_row else None
    return shown


def find_commit(config: Config, project_id: int, sha: str) -> repositories.Commit | None:
    """A commit by its whole sha. It never changes, so it is read once."""
    try:
        return _read_commit(config, project_id, sha)
    except LookupError:
        return None


@lru_cache(maxsize=2048)
def _read_commit(config: Config, project_id: int, sha: str) -> repositories.Commit:
    found = repositories.commit(config, project_id, sha)
    if found is None:
        raise LookupError(sha)
    return found


def commit(config: Config, project_id: int, sha: str, path: str) -> dict[str, Any] | None:
    """A commit inside of something else."""
    found = find_commit(config, project_id, sha)
    if found is None:
        return None
    return {
        "id": found.sha,
        "short_id": found.sha[:8],
        "created_at": found.committed_at,
        "parent_ids": list(found.parents),
        "title": found.title,
        "message": found.message,
        "author_name": found.author_name,
        "author_email": found.author_email,
        "authored_date": found.authored_at,
        "committer_name": found.committer_name,
        "committer_email": found.committer_email,
        "committed_date": found.committed_at,
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{config.external_url}/{path}/-/commit/{found.sha}",
    }


def runner(connection: db.Connection, config: Config, row: db.Row) -> dict[str, Any]:
    """A runner in a list."""
    state = runners.status(row)
    known = runners.managers(connection, row)
    return {
        "id": row["id"],
        "description": row["description"],
        "ip_address": known[0]["ip_address"] if known else None,
        "active": not row["paused"],
        "paused": bool(row["paused"]),
        "is_shared": row["runner_type"] == "instance_type",
        "runner_type": row["runner_type"],
        "name": (json.loads(known[0]["info"]).get("name") if known else None),
        "online": None if state == "never_contacted" else state == "online",
        "created_by": user(connection, config, row["creator_id"]),
        "created_at": row["created_at"],
        "status": state,
        "job_execution_status": "active" if _busy(connection, row) else "idle",
    }


def runner_details(connection: db.Connection, config: Config, row: db.Row) -> dict[str, Any]:
    """A runner on its own."""
    known = runners.managers(connection, row)
    info = json.loads(known[0]["info"]) if known else {}
    shown = runner(connection, config, row) | {
        "tag_list": json.loads(row["tags"]),
        "run_untagged": bool(row["run_untagged"]),
        "locked": bool(row["locked"]),
        "maximum_timeout": row["maximum_timeout"],
        "access_level": row["access_level"],
        "version": info.get("version"),
        "revision": info.get("revision"),
        "platform": info.get("platform"),
        "architecture": info.get("architecture"),
        "contacted_at": row["contacted_at"],
        "maintenance_note": row["maintenance_note"],
        "projects": [],
        "groups": [],
    }
    for identity in runners.project_ids(connection, row):
        found = projects.find(connection, str(identity))
        if found is not None:
            shown["projects"].append(project(connection, config, found))
    group = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", row["group_id"])
    if group is not None:
        brief = namespaces.brief(group, config.external_url)
        shown["groups"].append({"id": group["id"], "name": group["name"], "web_url": brief["web_url"]})
    return shown


def manager(row: db.Row) -> dict[str, Any]:
    """One machine of a runner."""
    info = json.loads(row["info"])
    return {
        "id": row["id"],
        "system_id": row["system_id"],
        "version": info.get("version"),
        "revision": info.get("revision"),
        "platform": info.get("platform"),
        "architecture": info.get("architecture"),
        "created_at": row["created_at"],
        "contacted_at": row["contacted_at"],
        "ip_address": row["ip_address"],
        "status": runners.status(row),
        "job_execution_status": "idle",
    }


def project(connection: db.Connection, config: Config, row: db.Row) -> dict[str, Any]:
    """A project inside of something else."""
    namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", row["namespace_id"])
    return {
        "id": row["id"],
        "description": row["description"],
        "name": row["name"],
        "name_with_namespace": f"{namespace['name'] if namespace else ''} / {row['name']}",
        "path": row["path"],
        "path_with_namespace": row["full_path"],
        "created_at": row["created_at"],
        "web_url": f"{config.external_url}/{row['full_path']}",
    }


def _artifact(row: db.Row) -> dict[str, Any]:
    return {
        "file_type": row["file_type"],
        "size": row["size"],
        "filename": row["filename"],
        # An archived log has none.
        "file_format": row["file_format"] if row["file_type"] != storage.TRACE else None,
    }


def _busy(connection: db.Connection, row: db.Row) -> bool:
    query = "SELECT 1 FROM ci_jobs WHERE runner_id = ? AND status IN ('running', 'canceling')"
    return db.one(connection, query, row["id"]) is not None


def _detailed(status: str, path: str) -> dict[str, Any]:
    label = LABELS.get(status, status)
    return {
        "icon": f"status_{status}",
        "text": TEXTS.get(status, label.capitalize()),
        "label": label,
        "group": status,
        "tooltip": label,
        "has_details": True,
        "details_path": path,
        "illustration": None,
        "favicon": None,
    }
