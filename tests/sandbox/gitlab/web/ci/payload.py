"""A job as a runner receives it: the response to `POST /jobs/request`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ..core import (
    access,
    db,
    deploy_tokens,
    environments,
    job_tokens,
    merge_requests,
    pipeline_schedules,
    projects,
    repositories,
    users,
)
from ..core import variables as settings
from ..core.auth import Principal
from ..core.config import Config
from . import caches, predefined, progress, runners, storage
from .conditions import expand_all

FAILURE_REASONS = [
    "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
    "runner_unsupported", "stale_schedule", "job_execution_timeout", "archived_failure", "unmet_prerequisites",
    "scheduler_failure", "data_integrity_failure", "ci_quota_exceeded", "no_matching_runner", "trace_size_exceeded",
    "image_pull_failure", "runner_configuration_error",
]  # fmt: skip
MASKED_PREFIXES = ["glpat-", "gldt-", "glrt-", "glcbt-"]
Entries = list[dict[str, Any]]


def build(connection: db.Connection, config: Config, job: db.Row, runner: db.Row) -> dict[str, Any]:
    """Everything that a runner needs for a job that it was just given. Makes the token of the job."""
    project = projects.find(connection, str(job["project_id"]))
    pipeline = db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", job["pipeline_id"])
    if project is None or pipeline is None:
        raise LookupError(f"job {job['id']}")
    token = job_tokens.issue(connection, config, job["id"])
    options = json.loads(job["options"])
    variables = variables_of(connection, config, job, runner, token)
    values = {entry["key"]: entry["value"] for entry in variables}
    timeout = min(job["timeout"], runner["maximum_timeout"] or job["timeout"])
    image = options.get("image")
    return {
        "id": job["id"],
        "token": token,
        "allow_git_fetch": True,
        "job_info": _job_info(job, project, pipeline),
        "git_info": _git_info(config, project, pipeline, token, values),
        "runner_info": {"timeout": timeout, "runner_session_url": None},
        "inputs": [],
        "variables": variables,
        "steps": _steps(options, timeout),
        "hooks": [
            {"name": name, "script": lines if isinstance(lines, list) else [lines]}
            for name, lines in options.get("hooks", {}).items()
        ],
        "image": _image(image) if image else None,
        "services": [_service(entry) for entry in options["services"]],
        "artifacts": _artifacts(options.get("artifacts") or {}),
        "cache": _caches(connection, project, pipeline, job, values),
        "credentials": _credentials(config, token),
        "dependencies": _dependencies(connection, job, options, token),
        "features": {
            "trace_sections": True,
            "token_mask_prefixes": MASKED_PREFIXES,
            "failure_reasons": FAILURE_REASONS,
        },
    }


def _caches(
    connection: db.Connection, project: db.Row, pipeline: db.Row, job: db.Row, values: dict[str, str]
) -> Entries:
    """Caches with the suffix of protected refs for those and for maintainers, unless the project shares them."""
    found = json.loads(job["options"])["cache"]
    if not projects.options(project)["ci_separated_caches"]:
        return caches.for_runner(found, values, None)
    protected = bool(pipeline["protected"])
    if not protected and job["user_id"] is not None:
        who = Principal(users.get(connection, job["user_id"]), frozenset())
        protected = access.project_level(connection, who, project) >= access.MAINTAINER
    return caches.for_runner(found, values, protected)


def variables_of(connection: db.Connection, config: Config, job: db.Row, runner: db.Row, token: str) -> Entries:
    """All variables of a job, the weakest first, each name once, expanded."""
    project = projects.find(connection, str(job["project_id"]))
    pipeline = db.one(connection, "SELECT * FROM ci_pipelines WHERE id = ?", job["pipeline_id"])
    if project is None or pipeline is None:
        raise LookupError(f"job {job['id']}")
    options = json.loads(job["options"])
    known = {
        **predefined.of_pipeline(config, project, pipeline),
        **predefined.of_job(config, project, job),
        **predefined.of_server(config),
        **predefined.of_project(config, project),
        **_of_commit(connection, config, project, pipeline),
        **(predefined.of_user(users.get(connection, job["user_id"])) if job["user_id"] else {}),
        **_of_runner(runner),
        **({"CI_REGISTRY_USER": job_tokens.USERNAME} if config.registry else {}),
    }
    entries = [_plain(key, value) for key, value in known.items()]
    entries += [_hidden(key, value) for key, value in predefined.secret(config, project, token).items()]
    if (deploy := deploy_tokens.for_jobs(connection, config, project["id"])) is not None:
        entries += [_plain("CI_DEPLOY_USER", deploy[0]), _hidden("CI_DEPLOY_PASSWORD", deploy[1])]
    environment = environments.get(connection, job["environment_id"]) if job["environment_id"] else None
    entries += _of_environment(options, environment)
    entries += _written(job)
    entries += _dotenv(connection, job, options)
    entries += [
        _hidden(entry.key, entry.value) | {"masked": entry.masked, "file": entry.file, "raw": entry.raw}
        for entry in settings.for_jobs(
            connection, config, project, bool(pipeline["protected"]), environment["name"] if environment else None
        )
    ]
    schedule = pipeline["schedule_id"]
    scheduled = pipeline_schedules.variables(connection, config, schedule) if schedule else []
    entries += [
        _hidden(entry["key"], str(entry["value"])) | {"masked": False, "file": entry.get("variable_type") == "file"}
        for entry in [*scheduled, *json.loads(pipeline["variables"])]
    ]
    return _expanded(entries)


def _of_commit(connection: db.Connection, config: Config, project: db.Row, pipeline: db.Row) -> dict[str, str]:
    found = {"CI_COMMIT_REF_PROTECTED": str(bool(pipeline["protected"])).lower()}
    ref, whole = pipeline["ref"], pipeline["merge_request_id"] is None
    if not whole:
        row = merge_requests.get(connection, pipeline["merge_request_id"])
        ref = row["source_branch"]
        found |= predefined.of_merge_request(connection, config, project, row)
    commit = repositories.commit(config, pipeline["project_id"], pipeline["sha"])
    if commit is not None:
        before, source = pipeline["before_sha"], pipeline["source"]
        found |= predefined.of_commit(ref, bool(pipeline["tag"]), commit, before=before, source=source, branch=whole)
    if pipeline["schedule_id"] is not None:
        schedule = pipeline_schedules.get(connection, pipeline["schedule_id"])
        found["CI_PIPELINE_SCHEDULE_DESCRIPTION"] = schedule["description"]
    return found | ({} if pipeline["tag"] else predefined.open_merge_requests(connection, project, ref))


def _of_runner(runner: db.Row) -> dict[str, str]:
    return {
        "CI_RUNNER_ID": str(runner["id"]),
        "CI_RUNNER_DESCRIPTION": runner["description"] or "",
        "CI_RUNNER_TAGS": json.dumps(json.loads(runner["tags"])),
    }


def _hidden(key: str, value: str) -> dict[str, Any]:
    return _plain(key, value) | {"public": False, "masked": True}


def _plain(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": value, "public": True, "masked": False, "file": False, "raw": False}


def _expanded(entries: Entries) -> Entries:
    """Each name once, at its last place. What is raw or a file stays as it is, and is not put into others either."""
    last = {entry["key"]: entry for entry in entries}
    values = expand_all({key: entry["value"] for key, entry in last.items() if not entry["raw"] and not entry["file"]})
    return [
        entry | {"value": values.get(entry["key"], entry["value"])} for entry in entries if last[entry["key"]] is entry
    ]


def _written(job: db.Row) -> Entries:
    return [
        _plain(key, entry["value"]) | {"raw": not entry["expand"]}
        for key, entry in json.loads(job["variables"]).items()
    ]


def _of_environment(options: dict[str, Any], environment: db.Row | None) -> Entries:
    if environment is None:
        return []
    said = options["environment"]
    found = {
        "CI_ENVIRONMENT_NAME": environment["name"],
        "CI_ENVIRONMENT_SLUG": environment["slug"],
        "CI_ENVIRONMENT_ID": str(environment["id"]),
        "CI_ENVIRONMENT_TIER": environment["tier"],
        "CI_ENVIRONMENT_ACTION": str(said.get("action", "start")),
    }
    if url := said.get("url") or environment["external_url"]:
        found["CI_ENVIRONMENT_URL"] = str(url)
    return [_plain(key, value) for key, value in found.items()]


def _dotenv(connection: db.Connection, job: db.Row, options: dict[str, Any]) -> Entries:
    found = []
    for other in sources(connection, job, options):
        found += [_plain(key, value) for key, value in json.loads(other["dotenv"])]
    return found


def sources(connection: db.Connection, job: db.Row, options: dict[str, Any]) -> list[db.Row]:
    """The jobs whose artifacts a job gets."""
    rows = connection.execute(
        "SELECT * FROM ci_jobs WHERE pipeline_id = ? AND retried = 0 ORDER BY stage_index, id", (job["pipeline_id"],)
    ).fetchall()
    if job["needs"] is not None:
        names = {need["job"] for need in json.loads(job["needs"]) if need["artifacts"]}
        rows = [row for row in rows if row["name"] in names]
    else:
        rows = [row for row in rows if row["stage_index"] < job["stage_index"]]
    if options.get("dependencies") is not None:
        rows = [row for row in rows if row["name"] in options["dependencies"]]
    return rows


def _dependencies(connection: db.Connection, job: db.Row, options: dict[str, Any], token: str) -> Entries:
    found = []
    for other in sources(connection, job, options):
        archive = storage.artifact(connection, other["id"], "archive")
        if archive is not None:
            file = {"filename": archive["filename"], "size": archive["size"]}
            found.append({"id": other["id"], "name": other["name"], "token": token, "artifacts_file": file})
    return found


def _lacks_artifacts(connection: db.Connection, job: db.Row) -> bool:
    """Whether artifacts that the job should get were erased, or have expired."""
    for other in sources(connection, job, json.loads(job["options"])):
        query = "SELECT 1 FROM ci_artifacts WHERE job_id = ? AND file_type = 'archive'"
        left = db.one(connection, query, other["id"]) is not None
        if other["erased_at"] or (left and storage.artifact(connection, other["id"], "archive") is None):
            return True
    return False


def _job_info(job: db.Row, project: db.Row, pipeline: db.Row) -> dict[str, Any]:
    waited = datetime.now(UTC) - datetime.fromisoformat(job["queued_at"] or job["created_at"])
    return {
        "id": job["id"],
        "name": job["name"],
        "stage": job["stage"],
        "pipeline_id": pipeline["id"],
        "project_id": project["id"],
        "project_name": project["name"],
        "project_full_path": project["full_path"],
        "namespace_id": project["namespace_id"],
        "root_namespace_id": project["namespace_id"],
        "organization_id": 1,
        "user_id": job["user_id"],
        "time_in_queue_seconds": round(waited.total_seconds(), 3),
        "project_jobs_running_on_instance_runners_count": "0",
    }


def _git_info(config: Config, project: db.Row, pipeline: db.Row, token: str, values: dict[str, str]) -> dict[str, Any]:
    """What to fetch. Without a depth that is every branch and tag, with one only the commit and its own ref."""
    keep = f"refs/pipelines/{pipeline['id']}"
    ref = pipeline["ref"]
    chosen = values.get("GIT_DEPTH", str(projects.options(project)["ci_default_git_depth"] or 0))
    depth = int(chosen) if chosen.isdigit() else 0
    named = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    if depth:
        branch = [f"+refs/heads/{ref}:refs/remotes/origin/{ref}"] if pipeline["merge_request_id"] is None else []
        named = [f"+refs/tags/{ref}:refs/tags/{ref}"] if pipeline["tag"] else branch
    return {
        "repo_url": predefined.secret(config, project, token)["CI_REPOSITORY_URL"],
        "repo_object_format": "sha1",
        "ref": ref,
        "sha": pipeline["sha"],
        "before_sha": pipeline["before_sha"],
        "ref_type": "tag" if pipeline["tag"] else "branch",
        "refspecs": [f"+{keep}:{keep}", *named],
        "depth": depth,
        "protected": bool(pipeline["protected"]),
    }


def _steps(options: dict[str, Any], timeout: int) -> Entries:
    script = options["before_script"] + options["script"]
    found = [{"name": "script", "script": script, "timeout": timeout, "when": "on_success", "allow_failure": False}]
    if options["after_script"]:
        found.append(
            {
                "name": "after_script",
                "script": options["after_script"],
                "timeout": timeout,
                "when": "always",
                "allow_failure": True,
            }
        )
    return found


def _image(entry: dict[str, Any]) -> dict[str, Any]:
    policy = entry.get("pull_policy")
    return {
        "name": entry["name"],
        "entrypoint": entry.get("entrypoint"),
        "executor_opts": {key: entry[key] for key in ("docker", "kubernetes") if key in entry},
        "ports": [],
        "pull_policy": [policy] if isinstance(policy, str) else policy,
    }


def _service(entry: dict[str, Any]) -> dict[str, Any]:
    variables = [
        {"key": key, "value": str(value["value"] if isinstance(value, dict) else value)}
        for key, value in (entry.get("variables") or {}).items()
    ]
    return _image(entry) | {"alias": entry.get("alias"), "command": entry.get("command"), "variables": variables}


def _artifacts(entry: dict[str, Any]) -> Entries:
    found: Entries = []
    if entry.get("paths") or entry.get("untracked"):
        found.append(
            {
                "name": entry.get("name"),
                "untracked": bool(entry.get("untracked", False)),
                "paths": entry.get("paths"),
                "exclude": entry.get("exclude"),
                "when": entry.get("when"),
                "expire_in": entry.get("expire_in"),
                "artifact_type": "archive",
                "artifact_format": "zip",
            }
        )
    for kind, value in (entry.get("reports") or {}).items():
        if isinstance(value, str | list):
            found.append(
                {
                    "name": storage.REPORTS.get(kind, f"{kind}.txt"),
                    "untracked": None,
                    "paths": [value] if isinstance(value, str) else value,
                    "when": "always",
                    "expire_in": entry.get("expire_in"),
                    "artifact_type": kind,
                    "artifact_format": "raw" if kind in storage.RAW else "gzip",
                }
            )
    return found


def _credentials(config: Config, token: str) -> Entries:
    if config.registry is None:
        return []
    return [{"type": "registry", "url": config.registry.host, "username": job_tokens.USERNAME, "password": token}]


def take(connection: db.Connection, config: Config, runner: db.Row, manager_id: int) -> dict[str, Any] | None:
    """Give a runner the next job that it may have; nothing when there is none.

    A job that needs artifacts which are gone fails instead.
    """
    job = runners.next_job(connection, runner)
    while job is not None and _lacks_artifacts(connection, job):
        progress.finish(connection, job, "failed", "missing_dependency_failure")
        job = runners.next_job(connection, runner)
    if job is None:
        return None
    timeout = min(job["timeout"], runner["maximum_timeout"] or job["timeout"])
    now = db.now()
    connection.execute(
        "UPDATE ci_jobs SET status = 'running', runner_id = ?, manager_id = ?, started_at = ?, seen_at = ?, timeout = ?"
        " WHERE id = ?",
        (runner["id"], manager_id, now, now, timeout, job["id"]),
    )
    taken = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", job["id"])
    if taken is None:
        raise LookupError(f"job {job['id']}")
    return build(connection, config, taken, runner)
