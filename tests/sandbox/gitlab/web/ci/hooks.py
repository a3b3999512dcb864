"""What the end of a pipeline sets off: mails and messages to Slack, sent after the change is saved, as by Sidekiq."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx

from ..core import db, integrations, projects, sealing, users
from ..core.config import Config

_TOLD_OF = ("success", "failed")
_TICK_S = 0.5
_TIMEOUT_S = 20


def note(connection: db.Connection, pipeline_id: int, before: str | None, after: str) -> None:
    """Note in the transaction that ends a pipeline that there is something to tell of."""
    if after in _TOLD_OF and after != before:
        db.insert(connection, "pipeline_hooks", pipeline_id=pipeline_id, status=after)


def deliver(config: Config) -> int:
    """Tell of all that has ended since the last time; answers how much was sent. What fails is not tried again."""
    with db.connect(config.database) as connection:
        due = connection.execute("SELECT * FROM pipeline_hooks ORDER BY id").fetchall()
        # Forgotten before it is sent: nobody hears of it twice, whatever happens now.
        connection.executemany("DELETE FROM pipeline_hooks WHERE id = ?", [(row["id"],) for row in due])
        wanted = [one for row in due for one in _messages(connection, config, row)]
    for slug, where, content in wanted:
        try:
            _mail(config, content) if slug == integrations.PIPELINES_EMAIL else _post(where, content)
        except (OSError, httpx.HTTPError, subprocess.SubprocessError) as trouble:
            print(f"{slug}: {type(trouble).__name__}", flush=True)
    return len(wanted)


def watch(config: Config) -> threading.Event:
    """Tell in the background of what ends, until the event that is returned is set."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(_TICK_S):
            try:
                deliver(config)
            except Exception as trouble:
                print(f"hooks: {trouble!r}", flush=True)

    threading.Thread(target=work, daemon=True).start()
    return stopped


def _messages(connection: db.Connection, config: Config, row: db.Row) -> Iterator[tuple[str, str, dict[str, Any]]]:
    pipeline = db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", row["pipeline_id"])
    project = projects.find(connection, str(pipeline["project_id"])) if pipeline is not None else None
    if pipeline is None or project is None:
        return
    rows = connection.execute(
        "SELECT * FROM integrations WHERE project_id = ? AND active = 1 ORDER BY id", (project["id"],)
    ).fetchall()
    for one in rows:
        if not integrations.tells_of(connection, one, project, pipeline, row["status"]):
            continue
        properties = json.loads(one["properties"])
        if one["slug"] == integrations.SLACK:
            webhook = sealing.unseal(config, one["encrypted_webhook"])
            user = users.get(connection, pipeline["user_id"])
            message = _slack(config, project, pipeline, row["status"], f"{user['name']} ({user['username']})")
            channel = properties.get("pipeline_channel") or properties.get("channel")
            given = {"channel": channel, "username": properties.get("username")}
            yield one["slug"], webhook, message | {name: value for name, value in given.items() if value}
            continue
        for recipient in integrations.recipients(properties):
            yield one["slug"], recipient, _email(config, project, pipeline, row["status"], recipient)


def _email(config: Config, project: db.Row, pipeline: db.Row, status: str, recipient: str) -> dict[str, Any]:
    word = "Failed" if status == "failed" else "Successful"
    headers = {
        "X-GitLab-Project": project["name"],
        "X-GitLab-Project-Id": str(project["id"]),
        "X-GitLab-Project-Path": project["full_path"],
        "X-GitLab-Pipeline-Id": str(pipeline["id"]),
        "X-GitLab-Pipeline-Ref": pipeline["ref"],
        "X-GitLab-Pipeline-Status": status,
    }
    subject = f"{project['name']} | {word} pipeline for {pipeline['ref']} | {pipeline['sha'][:8]}"
    body = f"Pipeline #{pipeline['id']} ( {_url(config, project, pipeline)} ) {status}"
    return {"to": recipient, "subject": subject, "headers": headers, "body": body}


def _slack(config: Config, project: db.Row, pipeline: db.Row, status: str, user: str) -> dict[str, Any]:
    kind = "tag" if pipeline["tag"] else "branch"
    ended = {"failed": "has failed", "success": "has passed"}[status]
    url = _url(config, project, pipeline)
    web = f"{config.external_url}/{project['full_path']}"
    fallback = (
        f"<{web}|{project['name']}>: Pipeline <{url}|#{pipeline['id']}> of {kind} "
        f"<{web}/-/commits/{pipeline['ref']}|{pipeline['ref']}> by {user} {ended}"
    )
    return {
        "text": "",
        "attachments": [
            {
                "fallback": fallback,
                "color": "danger" if status == "failed" else "good",
                "title": f"Pipeline #{pipeline['id']} {ended}",
                "title_link": url,
                "footer": project["name"],
                "fields": [{"title": "Commit", "value": pipeline["sha"][:8], "short": True}],
            }
        ],
    }


def _url(config: Config, project: db.Row, pipeline: db.Row) -> str:
    return f"{config.external_url}/{project['full_path']}/-/pipelines/{pipeline['id']}"


def _mail(config: Config, message: dict[str, Any]) -> None:
    """By the library and the settings that GitLab sends with."""
    subprocess.run(
        ["ruby", config.rails / "deliver.rb"],
        input=json.dumps(message),
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "GITLAB_RAILS_CONFIG": str(config.directory)},
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT_S * 3,
    )


def _post(webhook: str, message: dict[str, Any]) -> None:
    httpx.post(webhook, json=message, timeout=_TIMEOUT_S, verify=ssl.create_default_context())
