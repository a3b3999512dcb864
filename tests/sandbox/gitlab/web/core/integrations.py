"""Integrations of a project: which there are, what they accept, and which of a pipeline's ends they tell of.

Rules and words are those of GitLab's `Integrations::Base::PipelinesEmail` and `Integrations::Base::ChatNotification`.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from . import db, protection

PIPELINES_EMAIL, SLACK = "pipelines-email", "slack"
TITLES = {PIPELINES_EMAIL: "Pipeline status emails", SLACK: "Slack notifications"}
MOST_RECIPIENTS = 30
#: The events that integrations have columns for, with the defaults of a new row.
EVENTS = {
    "commit_events": True, "push_events": True, "issues_events": True, "confidential_issues_events": True,
    "merge_requests_events": True, "tag_push_events": True, "note_events": True, "confidential_note_events": True,
    "pipeline_events": True, "wiki_page_events": True, "job_events": True,
}  # fmt: skip
#: What a new integration has unless it is told otherwise.
INITIAL: dict[str, Any] = {"notify_only_broken_pipelines": True, "branches_to_be_notified": "default"}
FIELDS = {
    PIPELINES_EMAIL: ("recipients", *INITIAL),
    SLACK: (
        "username", "channel", *INITIAL, "push_channel", "issue_channel", "confidential_issue_channel",
        "merge_request_channel", "note_channel", "confidential_note_channel", "tag_push_channel", "pipeline_channel",
        "wiki_page_channel",
    ),
}  # fmt: skip
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


def find(connection: db.Connection, project_id: int, slug: str) -> db.Row | None:
    """The integration of a project, whether it is active or not."""
    return db.one(connection, "SELECT * FROM integrations WHERE project_id = ? AND slug = ?", project_id, slug)


def recipients(properties: dict[str, Any]) -> list[str]:
    """The addresses in the list of recipients; what is none is passed over."""
    words = re.split(r"[,\r\n ]+", str(properties.get("recipients") or "").replace("<", "").replace(">", ""))
    return [word for word in words if _ADDRESS.fullmatch(word)]


def valid(slug: str, properties: dict[str, Any], webhook: str | None) -> bool:
    """Whether GitLab would save an active integration like that."""
    if slug == PIPELINES_EMAIL:
        return bool(properties.get("recipients")) and len(recipients(properties)) <= MOST_RECIPIENTS
    return _is_public(webhook or "")


def _is_public(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.hostname == "localhost":
        return False
    try:
        return ip_address(parts.hostname).is_global
    except ValueError:
        return True


def save(
    connection: db.Connection,
    key: tuple[int, str],
    *,
    properties: dict[str, Any],
    events: dict[str, bool],
    sealed: str | None,
) -> None:
    """Turn the integration of a project on, with these settings; `sealed` is its webhook, `key` its ID and its slug."""
    connection.execute(
        "INSERT INTO integrations (project_id, slug, properties, events, encrypted_webhook, created_at, updated_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, slug) DO UPDATE SET active = 1, "
        "properties = excluded.properties, events = excluded.events, encrypted_webhook = excluded.encrypted_webhook, "
        "updated_at = excluded.updated_at",
        (*key, json.dumps(properties), json.dumps(events), sealed, db.now(), db.now()),
    )


def turn_off(connection: db.Connection, row: db.Row) -> None:
    """Turn an integration off. It stays there, without its settings."""
    connection.execute(
        "UPDATE integrations SET active = 0, properties = '{}', encrypted_webhook = NULL, updated_at = ? WHERE id = ?",
        (db.now(), row["id"]),
    )


def tells_of(connection: db.Connection, row: db.Row, project: db.Row, pipeline: db.Row, status: str) -> bool:
    """Whether an integration tells of this end of a pipeline."""
    properties = json.loads(row["properties"])
    if not row["active"] or not json.loads(row["events"])["pipeline_events"]:
        return False
    if status != "failed" and (status != "success" or properties["notify_only_broken_pipelines"]):
        return False
    if row["slug"] == SLACK and pipeline["tag"]:
        return True
    is_default = pipeline["ref"] == (project["default_branch"] or "main")
    is_protected = bool(protection.branch_rules(connection, project["id"], pipeline["ref"]))
    fitting: dict[str, bool] = {
        "all": True,
        "default": is_default,
        "protected": is_protected,
        "default_and_protected": is_default or is_protected,
    }
    return fitting.get(str(properties["branches_to_be_notified"]), False)
