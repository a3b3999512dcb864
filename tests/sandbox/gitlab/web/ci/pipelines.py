"""Creates pipelines, on a push or on request, from the file in the repository."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core import (
    access,
    db,
    events,
    merge_requests,
    merges,
    pipeline_schedules,
    projects,
    protection,
    repositories,
    users,
)
from ..core import variables as settings
from ..core.auth import Principal
from ..core.config import Config
from . import caches, deployments, hooks, predefined, progress, reader, resources
from .conditions import Context
from .documents import ConfigurationError, Files
from .plans import Plan

SKIP = re.compile(r"\[(ci[ _-]skip|skip[ _-]ci)\]", re.IGNORECASE)
#: Of pipelines that a message of a commit can keep from running; others were asked for.
SKIPPABLE = ("push", "merge_request_event")
NO_FILE = "Missing CI config file"
NOT_ALLOWED = "Insufficient permissions to create a new pipeline"
NOT_ON_THIS_REF = (
    "You do not have sufficient permission to run a pipeline on '{}'. Please select a different branch or contact your "
    "administrator for assistance."
)


@dataclass(frozen=True)
class Start:
    """What a pipeline is to be made for. `ref` is whole; `variables` are `{key, value, variable_type}`.

    With a `merge_request`, `ref` is that of its head, and the pipeline is neither of a branch nor of a tag.
    """

    project: db.Row
    user: db.Row
    ref: str
    sha: str
    before: str
    source: str
    variables: tuple[dict[str, Any], ...] = ()
    skip: bool = False
    merge_request: db.Row | None = None
    schedule: db.Row | None = None

    @property
    def tag(self) -> bool:
        """Whether the ref is a tag."""
        return self.ref.startswith(repositories.TAGS)

    @property
    def name(self) -> str:
        """The ref without what says of which kind it is."""
        return self.ref.removeprefix(repositories.TAGS).removeprefix(repositories.BRANCHES)

    @property
    def source_name(self) -> str:
        """The branch or tag that the commit comes from."""
        return str(self.merge_request["source_branch"]) if self.merge_request is not None else self.name


@events.on_push
def start_on_push(connection: db.Connection, config: Config, push: events.Push) -> None:
    """A pushed branch or tag gets a pipeline when its commit has a file for that."""
    project = projects.find(connection, str(push.project_id))
    if (
        project is None
        or push.by_job
        or push.removed
        or not push.ref.startswith((repositories.BRANCHES, repositories.TAGS))
    ):
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
    """Make a pipeline; or say why there is none. One whose file has mistakes is there, and failed.

    One that is to be skipped is there as well, without jobs.
    """
    progress.lock(connection)
    commit = repositories.commit(config, start.project["id"], start.sha)
    refusal = _refusal(connection, start)
    if commit is None or refusal is not None:
        return None, refusal or "Reference not found"
    text = read_file(config, start.project["id"], start.sha, predefined.config_path(start.project))
    if text is None:
        return None, NO_FILE
    if start.skip or (start.source in SKIPPABLE and SKIP.search(commit.message) is not None):
        return _insert(connection, start, "skipped", finished_at=db.now()), None
    context = context_for(connection, config, start, commit)
    try:
        plan = reader.plan(reader.parse(text, context), context)
    except ConfigurationError as error:
        return _failed(connection, start, error), str(error)
    if not plan.jobs:
        return None, plan.reason
    enabled = projects.options(start.project)["auto_cancel_pending_pipelines"] == "enabled"
    if enabled and start.source in SKIPPABLE:
        _cancel_redundant(connection, start)
    pipeline = _insert(connection, start, "created", name=plan.name, auto_cancel=json.dumps(plan.auto_cancel))
    keep = f"refs/pipelines/{pipeline['id']}"
    repositories.run(config, start.project["id"], "update-ref", keep, start.sha)
    _insert_jobs(connection, start, pipeline, plan, context.files.read)
    progress.advance(connection, pipeline["id"])
    return find(connection, pipeline["id"]), None


def is_protected(connection: db.Connection, start: Start) -> bool:
    """Whether a pipeline gets what is kept for protected branches and tags.

    That of a merge request does only when both branches are protected, its user may change the target, and the project
    does not forbid it (https://docs.gitlab.com/ci/pipelines/merge_request_pipelines/).
    """
    if start.merge_request is None:
        return protection.ref_protected(connection, start.project["id"], start.ref)
    if not projects.options(start.project)["protect_merge_request_pipelines"]:
        return False
    branches = (start.merge_request["source_branch"], start.merge_request["target_branch"])
    fixed = all(protection.branch_rules(connection, start.project["id"], branch) for branch in branches)
    return fixed and _may_update(connection, start, branches[1])


def _may_update(connection: db.Connection, start: Start, branch: str) -> bool:
    who = Principal(start.user, frozenset())
    level = access.project_level(connection, who, start.project)
    return protection.may_update(connection, start.project, level, who.admin, branch)


def _refusal(connection: db.Connection, start: Start) -> str | None:
    """Why this user gets no pipeline. Asked of everybody: a schedule has to be refused when its owner has gone."""
    if projects.options(start.project)["builds_access_level"] == "disabled":
        return "Pipelines are disabled!"
    who = Principal(start.user, frozenset())
    level = access.project_level(connection, who, start.project)
    if level < access.DEVELOPER or start.user["state"] != "active":
        return NOT_ALLOWED
    if start.merge_request is not None or not protection.ref_protected(connection, start.project["id"], start.ref):
        return None
    may = protection.may_run(connection, start.project, level, who.admin, ref=start.name, tag=start.tag)
    return None if may else NOT_ON_THIS_REF.format(start.name)


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
    protected = is_protected(connection, start)
    strong = {entry.key: entry.value for entry in settings.for_jobs(connection, config, start.project, protected)}
    if start.schedule is not None:
        known = pipeline_schedules.variables(connection, config, start.schedule["id"])
        strong |= {entry["key"]: entry["value"] for entry in known}
    strong |= {entry["key"]: str(entry["value"]) for entry in start.variables}

    def paths() -> list[str]:
        found = repositories.tree(config, identity, start.sha, recursive=True)
        return [entry.path for entry in found if entry.kind == "blob"]

    def changes() -> list[str] | None:
        if start.merge_request is not None:
            version = merge_requests.diff(connection, start.merge_request)
            return repositories.changed_paths(config, identity, version["base_sha"], start.sha) if version else None
        if start.before == events.NO_COMMIT or start.tag:
            return None
        return repositories.changed_paths(config, identity, start.before, start.sha)

    def changes_since(ref: str) -> list[str] | None:
        other = repositories.resolve(config, identity, ref)
        base = merges.base(config, identity, other, start.sha) if other else None
        return repositories.changed_paths(config, identity, base, start.sha) if base else None

    return Context(
        ref=start.name,
        tag=start.tag,
        source=start.source,
        files=Files(lambda path: read_file(config, identity, start.sha, path), paths),
        changes=changes,
        changes_since=changes_since,
        predefined={
            **predefined.of_server(config),
            **predefined.of_project(config, start.project),
            **_of_ref(connection, config, start, commit),
            "CI_COMMIT_REF_PROTECTED": str(protected).lower(),
            **predefined.of_user(start.user),
        },
        settings=strong,
    )


def _of_ref(connection: db.Connection, config: Config, start: Start, commit: repositories.Commit) -> dict[str, str]:
    found = predefined.of_commit(
        start.source_name,
        start.tag,
        commit,
        before=start.before,
        source=start.source,
        branch=start.merge_request is None,
    )
    if start.merge_request is not None:
        found |= predefined.of_merge_request(connection, config, start.project, start.merge_request)
    if start.schedule is not None:
        found["CI_PIPELINE_SCHEDULE_DESCRIPTION"] = start.schedule["description"]
    return found | predefined.open_merge_requests(connection, start.project, start.source_name)


def _failed(connection: db.Connection, start: Start, error: ConfigurationError) -> db.Row:
    row = _insert(connection, start, "failed", yaml_errors=str(error), finished_at=db.now())
    hooks.note(connection, row["id"], None, "failed")
    return row


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
        protected=int(is_protected(connection, start)),
        merge_request_id=start.merge_request["id"] if start.merge_request is not None else None,
        schedule_id=start.schedule["id"] if start.schedule is not None else None,
        variables=json.dumps(start.variables),
        created_at=db.now(),
        updated_at=db.now(),
        **more,
    )
    return find(connection, identity)


def _insert_jobs(
    connection: db.Connection, start: Start, pipeline: db.Row, plan: Plan, read: Callable[[str], str | None]
) -> None:
    timeout = projects.options(start.project)["build_timeout"]
    for job in plan.jobs:
        options = job.options | {"cache": caches.resolve_keys(job.options["cache"], read)}
        environment = deployments.ensure(connection, start.project, options.get("environment"))
        failed = environment is None and "environment" in options
        if (key := options.get("resource_group")) is not None:
            mode = projects.options(start.project)["resource_group_default_process_mode"]
            resources.ensure(connection, start.project["id"], key, mode)
        identity = db.insert(
            connection,
            "ci_jobs",
            pipeline_id=pipeline["id"],
            project_id=start.project["id"],
            user_id=start.user["id"],
            name=job.name,
            stage=job.stage,
            stage_index=job.stage_index,
            status="failed" if failed else "created",
            failure_reason=deployments.NOT_MADE if failed else None,
            environment_id=environment["id"] if environment is not None else None,
            resource_group=key,
            run_when=job.when,
            allow_failure=int(job.allow_failure),
            options=json.dumps(options),
            variables=json.dumps(job.variables),
            tags=json.dumps(job.tags),
            needs=None if job.needs is None else json.dumps(job.needs),
            timeout=job.timeout or timeout,
            created_at=db.now(),
        )
        deployments.record(connection, identity, environment, options)


def _cancel_redundant(connection: db.Connection, start: Start) -> None:
    """A push makes what was under way for the older commit redundant, as far as the older file says so.

    `conservative`, the default: all of it, unless a job has started that may not be interrupted. `interruptible`: the
    jobs that may be.
    """
    rows = connection.execute(
        "SELECT * FROM ci_pipelines WHERE project_id = ? AND ref = ? AND tag = ? AND source = ? AND sha != ? AND "
        "status IN ('created', 'pending', 'running', 'waiting_for_resource', 'scheduled')",
        (start.project["id"], start.name, int(start.tag), start.source, start.sha),
    ).fetchall()
    for pipeline in rows:
        mode = json.loads(pipeline["auto_cancel"]).get("on_new_commit", "conservative")
        jobs = progress.latest(connection, pipeline["id"])
        free = [job for job in jobs if json.loads(job["options"]).get("interruptible")]
        if mode == "conservative" and not any(job["started_at"] and job not in free for job in jobs):
            free = jobs
        elif mode != "interruptible":
            continue
        for job in free:
            if job["status"] in progress.CANCELABLE:
                progress.cancel(connection, job)
        progress.advance(connection, pipeline["id"])
