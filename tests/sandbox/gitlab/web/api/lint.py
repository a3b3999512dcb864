"""The CI linter: reports the errors in a file, or the jobs that it defines."""

from __future__ import annotations

from typing import Any

import yaml

from ..ci import pipelines, predefined, reader
from ..ci.conditions import Context
from ..ci.documents import ConfigurationError, Files, load
from ..core import access, db, events, repositories
from ..core.errors import not_found
from .call import Call, route
from .lookup import find_project


def of_project(call: Call) -> dict[str, Any]:
    """The file in the repository, at `content_ref`."""
    call.user()
    project, _ = find_project(call, access.DEVELOPER)
    ref = call.text("content_ref") or call.text("sha") or project["default_branch"] or "main"
    sha = repositories.resolve(call.config, project["id"], ref)
    if sha is None:
        raise not_found("Commit")
    path = predefined.config_path(project)
    text = pipelines.read_file(call.config, project["id"], sha, path)
    if text is None:
        return _answer(["Please provide content of .gitlab-ci.yml"])
    return _lint(call, project, sha, text)


def of_content(call: Call) -> dict[str, Any]:
    """A text that is given."""
    call.user()
    project, _ = find_project(call, access.DEVELOPER)
    call.require("content")
    ref = call.text("ref") or project["default_branch"] or "main"
    sha = repositories.resolve(call.config, project["id"], ref)
    return _lint(call, project, sha, call.text("content") or "")


def _lint(call: Call, project: db.Row, sha: str | None, text: str) -> dict[str, Any]:
    context = _context(call, project, sha)
    try:
        definition = reader.parse(text, context)
        if call.flag("dry_run", call.flag("dry_run_test", False)):
            plan = reader.plan(definition, context)
            if not plan.jobs:
                return _answer([plan.reason or ""])
        merged = load(text, context.files, context.known())
    except ConfigurationError as error:
        return _answer(error.messages)
    answer = _answer([]) | {"merged_yaml": yaml.safe_dump(merged, sort_keys=False, explicit_start=True)}
    if call.flag("include_jobs", False):
        answer["jobs"] = [
            {
                "name": name,
                "stage": str(job.get("stage", "test")),
                "before_script": reader.lines(job, "before_script"),
                "script": reader.lines(job, "script"),
                "after_script": reader.lines(job, "after_script"),
                "tag_list": job.get("tags") or [],
                "only": job.get("only") or (None if "rules" in job else {"refs": ["branches", "tags"]}),
                "except": job.get("except"),
                "environment": job.get("environment"),
                "when": job.get("when", "on_success"),
                "allow_failure": job.get("allow_failure", False) is True,
                "needs": job.get("needs"),
            }
            for name, job in definition.jobs.items()
        ]
    return answer


def _context(call: Call, project: db.Row, sha: str | None) -> Context:
    commit = repositories.commit(call.config, project["id"], sha) if sha else None
    name = call.text("ref") or call.text("dry_run_ref") or project["default_branch"] or "main"
    if commit is None or call.who is None:
        variables = {**predefined.of_server(call.config), **predefined.of_project(call.config, project)}
        files = Files(lambda _: None, list)
        return Context(ref=name, tag=False, source="push", files=files, changes=lambda: None, predefined=variables)
    start = pipelines.Start(
        project, call.who.user, f"{repositories.BRANCHES}{name}", commit.sha, events.NO_COMMIT, "push"
    )
    return pipelines.context_for(call.connection, call.config, start, commit)


def _answer(errors: list[str]) -> dict[str, Any]:
    return {"valid": not errors, "errors": errors, "warnings": [], "merged_yaml": None, "includes": []}


routes = [*route("/projects/{id}/ci/lint", GET=of_project, POST=of_content)]
