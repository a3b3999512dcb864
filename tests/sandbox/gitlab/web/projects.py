"""Projects: finding them, their options, and how they are shown."""

from __future__ import annotations

import json
from typing import Any

from . import access, db, namespaces
from .auth import Principal
from .config import Config

#: What a project can be told and tells back, with the defaults of a new one.
OPTIONS: dict[str, Any] = {
    "container_registry_access_level": "enabled",
    "issues_access_level": "enabled",
    "merge_requests_access_level": "enabled",
    "repository_access_level": "enabled",
    "builds_access_level": "enabled",
    "wiki_access_level": "enabled",
    "snippets_access_level": "enabled",
    "pages_access_level": "private",
    "releases_access_level": "enabled",
    "environments_access_level": "enabled",
    "shared_runners_enabled": True,
    "group_runners_enabled": True,
    "lfs_enabled": True,
    "request_access_enabled": True,
    "packages_enabled": True,
    "auto_devops_enabled": True,
    "build_timeout": 3600,
    "ci_config_path": None,
    "ci_default_git_depth": 20,
    "merge_method": "merge",
    "only_allow_merge_if_pipeline_succeeds": False,
    "only_allow_merge_if_all_discussions_are_resolved": False,
    "remove_source_branch_after_merge": True,
    "keep_latest_artifact": True,
    "public_jobs": True,
    "topics": [],
}


def find(connection: db.Connection, key: str) -> db.Row | None:
    """By number or by full path."""
    column = "id" if key.isdigit() else "full_path"
    return db.one(connection, f"SELECT * FROM projects WHERE {column} = ?", key)  # noqa: S608


def options(row: db.Row) -> dict[str, Any]:
    """All options of a project."""
    chosen: dict[str, Any] = json.loads(row["options"])
    return OPTIONS | chosen


def visible(connection: db.Connection, who: Principal | None) -> list[tuple[db.Row, int]]:
    """Projects that a user may see, newest first, each with their access level."""
    rows = connection.execute("SELECT * FROM projects ORDER BY id DESC").fetchall()
    levels = [(row, access.project_level(connection, who, row)) for row in rows]
    return [(row, level) for row, level in levels if access.visible(who, row, level)]


def present(connection: db.Connection, config: Config, row: db.Row, level: int) -> dict[str, Any]:
    """A project as the API shows it."""
    namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", row["namespace_id"])
    if namespace is None:
        raise LookupError(f"namespace {row['namespace_id']}")
    path, host = row["full_path"], config.external_url.partition("://")[2]
    chosen = options(row)
    shown = {
        "id": row["id"],
        "description": row["description"],
        "name": row["name"],
        "name_with_namespace": f"{namespace['name']} / {row['name']}",
        "path": row["path"],
        "path_with_namespace": path,
        "created_at": row["created_at"],
        "last_activity_at": row["created_at"],
        "default_branch": row["default_branch"] or "main",
        "empty_repo": True,
        "archived": False,
        "visibility": row["visibility"],
        "creator_id": row["creator_id"],
        "http_url_to_repo": f"{config.external_url}/{path}.git",
        "ssh_url_to_repo": f"git@{host.partition(':')[0]}:{path}.git",
        "web_url": f"{config.external_url}/{path}",
        "readme_url": None,
        "avatar_url": None,
        "namespace": namespaces.brief(namespace, config.external_url),
        "marked_for_deletion_on": row["marked_for_deletion_on"],
        "container_registry_enabled": chosen["container_registry_access_level"] != "disabled",
        "permissions": {"project_access": {"access_level": level} if level else None, "group_access": None},
        **chosen,
    }
    if config.registry:
        shown["container_registry_image_prefix"] = f"{config.registry.host}/{path.lower()}"
    return shown
