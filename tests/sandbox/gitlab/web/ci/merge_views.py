"""Merge requests, their notes and changes as JSON."""

from __future__ import annotations

from typing import Any

from ..core import db, merge_requests, merges
from ..core.auth import Principal
from ..core.config import Config
from . import merging, views


def basic(connection: db.Connection, config: Config, project: db.Row, row: db.Row) -> dict[str, Any]:
    """A merge request in a list."""
    options, version = merge_requests.options(row), merge_requests.diff(connection, row)
    reference = f"!{row['iid']}"
    state = merging.status(connection, config, row)
    people = {
        name: [views.user(connection, config, identity) for identity in options.get(f"{name[:-1]}_ids", [])]
        for name in ("assignees", "reviewers")
    }
    draft = merge_requests.draft(row["title"])
    merger = views.user(connection, config, row["merge_user_id"])
    query = "SELECT COUNT(*) AS many FROM notes WHERE merge_request_id = ? AND system = 0"
    counted = db.one(connection, query, row["id"])
    return {
        **{name: row[name] for name in ("id", "iid", "project_id", "title", "description", "state")},
        **{name: row[name] for name in ("created_at", "updated_at", "merged_at", "closed_at", "prepared_at")},
        **{name: row[name] for name in ("target_branch", "source_branch", "merge_commit_sha", "squash_commit_sha")},
        "merged_by": merger,
        "merge_user": merger,
        "closed_by": views.user(connection, config, row["closed_by_id"]),
        "user_notes_count": counted["many"] if counted else 0,
        "upvotes": 0,
        "downvotes": 0,
        "author": views.user(connection, config, row["author_id"]),
        "assignee": people["assignees"][0] if people["assignees"] else None,
        **people,
        "source_project_id": row["project_id"],
        "target_project_id": row["project_id"],
        "labels": options.get("labels", []),
        "draft": draft,
        "work_in_progress": draft,
        "imported": False,
        "imported_from": "none",
        "milestone": None,
        "merge_when_pipeline_succeeds": options.get("auto_merge") is not None,
        "merge_status": "checking" if state == "preparing" else _merge_status(connection, config, row),
        "detailed_merge_status": state,
        "merge_after": None,
        "sha": version["head_sha"] if version else None,
        "discussion_locked": None,
        "should_remove_source_branch": None,
        "force_remove_source_branch": options.get("force_remove_source_branch"),
        "reference": reference,
        "references": {"short": reference, "relative": reference, "full": f"{project['full_path']}{reference}"},
        "web_url": f"{config.external_url}/{project['full_path']}/-/merge_requests/{row['iid']}",
        "time_stats": {
            "time_estimate": 0,
            "total_time_spent": 0,
            "human_time_estimate": None,
            "human_total_time_spent": None,
        },
        "squash": bool(options.get("squash", False)),
        "squash_on_merge": merge_requests.squashed(project, row),
        "task_completion_status": {"count": 0, "completed_count": 0},
        "has_conflicts": merging.conflicts(connection, config, row),
        "blocking_discussions_resolved": True,
    }


def full(
    connection: db.Connection, config: Config, project: db.Row, row: db.Row, who: Principal | None
) -> dict[str, Any]:
    """A merge request on its own."""
    version = merge_requests.diff(connection, row)
    head = merging.head_pipeline(connection, config, row)
    files = merges.changes(config, project["id"], version["base_sha"], version["head_sha"]) if version else []
    return basic(connection, config, project, row) | {
        "subscribed": False,
        "changes_count": str(len(files)) if files else None,
        "latest_build_started_at": head["started_at"] if head else None,
        "latest_build_finished_at": head["finished_at"] if head else None,
        "first_deployed_to_production_at": None,
        "pipeline": views.pipeline(connection, config, head) if head else None,
        "head_pipeline": views.pipeline(connection, config, head, full=True) if head else None,
        "diff_refs": {name: version[name] for name in ("base_sha", "head_sha", "start_sha")} if version else None,
        "merge_error": None,
        "first_contribution": False,
        "user": {"can_merge": merging.may_merge(connection, project, who, row)},
    }


def change(one: merges.FileChange) -> dict[str, Any]:
    """What happens to a file."""
    return {
        "diff": one.text,
        "collapsed": False,
        "too_large": False,
        "new_path": one.new_path,
        "old_path": one.old_path,
        "a_mode": one.old_mode,
        "b_mode": one.new_mode,
        "new_file": one.kind == "A",
        "renamed_file": one.kind == "R",
        "deleted_file": one.kind == "D",
        "generated_file": False,
    }


def note(connection: db.Connection, config: Config, row: db.Row, iid: int) -> dict[str, Any]:
    """A note."""
    return {
        "id": row["id"],
        "type": None,
        "body": row["body"],
        "author": views.user(connection, config, row["author_id"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "system": bool(row["system"]),
        "noteable_id": row["merge_request_id"],
        "noteable_type": "MergeRequest",
        "project_id": row["project_id"],
        "resolvable": False,
        "confidential": bool(row["internal"]),
        "internal": bool(row["internal"]),
        "imported": False,
        "imported_from": "none",
        "noteable_iid": iid,
        "commands_changes": {},
    }


def _merge_status(connection: db.Connection, config: Config, row: db.Row) -> str:
    return "cannot_be_merged" if merging.conflicts(connection, config, row) else "can_be_merged"
