"""Predefined variables of jobs: `CI`, `CI_COMMIT_SHA`, `CI_REGISTRY_IMAGE` and so on."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ..core import db, merge_requests, projects, protection
from ..core.config import Config
from ..core.job_tokens import USERNAME
from ..core.repositories import Commit

SLUG_LENGTH = 63
#: What jobs are told of the description of a merge request, in characters.
DESCRIPTION_LENGTH = 2700
#: Of merge requests in `CI_OPEN_MERGE_REQUESTS`.
MAXIMUM_OPEN = 4


def slug(text: str) -> str:
    """A text as part of a host name or a tag of an image."""
    return re.sub(r"[^a-z0-9]", "-", text.lower())[:SLUG_LENGTH].strip("-")


def of_server(config: Config) -> dict[str, str]:
    """What holds for the instance."""
    url = urlsplit(config.external_url)
    port = url.port or (443 if url.scheme == "https" else 80)
    major, minor, patch = config.version.partition("-")[0].split(".")
    return {
        "CI": "true",
        "GITLAB_CI": "true",
        "GITLAB_FEATURES": "",
        "CI_SERVER": "yes",
        "CI_SERVER_URL": config.external_url,
        "CI_SERVER_HOST": url.hostname or "",
        "CI_SERVER_FQDN": url.netloc,
        "CI_SERVER_PORT": str(port),
        "CI_SERVER_PROTOCOL": url.scheme,
        "CI_SERVER_SHELL_SSH_HOST": url.hostname or "",
        "CI_SERVER_SHELL_SSH_PORT": str(config.ssh_port),
        "CI_SERVER_NAME": "GitLab",
        "CI_SERVER_VERSION": config.version,
        "CI_SERVER_VERSION_MAJOR": major,
        "CI_SERVER_VERSION_MINOR": minor,
        "CI_SERVER_VERSION_PATCH": patch,
        "CI_SERVER_REVISION": "standin",
        "CI_API_V4_URL": f"{config.external_url}/api/v4",
        "CI_API_GRAPHQL_URL": f"{config.external_url}/api/graphql",
        "CI_TEMPLATE_REGISTRY_HOST": "registry.gitlab.com",
    }


def of_project(config: Config, project: db.Row) -> dict[str, str]:
    """What holds for a project."""
    path = str(project["full_path"])
    namespace, _, _ = path.rpartition("/")
    branch = project["default_branch"] or "main"
    found = {
        "CI_PROJECT_ID": str(project["id"]),
        "CI_PROJECT_NAME": project["path"],
        "CI_PROJECT_TITLE": project["name"],
        "CI_PROJECT_DESCRIPTION": project["description"] or "",
        "CI_PROJECT_PATH": path,
        "CI_PROJECT_PATH_SLUG": slug(path),
        "CI_PROJECT_NAMESPACE": namespace,
        "CI_PROJECT_NAMESPACE_ID": str(project["namespace_id"]),
        "CI_PROJECT_NAMESPACE_SLUG": slug(namespace),
        "CI_PROJECT_ROOT_NAMESPACE": path.partition("/")[0],
        "CI_PROJECT_URL": f"{config.external_url}/{path}",
        "CI_PROJECT_VISIBILITY": project["visibility"],
        "CI_PROJECT_REPOSITORY_LANGUAGES": "",
        "CI_PROJECT_CLASSIFICATION_LABEL": "",
        "CI_DEFAULT_BRANCH": branch,
        "CI_DEFAULT_BRANCH_SLUG": slug(branch),
        "CI_CONFIG_PATH": config_path(project),
    }
    if config.registry:
        found["CI_REGISTRY"] = config.registry.host
        if projects.options(project)["container_registry_access_level"] != "disabled":
            found["CI_REGISTRY_IMAGE"] = f"{config.registry.host}/{path.lower()}"
    return found


def config_path(project: db.Row) -> str:
    """Where the file with the pipeline is."""
    return str(projects.options(project)["ci_config_path"] or ".gitlab-ci.yml")


def of_commit(ref: str, tag: bool, commit: Commit, *, before: str, source: str, branch: bool = True) -> dict[str, str]:
    """What holds for a commit and the ref that it was pushed to. A merge request's pipeline is of no `branch`."""
    of_ref = {"CI_COMMIT_BRANCH": ref} if branch else {}
    if tag:
        of_ref = {"CI_COMMIT_TAG": ref, "CI_COMMIT_TAG_MESSAGE": ""}
    description = commit.message.partition("\n")[2].strip("\n")
    return {
        "CI_PIPELINE_SOURCE": source,
        "CI_COMMIT_SHA": commit.sha,
        "CI_COMMIT_SHORT_SHA": commit.sha[:8],
        "CI_COMMIT_BEFORE_SHA": before,
        "CI_COMMIT_REF_NAME": ref,
        "CI_COMMIT_REF_SLUG": slug(ref),
        **of_ref,
        "CI_COMMIT_MESSAGE": commit.message.rstrip("\n"),
        "CI_COMMIT_MESSAGE_IS_TRUNCATED": "false",
        "CI_COMMIT_TITLE": commit.title,
        "CI_COMMIT_DESCRIPTION": description,
        "CI_COMMIT_TIMESTAMP": commit.committed_at,
        "CI_COMMIT_AUTHOR": f"{commit.author_name} <{commit.author_email}>",
    }


def of_merge_request(connection: db.Connection, config: Config, project: db.Row, row: db.Row) -> dict[str, str]:
    """What holds for a merge request. Its branches have no sha here: only merged results (Premium) have."""
    version = merge_requests.diff(connection, row)
    options = merge_requests.options(row)
    url = f"{config.external_url}/{project['full_path']}"
    description = row["description"] or ""
    found = {
        "CI_MERGE_REQUEST_EVENT_TYPE": "detached",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "",
        "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": "",
        "CI_MERGE_REQUEST_ID": str(row["id"]),
        "CI_MERGE_REQUEST_IID": str(row["iid"]),
        "CI_MERGE_REQUEST_REF_PATH": merge_requests.ref_of(row),
        "CI_MERGE_REQUEST_TITLE": row["title"],
        "CI_MERGE_REQUEST_DRAFT": str(merge_requests.draft(row["title"])).lower(),
        "CI_MERGE_REQUEST_DESCRIPTION": description[:DESCRIPTION_LENGTH],
        "CI_MERGE_REQUEST_DESCRIPTION_IS_TRUNCATED": str(len(description) > DESCRIPTION_LENGTH).lower(),
        "CI_MERGE_REQUEST_SQUASH_ON_MERGE": str(merge_requests.squashed(project, row)).lower(),
    }
    for side in ("source", "target"):
        name = row[f"{side}_branch"]
        found[f"CI_MERGE_REQUEST_{side.upper()}_BRANCH_NAME"] = name
        fixed = bool(protection.branch_rules(connection, project["id"], name))
        found[f"CI_MERGE_REQUEST_{side.upper()}_BRANCH_PROTECTED"] = str(fixed).lower()
    for prefix in ("CI_MERGE_REQUEST_PROJECT", "CI_MERGE_REQUEST_SOURCE_PROJECT"):
        found |= {f"{prefix}_ID": str(project["id"]), f"{prefix}_PATH": project["full_path"], f"{prefix}_URL": url}
    if version is not None:
        found["CI_MERGE_REQUEST_DIFF_ID"] = str(version["id"])
        found["CI_MERGE_REQUEST_DIFF_BASE_SHA"] = version["base_sha"]
    if options.get("labels"):
        found["CI_MERGE_REQUEST_LABELS"] = ",".join(options["labels"])
    return found


def open_merge_requests(connection: db.Connection, project: db.Row, branch: str) -> dict[str, str]:
    """The open merge requests that a branch is the source of, the last four."""
    rows = merge_requests.opened(connection, project["id"], "source_branch", branch)[:MAXIMUM_OPEN]
    names = ",".join(f"{project['full_path']}!{row['iid']}" for row in rows)
    return {"CI_OPEN_MERGE_REQUESTS": names} if names else {}


def of_user(user: db.Row) -> dict[str, str]:
    """Who started it."""
    return {
        "GITLAB_USER_ID": str(user["id"]),
        "GITLAB_USER_EMAIL": user["email"],
        "GITLAB_USER_LOGIN": user["username"],
        "GITLAB_USER_NAME": user["name"],
    }


def of_pipeline(config: Config, project: db.Row, pipeline: db.Row) -> dict[str, str]:
    """What holds for a pipeline that is there."""
    return {
        "CI_PIPELINE_ID": str(pipeline["id"]),
        "CI_PIPELINE_IID": str(pipeline["iid"]),
        "CI_PIPELINE_URL": f"{config.external_url}/{project['full_path']}/-/pipelines/{pipeline['id']}",
        "CI_PIPELINE_CREATED_AT": pipeline["created_at"],
        "CI_PIPELINE_NAME": pipeline["name"] or "",
    }


def of_job(config: Config, project: db.Row, job: db.Row) -> dict[str, str]:
    """What holds for a job, but for its secrets."""
    return {
        "CI_JOB_ID": str(job["id"]),
        "CI_JOB_URL": f"{config.external_url}/{project['full_path']}/-/jobs/{job['id']}",
        "CI_JOB_NAME": job["name"],
        "CI_JOB_NAME_SLUG": slug(job["name"]),
        "CI_JOB_GROUP_NAME": re.sub(r" \d+/\d+\Z|: \[.*\]\Z", "", job["name"]),
        "CI_JOB_STAGE": job["stage"],
        "CI_JOB_STARTED_AT": job["started_at"] or "",
        "CI_JOB_TIMEOUT": str(job["timeout"]),
        "CI_NODE_TOTAL": "1",
        **({"CI_JOB_MANUAL": "true"} if job["run_when"] == "manual" else {}),
    }


def secret(config: Config, project: db.Row, token: str) -> dict[str, str]:
    """What a job gets with its token: each is to be masked."""
    scheme, _, rest = config.external_url.partition("://")
    found = {
        "CI_JOB_TOKEN": token,
        "CI_REPOSITORY_URL": f"{scheme}://{USERNAME}:{token}@{rest}/{project['full_path']}.git",
    }
    if config.registry:
        found["CI_REGISTRY_PASSWORD"] = token
    return found
