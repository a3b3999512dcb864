"""Merge requests of a project, within one project. Approvals, which a merge could need, are GitLab Premium's."""

from __future__ import annotations

from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, Response

from ..ci import merge_views, merging, progress, views
from ..core import access, db, merge_requests, merges, projects, repositories
from ..core.auth import Principal
from ..core.errors import ApiError, forbidden, missing, not_found, unauthorized
from .call import Call, created, no_content, page, route
from .lookup import find_merge_request, find_project, find_project_by_job
from .repository import present_commit

STATES = ("opened", "closed", "locked", "merged", "all")
#: What an update has to have one of.
CHANGEABLE = (
    "assignee_id", "assignee_ids", "reviewer_ids", "description", "labels", "add_labels", "remove_labels",
    "milestone_id", "milestone", "remove_source_branch", "allow_collaboration", "allow_maintainer_to_push", "squash",
    "target_branch", "title", "state_event", "discussion_locked", "merge_after",
)  # fmt: skip


def listing(call: Call) -> Response:
    """Merge requests, newest first. A job may read them as well."""
    project, who = find_project_by_job(call, 0)
    _require_reading(call, project, who)
    rows = call.connection.execute(
        "SELECT * FROM merge_requests WHERE project_id = ? ORDER BY id DESC", (project["id"],)
    ).fetchall()
    state = call.choice("state", STATES, "all")
    wanted = {name: call.text(name) for name in ("source_branch", "target_branch", "author_id")}
    iids = call.words("iids")
    search = (call.text("search") or "").lower()
    found = [
        row
        for row in rows
        if state in ("all", row["state"])
        and all(value in (None, str(row[name])) for name, value in wanted.items())
        and (iids is None or str(row["iid"]) in iids)
        and search in f"{row['title']}\n{row['description'] or ''}".lower()
    ]
    if call.choice("sort", ("asc", "desc"), "desc") == "asc":
        found.reverse()
    return page(call, [merge_views.basic(call.connection, call.config, project, row) for row in found])


def get(call: Call) -> dict[str, Any]:
    """One merge request. A job may read it as well."""
    project, who = find_project_by_job(call, 0)
    return _full(call, project, find_merge_request(call, project, who), who)


def create(call: Call) -> Response:
    """Open one. What it is worth is looked at afterwards: the response says `preparing`, and shows no pipeline."""
    who = call.user()
    project, level = find_project(call, 0)
    if level < access.DEVELOPER or project["archived"] or _switched_off(project):
        raise forbidden()
    absent = [name for name in ("title", "source_branch", "target_branch") if name not in call.params]
    if absent:
        raise missing(*absent)
    if call.integer("target_project_id", project["id"]) != project["id"]:
        raise ApiError(422, {"message": [merge_requests.FOREIGN]})
    wanted: dict[str, Any] = {
        name: call.text(name) for name in ("title", "description", "source_branch", "target_branch")
    }
    progress.lock(call.connection)
    row = merge_requests.create(
        call.connection, call.config, project, author_id=who.user["id"], wanted=wanted, chosen=_options(call, {})
    )
    later = BackgroundTask(merging.prepare, call.config, row["id"])
    return created(_full(call, project, row, who), later)


def update(call: Call) -> dict[str, Any]:
    """Change one: its words, its target, or whether it is open."""
    who, project, row = _changeable(call)
    if not any(name in call.params for name in CHANGEABLE):
        names = ", ".join(CHANGEABLE)
        raise ApiError(400, {"error": f"{names} are missing, at least one parameter must be provided"})
    for name in ("title", "target_branch"):
        if name in call.params and not call.text(name):
            raise ApiError(400, {"error": f"{name} is empty"})
    event = call.choice("state_event", ("close", "reopen"))
    progress.lock(call.connection)
    new = {name: call.text(name, row[name]) for name in ("title", "description", "target_branch")}
    if row["state"] == "opened" or event == "reopen":
        merge_requests.check(call.connection, project, new | {"source_branch": row["source_branch"]}, row)
    merge_requests.update(call.connection, row, **new)
    row = merge_requests.set_options(call.connection, row, **_options(call, merge_requests.options(row)))
    if event == "close" and row["state"] == "opened":
        merge_requests.close(call.connection, row, who.user["id"])
    if event == "reopen" and row["state"] == "closed":
        merge_requests.update(call.connection, row, state="opened", closed_by_id=None, closed_at=None)
        merge_requests.add_note(call.connection, row, who.user["id"], "reopened", system=True)
    row = merge_requests.get(call.connection, row["id"])
    if row["state"] == "opened":
        merge_requests.refresh(call.connection, call.config, row)
    return _full(call, project, row, who)


def delete(call: Call) -> Response:
    """Remove one with its notes; for owners."""
    call.user()
    project, level = find_project(call, 0)
    row = find_merge_request(call, project, call.who)
    if level < access.OWNER:
        raise forbidden()
    call.connection.execute("DELETE FROM merge_requests WHERE id = ?", (row["id"],))
    return no_content()


def merge(call: Call) -> dict[str, Any]:
    """Merge it, now or when its pipeline passes. 401: not by this user; 405: not as it is; 409: not this commit."""
    who = call.user()
    project, _ = find_project(call, 0)
    row = find_merge_request(call, project, who)
    if not merging.may_merge(call.connection, project, who, row):
        raise unauthorized()
    progress.lock(call.connection)
    version, sha = merge_requests.diff(call.connection, row), call.text("sha")
    head = version["head_sha"] if version else None
    if sha and sha != head:
        raise ApiError(409, {"message": f"SHA does not match HEAD of source branch: {head}"})
    wish = merging.Wish(
        call.text("merge_commit_message"),
        call.text("squash_commit_message"),
        call.flag("should_remove_source_branch"),
        call.flag("squash"),
    )
    waits = call.flag("merge_when_pipeline_succeeds", False) or call.flag("auto_merge", False)
    if waits and _waits(call, row):
        return _full(call, project, merging.wait(call.connection, row, who.user["id"], wish), who)
    if merging.obstacle(call.connection, call.config, row) is not None:
        raise _not_allowed()
    merged = merging.merge(call.connection, call.config, project, row, user=who.user, wish=wish)
    return _full(call, project, merged, who)


def cancel_waiting(call: Call) -> Response:
    """Do not merge it when its pipeline passes."""
    who = call.user()
    project, _ = find_project(call, 0)
    row = find_merge_request(call, project, who)
    if row["author_id"] != who.user["id"] and not merging.may_merge(call.connection, project, who, row):
        raise unauthorized()
    if merge_requests.options(row).get("auto_merge") is None:
        raise ApiError(406, {"message": "Can't cancel the automatic merge"})
    merge_requests.set_options(call.connection, row, auto_merge=None)
    return created({"status": "success"})


def commits(call: Call) -> Response:
    """The commits that it brings, newest first."""
    project, row = _readable(call)
    found = merge_requests.commits(call.connection, call.config, row)
    return page(call, [present_commit(call, project, one) for one in found])


def changes(call: Call) -> dict[str, Any]:
    """The merge request, with what happens to each file."""
    project, row = _readable(call)
    shown = _full(call, project, row, call.who)
    return shown | {"changes": [merge_views.change(one) for one in _changes(call, row)], "overflow": False}


def diffs(call: Call) -> Response:
    """What happens to each file."""
    _, row = _readable(call)
    return page(call, [merge_views.change(one) for one in _changes(call, row)])


def raw_diffs(call: Call) -> Response:
    """All changes as one text that git can apply."""
    _, row = _readable(call)
    version = merge_requests.diff(call.connection, row)
    if version is None:
        return PlainTextResponse("")
    text = repositories.run(call.config, row["project_id"], "diff", "-M", version["base_sha"], version["head_sha"])
    return PlainTextResponse(text.decode(errors="replace"))


def pipelines_of(call: Call) -> Response:
    """Its pipelines, newest first."""
    project, row = _readable(call)
    if projects.options(project)["builds_access_level"] == "disabled":
        raise forbidden()
    found = merging.pipelines_of(call.connection, call.config, row)
    return page(call, [views.pipeline(call.connection, call.config, one) for one in found])


def create_pipeline(call: Call) -> dict[str, Any]:
    """Start a pipeline for its newest commit."""
    who = call.user()
    _, row = _readable(call)
    made, reason = merging.start_pipeline(call.connection, call.config, row, who.user)
    if made is None and reason is None:
        raise _not_allowed()
    if made is None or made["yaml_errors"]:
        call.connection.commit()
        raise ApiError(400, {"message": {"base": [reason]}})
    return views.pipeline(call.connection, call.config, made, full=True)


def of_commit(call: Call) -> Response:
    """The merge requests that brought a commit."""
    project, _ = find_project(call, 0)
    _require_reading(call, project, call.who)
    sha = repositories.resolve(call.config, project["id"], call.path("sha"))
    if sha is None:
        raise not_found("Commit")
    found = merge_requests.of_commit(call.connection, call.config, project["id"], sha)
    return page(call, [merge_views.basic(call.connection, call.config, project, row) for row in found])


def _readable(call: Call) -> tuple[db.Row, db.Row]:
    project, _ = find_project(call, 0)
    return project, find_merge_request(call, project, call.who)


def _changeable(call: Call) -> tuple[Principal, db.Row, db.Row]:
    who = call.user()
    project, level = find_project(call, 0)
    row = find_merge_request(call, project, who)
    if (level < access.DEVELOPER and row["author_id"] != who.user["id"]) or project["archived"]:
        raise forbidden()
    return who, project, row


def _require_reading(call: Call, project: db.Row, who: Principal | None) -> None:
    private = project["visibility"] == "private"
    level = access.project_level(call.connection, who, project)
    if _switched_off(project) or (private and level < access.REPORTER):
        raise forbidden()


def _switched_off(project: db.Row) -> bool:
    return bool(projects.options(project)["merge_requests_access_level"] == "disabled")


def _waits(call: Call, row: db.Row) -> bool:
    """Whether there is something to wait for: a pipeline, or a check that the people can still meet."""
    failed = merging.obstacle(call.connection, call.config, row)
    head = merging.head_pipeline(call.connection, call.config, row)
    under_way = head is not None and head["status"] in merging.UNDER_WAY
    return failed not in merging.BROKEN and (under_way or failed is not None)


def _not_allowed() -> ApiError:
    return ApiError(405, {"message": "405 Method Not Allowed"})


def _changes(call: Call, row: db.Row) -> list[merges.FileChange]:
    version = merge_requests.diff(call.connection, row)
    if version is None:
        return []
    return merges.changes(call.config, row["project_id"], version["base_sha"], version["head_sha"])


def _options(call: Call, known: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (squash := call.flag("squash")) is not None:
        found["squash"] = squash
    if (remove := call.flag("remove_source_branch")) is not None:
        found["force_remove_source_branch"] = remove
    for name in ("assignee_ids", "reviewer_ids"):
        if (words := call.words(name)) is not None:
            found[name] = [int(word) for word in words if word.isdigit() and int(word)]
    if (one := call.integer("assignee_id")) is not None:
        found["assignee_ids"] = [one] if one else []
    labels = call.words("labels")
    added, removed = call.words("add_labels") or [], call.words("remove_labels") or []
    if labels is not None or added or removed:
        base = known.get("labels", []) if labels is None else labels
        found["labels"] = sorted({*base, *added} - set(removed))
    return found


def _full(call: Call, project: db.Row, row: db.Row, who: Principal | None) -> dict[str, Any]:
    return merge_views.full(call.connection, call.config, project, row, who)


ONE = "/projects/{id}/merge_requests/{iid:int}"
routes = [
    *route("/projects/{id}/merge_requests", GET=listing, POST=create),
    *route(ONE, GET=get, PUT=update, DELETE=delete),
    *route(f"{ONE}/merge", PUT=merge),
    *route(f"{ONE}/cancel_merge_when_pipeline_succeeds", POST=cancel_waiting),
    *route(f"{ONE}/commits", GET=commits),
    *route(f"{ONE}/changes", GET=changes),
    *route(f"{ONE}/diffs", GET=diffs),
    *route(f"{ONE}/raw_diffs", GET=raw_diffs),
    *route(f"{ONE}/pipelines", GET=pipelines_of, POST=create_pipeline),
    *route("/projects/{id}/repository/commits/{sha}/merge_requests", GET=of_commit),
]
