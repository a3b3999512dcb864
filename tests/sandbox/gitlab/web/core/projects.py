"""Projects: lookup, options, JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from . import access, db, namespaces, registration, repositories
from .auth import Principal
from .config import Config

#: Options of a project that the API accepts and returns, with the defaults of a new one.
OPTIONS: dict[str, Any] = json.loads((Path(__file__).parent / "project_options.json").read_text())
#: Values that options can have which are words.
WORDS: dict[str, tuple[str, ...]] = {
    "merge_method": ("merge", "rebase_merge", "ff"),
    "squash_option": ("never", "always", "default_on", "default_off"),
    "build_git_strategy": ("fetch", "clone"),
    "auto_cancel_pending_pipelines": ("enabled", "disabled"),
    "auto_devops_deploy_strategy": ("continuous", "manual", "timed_incremental"),
    "ci_pipeline_variables_minimum_override_role": ("no_one_allowed", "developer", "maintainer", "owner"),
    "ci_restrict_pipeline_cancellation_role": ("no one", "developer", "maintainer"),
    "resource_group_default_process_mode": ("unordered", "oldest_first", "newest_first", "newest_ready_first"),
}
LEVELS = ("disabled", "private", "enabled")


def find(connection: db.Connection, key: str) -> db.Row | None:
    """By number or by full path."""
    column = "id" if key.isdigit() else "full_path"
    return db.one(connection, f"SELECT * FROM projects WHERE {column} = ?", key)  # noqa: S608


def find_by_path(connection: db.Connection, path: str) -> db.Row | None:
    """By full path alone."""
    return db.one(connection, "SELECT * FROM projects WHERE full_path = ?", path)


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
    empty = repositories.empty(config, row["id"])
    branch = row["default_branch"] or "main"
    url = f"{config.external_url}/{path}"
    readme = not empty and repositories.find_entry(config, row["id"], branch, "README.md")
    shown = {
        "id": row["id"],
        "description": row["description"],
        "description_html": "",
        "name": row["name"],
        "name_with_namespace": f"{namespace['name']} / {row['name']}",
        "path": row["path"],
        "path_with_namespace": path,
        "created_at": row["created_at"],
        "updated_at": row["created_at"],
        "last_activity_at": row["created_at"],
        "default_branch": branch,
        "empty_repo": empty,
        "archived": bool(row["archived"]),
        "visibility": row["visibility"],
        "creator_id": row["creator_id"],
        "creator": None,
        "open_issues_count": 0,
        "forks_count": 0,
        "star_count": 0,
        "tag_list": chosen["topics"],
        "import_url": None,
        "import_type": None,
        "import_status": "none",
        "import_error": None,
        "shared_with_groups": [],
        "http_url_to_repo": f"{url}.git",
        "ssh_url_to_repo": f"git@{host.partition(':')[0]}:{path}.git",
        "web_url": url,
        "readme_url": f"{url}/-/blob/{branch}/README.md" if readme else None,
        "avatar_url": None,
        "license_url": None,
        "license": None,
        "namespace": namespaces.brief(namespace, config.external_url),
        "_links": _links(config, row),
        "marked_for_deletion_at": row["marked_for_deletion_on"],
        "marked_for_deletion_on": row["marked_for_deletion_on"],
        "can_create_merge_request_in": level >= access.DEVELOPER,
        "permissions": _permissions(namespace, level),
        **_derived(chosen, row),
    }
    if level >= access.MAINTAINER:
        shown["runners_token"] = registration.token(connection, config, project_id=row["id"])
    if config.registry:
        shown["container_registry_image_prefix"] = f"{config.registry.host}/{path.lower()}"
    return shown


def _derived(chosen: dict[str, Any], row: db.Row) -> dict[str, Any]:
    """Options, with what follows from them."""
    policy = dict(chosen["container_expiration_policy"])
    policy["name_regex_delete"] = policy["name_regex"]
    policy.setdefault("next_run_at", db.written(db.read(row["created_at"]) + timedelta(days=1)))
    return chosen | {
        "container_expiration_policy": policy,
        "container_registry_enabled": chosen["container_registry_access_level"] != "disabled",
        "issues_enabled": chosen["issues_access_level"] != "disabled",
        "jobs_enabled": chosen["builds_access_level"] != "disabled",
        "merge_requests_enabled": chosen["merge_requests_access_level"] != "disabled",
        "snippets_enabled": chosen["snippets_access_level"] != "disabled",
        "wiki_enabled": chosen["wiki_access_level"] != "disabled",
        "emails_disabled": not chosen["emails_enabled"],
        "public_builds": chosen["public_jobs"],
    }


def _permissions(namespace: db.Row, level: int) -> dict[str, Any]:
    own = namespace["kind"] == "user" and bool(level)
    access_of = {"access_level": level, "notification_level": 3} if level else None
    return {"project_access": access_of if own else None, "group_access": None if own else access_of}


def _links(config: Config, row: db.Row) -> dict[str, str]:
    api = f"{config.external_url}/api/v4/projects/{row['id']}"
    links = {
        "issues": "issues",
        "merge_requests": "merge_requests",
        "repo_branches": "repository/branches",
        "labels": "labels",
        "events": "events",
        "members": "members",
        "cluster_agents": "cluster_agents",
    }
    return {"self": api} | {name: f"{api}/{path}" for name, path in links.items()}
