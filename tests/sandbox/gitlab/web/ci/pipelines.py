"""Creates pipelines, on a push or on request, from the file in the repository."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core import db, events, projects, protection, repositories, users
from ..core import variables as settings
from ..core.config import Config
from . import caches, predefined, progress, reader
from .conditions import Context
from .documents import ConfigurationError, Files
from .plans import Plan

SKIP = ("[ci skip]", "[skip ci]")
NO_FILE = "Missing CI config file"


@dataclass(frozen=True)
class Start:
    """What a pipeline is to be made for. `ref` is whole; `variables` are `{key, value, variable_type}`."""

    project: db.Row
    user: db.Row
    ref: str
    sha: str
    before: str
    source: str
    variables: tuple[dict[str, Any], ...] = ()
    skip: bool = False

    @property
    def tag(self) -> bool:
        """Whether the ref is a tag."""
        return self.ref.startswith(repositories.TAGS)

    @property
    def name(self) -> str:
        """The ref without what says of which kind it is."""
        return self.ref.removeprefix(repositories.TAGS).removeprefix(repositories.BRANCHES)


@events.on_push
def start_on_push(connection: db.Connection, config: Config, push: events.Push) -> None:
    """A pushed branch or tag gets a pipeline when its commit has a file for that."""
    project = projects.find(connection, str(push.project_id))
    if project is None or push.removed or not push.ref.startswith((repositories.BRANCHES, repositories.TAGS)):
        return
    variables = []
    for option in push.options:
        name, _, value = option.removeprefix("ci.variable=").partition("=")
        if option.startswith("ci.variable="):
            variables.append({"key": name, "value": value, "variable_type": "env_var"})
    sha = repositories.resolve(config, project["id"], push.after) or push.after
    user = users.get(connection, push.user_id)
    skip = "ci.skip" in push.options
    create(connection, config, Start(project, user, push.ref, sha, push.before, "push", tuple(variables), skip))


def create(connection: db.Connection, config: Config, start: Start) -> tuple[db.Row | None, str | None]:
    """Make a pipeline; or say why there is none. One whose file has mistakes is there, and failed."""
    progress.lock(connection)
    commit = repositories.commit(config, start.project["id"], start.sha)
    if commit is None or projects.options(start.project)["builds_access_level"] == "disabled":
        return None, "Reference not found" if commit is None else "Pipelines are disabled!"
    text = read_file(config, start.project["id"], start.sha, predefined.config_path(start.project))
    if text is None:
        return None, NO_FILE
    context = context_for(connection, config, start, commit)
    try:
        plan = reader.plan(reader.parse(text, context), context)
    except ConfigurationError as error:
        return _failed(connection, start, error), str(error)
    if not plan.jobs:
        return None, plan.reason
    if start.source == "push" and projects.options(start.project)["auto_cancel_pending_pipelines"] == "enabled":
        _cancel_redundant(connection, start)
    pipeline = _insert(connection, start, "created", name=plan.name)
    keep = f"refs/pipelines/{pipeline['id']}"
    repositories.run(config, start.project["id"], "update-ref", keep, start.sha)
    skipped = start.skip or (start.source == "push" and any(word in commit.message.lower() for word in SKIP))
    status = "skipped" if skipped else "created"
    _insert_jobs(connection, start, pipeline, plan, status=status, read=context.files.read)
    progress.advance(connection, pipeline["id"])
    return find(connection, pipeline["id"]), None


def find(connection: db.Connection, identity: int) -> db.Row:
    """The row of a pipeline that exists."""
    row = db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"pipeline {identity}")
    return row


def read_file(config: Config, project_id: int, sha: str, path: str) -> str | None:
    """A text of the repository."""
    content = repositories.read_file(config, project_id, sha, path)
    return None if content is None else content.decode(errors="replace")


def context_for(connection: db.Connection, config: Config, start: Start, commit: repositories.Commit) -> Context:
    """What the rules of a pipeline see."""
    identity = start.project["id"]
    protected = protection.ref_protected(connection, identity, start.ref)
    strong = {entry.key: entry.value for entry in settings.for_jobs(connection, config, start.project, protected)}
    strong |= {entry["key"]: str(entry["value"]) for entry in start.variables}

    def paths() -> list[str]:
        found = repositories.tree(config, identity, start.sha, recursive=True)
        return [entry.path for entry in found if entry.kind == "blob"]

    def changes() -> list[str] | None:
        if start.before == events.NO_COMMIT or start.tag:
            return None
        return repositories.changed_paths(config, identity, start.before, start.sha)

    return Context(
        ref=start.name,
        tag=start.tag,
        source=start.source,
        files=Files(lambda path: read_file(config, identity, start.sha, path), paths),
        changes=changes,
        predefined={
            **predefined.of_server(config),
            **predefined.of_project(config, start.project),
            **predefined.of_commit(start.name, start.tag, commit, before=start.before, source=start.source)
            | {"CI_COMMIT_REF_PROTECTED": str(protected).lower()},
            **predefined.of_user(start.user),
        },
        settings=strong,
    )


def _failed(connection: db.Connection, start: Start, error: ConfigurationError) -> db.Row:
    return _insert(connection, start, "failed", yaml_errors=str(error), finished_at=db.now())


def _insert(connection: db.Connection, start: Start, status: str, **more: object) -> db.Row:
    last = db.one(connection, "SELECT MAX(iid) AS iid FROM ci_pipelines WHERE project_id = ?", start.project["id"])
    identity = db.insert(
        connection,
        "ci_pipelines",
        iid=((last["iid"] if last else None) or 0) + 1,
        project_id=start.project["id"],
        user_id=start.user["id"],
        ref=start.name,
        tag=int(start.tag),
        sha=start.sha,
        before_sha=start.before,
        source=start.source,
        status=status,
        protected=int(protection.ref_protected(connection, start.project["id"], start.ref)),
        variables=json.dumps(start.variables),
        created_at=db.now(),
        updated_at=db.now(),
        **more,
    )
    return find(connection, identity)


def _insert_jobs(
    connection: db.Connection,
    start: Start,
    pipeline: db.Row,
    plan: Plan,
    *,
    status: str,
    read: Callable[[str], str | None],
) -> None:
    timeout = projects.options(start.project)["build_timeout"]
    for job in plan.jobs:
        options = job.options | {"cache": caches.resolve_keys(job.options["cache"], read)}
        db.insert(
            connection,
            "ci_jobs",
            pipeline_id=pipeline["id"],
            project_id=start.project["id"],
            user_id=start.user["id"],
            name=job.name,
            stage=job.stage,
            stage_index=job.stage_index,
            status=status,
            run_when=job.when,
            allow_failure=int(job.allow_failure),
            options=json.dumps(options),
            variables=json.dumps(job.variables),
            tags=json.dumps(job.tags),
            needs=None if job.needs is None else json.dumps(job.needs),
            timeout=job.timeout or timeout,
            created_at=db.now(),
        )


def _cancel_redundant(connection: db.Connection, start: Start) -> None:
    """A push makes what was under way for the older commit redundant, unless a job runs that may not be stopped."""
    rows = connection.execute(
        "SELECT * FROM ci_pipelines WHERE project_id = ? AND ref = ? AND tag = ? AND source = 'push' AND status IN "
        "('created', 'pending', 'running', 'waiting_for_resource')",
        (start.project["id"], start.name, int(start.tag)),
    ).fetchall()
    for pipeline in rows:
        jobs = progress.latest(connection, pipeline["id"])
        if any(job["started_at"] and not json.loads(job["options"]).get("interruptible") for job in jobs):
            continue
        for job in jobs:
            if job["status"] in progress.CANCELABLE:
                progress.cancel(connection, job)
        progress.note(connection, pipeline["id"])
