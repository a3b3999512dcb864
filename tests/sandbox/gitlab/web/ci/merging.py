"""Merge requests and pipelines: which pipelines one has, whether it may be merged, merging it, and what a push does.

Checks and their names are those of GitLab's `detailed_merge_status`, in its order. GitLab looks at a new merge request
some time after it was made; until then its status is `preparing`, and there is no pipeline.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

from ..core import access, db, events, merge_requests, merges, projects, protection, repositories, users
from ..core.auth import Principal
from ..core.commits import Signature, move
from ..core.config import Config
from ..core.errors import ApiError
from . import pipelines, progress

SOURCE = "merge_request_event"
#: What options of a push that are for merge requests begin with.
OPTION = "merge_request."
UNDER_WAY = ("created", "waiting_for_resource", "preparing", "pending", "running")
#: Checks that nothing but a new commit changes; nobody can have them waited for.
BROKEN = ("not_open", "commits_status", "conflict", "need_rebase")


@dataclass(frozen=True)
class Wish:
    """How somebody wants it merged. `message` and `squash_message` take the place of GitLab's own."""

    message: str | None = None
    squash_message: str | None = None
    remove_source_branch: bool | None = None
    squash: bool | None = None


@events.on_push
def follow_push(connection: db.Connection, config: Config, push: events.Push) -> None:
    """A pushed source branch changes its merge requests, and closes them when it is gone.

    Those whose commits have come into their target branch, on whatever way, are merged.
    """
    if not push.ref.startswith(repositories.BRANCHES):
        return
    branch = push.ref.removeprefix(repositories.BRANCHES)
    for row in merge_requests.opened(connection, push.project_id, "source_branch", branch):
        if push.removed:
            merge_requests.close(connection, row, push.user_id)
        elif merge_requests.refresh(connection, config, row):
            _note_commits(connection, config, row, push)
            merge_requests.set_options(connection, row, auto_merge=None)
            if row["prepared_at"] is not None and not push.by_job and "ci.skip" not in push.options:
                start_pipeline(connection, config, row, users.get(connection, push.user_id))
    if push.removed:
        return
    _open_on_push(connection, config, push, branch)
    for row in merge_requests.opened(connection, push.project_id, "target_branch", branch):
        version = merge_requests.diff(connection, row)
        brought = version is not None and version["head_sha"] != version["base_sha"]
        if version and brought and repositories.is_ancestor(config, push.project_id, version["head_sha"], push.after):
            _note_merged(connection, row, push.user_id, push.after)


def prepare(config: Config, identity: int) -> None:
    """Look at a new merge request: afterwards it has a pipeline, when its file has one for it."""
    with db.connect(config.database) as connection:
        progress.lock(connection)
        row = db.one(connection, "SELECT * FROM merge_requests WHERE id = ? AND prepared_at IS NULL", identity)
        if row is None:
            return
        _look_at(connection, config, row)


def _look_at(connection: db.Connection, config: Config, row: db.Row) -> None:
    merge_requests.update(connection, row, prepared_at=db.now())
    if row["state"] == "opened" and row["author_id"] is not None:
        start_pipeline(connection, config, row, users.get(connection, row["author_id"]))


def _open_on_push(connection: db.Connection, config: Config, push: events.Push, branch: str) -> None:
    """`git push -o merge_request.create`, with what goes with it. Nothing happens where one is open already."""
    said = dict(option.removeprefix(OPTION).partition("=")[::2] for option in push.options if OPTION in option)
    project = projects.find(connection, str(push.project_id))
    if "create" not in said or project is None:
        return
    commit = repositories.commit(config, push.project_id, push.after)
    target = said.get("target") or project["default_branch"] or "main"
    title = said.get("title") or (commit.title if commit else branch)
    wanted = {
        "title": f"Draft: {title}" if "draft" in said else title,
        "description": said.get("description"),
        "source_branch": branch,
        "target_branch": target,
    }
    chosen = {"force_remove_source_branch": True} if "remove_source_branch" in said else {}
    with suppress(ApiError):
        row = merge_requests.create(connection, config, project, author_id=push.user_id, wanted=wanted, chosen=chosen)
        _look_at(connection, config, row)


def prepare_left(config: Config) -> None:
    """Look at those that an earlier process did not come to."""
    with db.connect(config.database) as connection:
        rows = connection.execute("SELECT id FROM merge_requests WHERE prepared_at IS NULL").fetchall()
    for row in rows:
        prepare(config, row["id"])


def start_pipeline(
    connection: db.Connection, config: Config, row: db.Row, user: db.Row
) -> tuple[db.Row | None, str | None]:
    """Make a pipeline for the newest commit; or say why there is none. Without commits there is not even a reason."""
    project = projects.find(connection, str(row["project_id"]))
    version = merge_requests.diff(connection, row)
    if project is None or version is None or not merge_requests.commits(connection, config, row):
        return None, None
    ref = merge_requests.ref_of(row)
    sha, before = version["head_sha"], events.NO_COMMIT
    return pipelines.create(
        connection, config, pipelines.Start(project, user, ref, sha, before, SOURCE, merge_request=row)
    )


def pipelines_of(connection: db.Connection, config: Config, row: db.Row) -> list[db.Row]:
    """Its pipelines, newest first: its own before those of its branch."""
    own = connection.execute(
        "SELECT * FROM ci_pipelines WHERE merge_request_id = ? ORDER BY id DESC", (row["id"],)
    ).fetchall()
    shas = {one.sha for one in merge_requests.commits(connection, config, row)}
    of_branch = connection.execute(
        "SELECT * FROM ci_pipelines WHERE project_id = ? AND ref = ? AND tag = 0 AND merge_request_id IS NULL "
        "ORDER BY id DESC",
        (row["project_id"], row["source_branch"]),
    ).fetchall()
    return [*own, *(found for found in of_branch if found["sha"] in shas)]


def head_pipeline(connection: db.Connection, config: Config, row: db.Row) -> db.Row | None:
    """The pipeline that says whether its newest commit is good."""
    version = merge_requests.diff(connection, row)
    found = pipelines_of(connection, config, row)
    return next((one for one in found if version is not None and one["sha"] == version["head_sha"]), None)


def status(connection: db.Connection, config: Config, row: db.Row) -> str:
    """`mergeable`, or what keeps it from being merged."""
    if row["state"] == "opened" and row["prepared_at"] is None:
        return "preparing"
    return obstacle(connection, config, row) or "mergeable"


def obstacle(connection: db.Connection, config: Config, row: db.Row) -> str | None:
    """The first check that fails, also of one that was not looked at yet."""
    return _failed_check(connection, config, row) or _failed_pipeline(connection, config, row)


def conflicts(connection: db.Connection, config: Config, row: db.Row) -> bool:
    """Whether git cannot merge it; also when one of its branches is not there."""
    return row["state"] == "opened" and _failed_git(connection, config, row) in ("commits_status", "conflict")


def may_merge(connection: db.Connection, project: db.Row, who: Principal | None, row: db.Row) -> bool:
    """Whether a user may change its target branch."""
    if who is None:
        return False
    level = access.project_level(connection, who, project)
    return protection.may_update(connection, project, level, who.admin, row["target_branch"])


def wait(connection: db.Connection, row: db.Row, user_id: int, wish: Wish) -> db.Row:
    """Have it merged as soon as its pipeline passes."""
    merge_requests.add_note(
        connection, row, user_id, "enabled an automatic merge when all merge checks for this pass", system=True
    )
    return merge_requests.set_options(connection, row, auto_merge={"user_id": user_id, **vars(wish)})


def follow_pipeline(connection: db.Connection, config: Config, pipeline_id: int) -> None:
    """After a job has ended: merge what was waiting for its pipeline, when nothing keeps it from that."""
    pipeline = pipelines.find(connection, pipeline_id)
    if pipeline["status"] not in progress.FINISHED:
        return
    query = "SELECT * FROM merge_requests WHERE project_id = ? AND state = 'opened'"
    for row in connection.execute(query, (pipeline["project_id"],)).fetchall():
        waiting = merge_requests.options(row).get("auto_merge")
        head = head_pipeline(connection, config, row) if waiting else None
        if not waiting or head is None or head["id"] != pipeline_id or head["status"] != "success":
            continue
        user = users.get(connection, waiting.pop("user_id"))
        project = projects.find(connection, str(row["project_id"]))
        who = Principal(user, frozenset())
        may = project is not None and may_merge(connection, project, who, row)
        if project is not None and may and obstacle(connection, config, row) is None:
            merge(connection, config, project, row, user=user, wish=Wish(**waiting))


def merge(
    connection: db.Connection, config: Config, project: db.Row, row: db.Row, *, user: db.Row, wish: Wish
) -> db.Row:
    """Merge it, as the project wants that done, and remove its branch when that is wanted and allowed.

    Raises:
        ApiError: 422, git could not do it.
    """
    version = merge_requests.diff(connection, row)
    target = repositories.branches(config, project["id"]).get(row["target_branch"])
    if version is None or target is None:
        raise not_merged()
    squashed = wish.squash if wish.squash is not None else merge_requests.squashed(project, row)
    made = _make(config, project, row, version, user=user, wish=wish, squashed=squashed)
    move(config, project["id"], f"{repositories.BRANCHES}{row['target_branch']}", target, made.head)
    merge_requests.update(
        connection,
        row,
        state="merged",
        merge_commit_sha=made.merge,
        squash_commit_sha=made.squash,
        merge_user_id=user["id"],
        merged_at=db.now(),
    )
    merge_requests.add_note(connection, row, user["id"], "merged", system=True)
    ref = f"{repositories.BRANCHES}{row['target_branch']}"
    events.push_accepted(connection, config, events.Push(project["id"], ref, target, made.head, user["id"]))
    _remove_source(connection, config, project, row, sha=version["head_sha"], user=user, wish=wish)
    return merge_requests.get(connection, row["id"])


def not_merged() -> ApiError:
    """It could not be merged after all."""
    return ApiError(422, {"message": "Branch cannot be merged"})


@dataclass(frozen=True)
class _Made:
    head: str
    merge: str | None
    squash: str | None


def _make(
    config: Config, project: db.Row, row: db.Row, version: db.Row, *, user: db.Row, wish: Wish, squashed: bool
) -> _Made:
    number, author = project["id"], Signature(user["name"], user["email"])
    target, source, squash = repositories.branches(config, number)[row["target_branch"]], version["head_sha"], None
    if squashed:
        tree = repositories.run(config, number, "rev-parse", f"{source}^{{tree}}").decode().strip()
        message = wish.squash_message or row["title"]
        parents = [version["base_sha"]]
        squash = source = merges.make_commit(config, number, tree=tree, parents=parents, message=message, author=author)
    if projects.options(project)["merge_method"] == "ff":
        return _Made(source, None, squash)
    merged = merges.merged_tree(config, number, target, source)
    if merged is None:
        raise not_merged()
    message = wish.message or _message(project, row)
    made = merges.make_commit(config, number, tree=merged, parents=[target, source], message=message, author=author)
    return _Made(made, made, squash)


def _message(project: db.Row, row: db.Row) -> str:
    return (
        f"Merge branch '{row['source_branch']}' into '{row['target_branch']}'\n\n{row['title']}\n\n"
        f"See merge request {project['full_path']}!{row['iid']}"
    )


def _remove_source(
    connection: db.Connection, config: Config, project: db.Row, row: db.Row, *, sha: str, user: db.Row, wish: Wish
) -> None:
    branch = row["source_branch"]
    wanted = wish.remove_source_branch
    if wanted is None:
        wanted = bool(merge_requests.options(row).get("force_remove_source_branch"))
    kept = branch == (project["default_branch"] or "main") or protection.branch_rules(connection, project["id"], branch)
    if not wanted or kept or repositories.branches(config, project["id"]).get(branch) != sha:
        return
    ref = f"{repositories.BRANCHES}{branch}"
    move(config, project["id"], ref, sha, None)
    events.push_accepted(connection, config, events.Push(project["id"], ref, sha, events.NO_COMMIT, user["id"]))


def _failed_check(connection: db.Connection, config: Config, row: db.Row) -> str | None:
    if row["state"] != "opened":
        return "not_open"
    if merge_requests.draft(row["title"]):
        return "draft_status"
    return _failed_git(connection, config, row)


def _failed_git(connection: db.Connection, config: Config, row: db.Row) -> str | None:
    number, version = row["project_id"], merge_requests.diff(connection, row)
    branches = repositories.branches(config, number)
    target, source = branches.get(row["target_branch"]), branches.get(row["source_branch"])
    if version is None or target is None or source is None or version["head_sha"] == version["base_sha"]:
        return "commits_status"
    if merges.merged_tree(config, number, target, version["head_sha"]) is None:
        return "conflict"
    project = projects.find(connection, str(number))
    method = projects.options(project)["merge_method"] if project is not None else "merge"
    behind = not repositories.is_ancestor(config, number, target, version["head_sha"])
    return "need_rebase" if method != "merge" and behind else None


def _failed_pipeline(connection: db.Connection, config: Config, row: db.Row) -> str | None:
    project = projects.find(connection, str(row["project_id"]))
    options = projects.options(project) if project is not None else {}
    if not options.get("only_allow_merge_if_pipeline_succeeds"):
        return None
    head = head_pipeline(connection, config, row)
    good = ("success", "skipped") if options.get("allow_merge_on_skipped_pipeline") else ("success",)
    if head is not None and head["status"] in good:
        return None
    return "ci_still_running" if head is not None and head["status"] in UNDER_WAY else "ci_must_pass"


def _note_commits(connection: db.Connection, config: Config, row: db.Row, push: events.Push) -> None:
    fresh = repositories.log(config, row["project_id"], push.after, since=push.before)
    entries = "".join(f"<li>{one.sha[:8]} - {one.title}</li>" for one in reversed(fresh))
    words = f"added {len(fresh)} commit{'' if len(fresh) == 1 else 's'}\n\n<ul>{entries}</ul>"
    merge_requests.add_note(connection, row, push.user_id, words, system=True)


def _note_merged(connection: db.Connection, row: db.Row, user_id: int, sha: str) -> None:
    merge_requests.update(
        connection, row, state="merged", merge_commit_sha=sha, merge_user_id=user_id, merged_at=db.now()
    )
    merge_requests.add_note(connection, row, user_id, "merged", system=True)


def auto_cancel_on_failure(connection: db.Connection, pipeline_id: int) -> None:
    """With `workflow:auto_cancel:on_job_failure: all`, a job that fails for good takes the others with it."""
    pipeline = pipelines.find(connection, pipeline_id)
    if json.loads(pipeline["auto_cancel"]).get("on_job_failure") != "all":
        return
    jobs = progress.latest(connection, pipeline_id)
    if any(job["status"] == "failed" and not job["allow_failure"] for job in jobs):
        for job in jobs:
            if job["status"] in progress.CANCELABLE:
                progress.cancel(connection, job)
        progress.note(connection, pipeline_id)
