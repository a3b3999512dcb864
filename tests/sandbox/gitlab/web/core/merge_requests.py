"""Merge requests of a project: records, versions of their changes, refs, and notes. Their branches are in one project.

Owns no pipeline: what these have to do with merging is in `ci/merging.py`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from . import db, merges, projects, repositories
from .config import Config
from .errors import ApiError, rejected

LONGEST_TITLE = 255
LONGEST_DESCRIPTION = 1_048_576
DRAFT = re.compile(r"\s*(\[draft\]|\(draft\)|draft:)", re.IGNORECASE)
SAME_BRANCH = "You can't use same project/branch for source and target"
FOREIGN = "Source project is not a fork of the target project"


def ref_of(row: db.Row) -> str:
    """Where a repository keeps the newest commit of a merge request."""
    return f"refs/merge-requests/{row['iid']}/head"


def get(connection: db.Connection, identity: int) -> db.Row:
    """The row of one that exists."""
    row = db.one(connection, "SELECT * FROM merge_requests WHERE id = ?", identity)
    if row is None:
        raise LookupError(f"merge request {identity}")
    return row


def find(connection: db.Connection, project_id: int, iid: str) -> db.Row | None:
    """By the number that it has in its project."""
    return db.one(connection, "SELECT * FROM merge_requests WHERE project_id = ? AND iid = ?", project_id, iid)


def opened(connection: db.Connection, project_id: int, column: str, branch: str) -> list[db.Row]:
    """The open ones with a branch as their `source_branch` or `target_branch`, newest first."""
    query = f"SELECT * FROM merge_requests WHERE project_id = ? AND {column} = ? AND state = 'opened' ORDER BY id DESC"  # noqa: S608
    return connection.execute(query, (project_id, branch)).fetchall()


def options(row: db.Row) -> dict[str, Any]:
    """What it is set to beside its columns."""
    found: dict[str, Any] = json.loads(row["options"])
    return found


def set_options(connection: db.Connection, row: db.Row, **values: Any) -> db.Row:
    """Change some of the options."""
    update(connection, row, options=json.dumps(options(row) | values))
    return get(connection, row["id"])


def update(connection: db.Connection, row: db.Row, **values: object) -> None:
    """Change columns. The names are the program's own."""
    values["updated_at"] = db.now()
    names = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE merge_requests SET {names} WHERE id = ?", (*values.values(), row["id"]))  # noqa: S608


def squashed(project: db.Row, row: db.Row) -> bool:
    """Whether its commits become one when it is merged."""
    rule = projects.options(project)["squash_option"]
    if rule in ("always", "never"):
        return bool(rule == "always")
    return bool(options(row).get("squash", rule == "default_on"))


def draft(title: str) -> bool:
    """Whether a title says that it is not to be merged yet."""
    return DRAFT.match(title) is not None


def check(connection: db.Connection, project: db.Row, wanted: dict[str, Any], row: db.Row | None = None) -> None:
    """Refuse what no merge request can be. That a branch exists is not checked, by GitLab neither."""
    if not str(wanted["title"]).strip():
        raise rejected("title", "can't be blank")
    if len(wanted["title"]) > LONGEST_TITLE:
        raise rejected("title", f"is too long (maximum is {LONGEST_TITLE} characters)")
    if len(wanted["description"] or "") > LONGEST_DESCRIPTION:
        raise rejected("description", f"is too long (maximum is {LONGEST_DESCRIPTION} characters)")
    source, target = wanted["source_branch"], wanted["target_branch"]
    if source == target:
        raise ApiError(422, {"message": [SAME_BRANCH]})
    for other in opened(connection, project["id"], "source_branch", source):
        if other["target_branch"] == target and (row is None or other["id"] != row["id"]):
            words = f"Another open merge request already exists for this source branch: !{other['iid']}"
            raise ApiError(409, {"message": [words]})


def create(
    connection: db.Connection,
    config: Config,
    project: db.Row,
    *,
    author_id: int,
    wanted: dict[str, Any],
    chosen: dict[str, Any],
) -> db.Row:
    """Open a merge request. Its pipeline is not its business: see `ci.merging.prepare`."""
    check(connection, project, wanted)
    last = db.one(connection, "SELECT MAX(iid) AS iid FROM merge_requests WHERE project_id = ?", project["id"])
    identity = db.insert(
        connection,
        "merge_requests",
        iid=((last["iid"] if last else None) or 0) + 1,
        project_id=project["id"],
        author_id=author_id,
        **wanted,
        options=json.dumps(chosen),
        created_at=db.now(),
        updated_at=db.now(),
    )
    row = get(connection, identity)
    refresh(connection, config, row)
    return row


def refresh(connection: db.Connection, config: Config, row: db.Row) -> bool:
    """Take notice of where the branches are now; whether there was anything to notice."""
    project_id = row["project_id"]
    branches = repositories.branches(config, project_id)
    head, start = branches.get(row["source_branch"]), branches.get(row["target_branch"])
    if head is None:
        return False
    repositories.run(config, project_id, "update-ref", ref_of(row), head)
    base = merges.base(config, project_id, start, head) if start else None
    known = diff(connection, row)
    if base is None or start is None or (known and (known["head_sha"], known["base_sha"]) == (head, base)):
        return False
    db.insert(
        connection,
        "merge_request_diffs",
        merge_request_id=row["id"],
        head_sha=head,
        base_sha=base,
        start_sha=start,
        created_at=db.now(),
    )
    return True


def diff(connection: db.Connection, row: db.Row) -> db.Row | None:
    """The newest version of its changes; nothing when a branch was never there."""
    query = "SELECT * FROM merge_request_diffs WHERE merge_request_id = ? ORDER BY id DESC"
    return db.one(connection, query, row["id"])


def commits(connection: db.Connection, config: Config, row: db.Row) -> list[repositories.Commit]:
    """The commits that it brings, newest first."""
    version = diff(connection, row)
    if version is None:
        return []
    return repositories.log(config, row["project_id"], version["head_sha"], since=version["base_sha"])


def of_commit(connection: db.Connection, config: Config, project_id: int, sha: str) -> list[db.Row]:
    """Those that brought a commit, or bring it."""
    rows = connection.execute("SELECT * FROM merge_requests WHERE project_id = ? ORDER BY id DESC", (project_id,))
    return [
        row
        for row in rows.fetchall()
        if sha in (row["merge_commit_sha"], row["squash_commit_sha"])
        or any(one.sha == sha for one in commits(connection, config, row))
    ]


def close(connection: db.Connection, row: db.Row, user_id: int) -> None:
    """Close it without merging."""
    update(connection, row, state="closed", closed_by_id=user_id, closed_at=db.now())
    add_note(connection, row, user_id, "closed", system=True)


def add_note(
    connection: db.Connection, row: db.Row, author_id: int, body: str, *, system: bool = False, internal: bool = False
) -> db.Row:
    """Say something about it; `system` is what GitLab itself says."""
    identity = db.insert(
        connection,
        "notes",
        project_id=row["project_id"],
        merge_request_id=row["id"],
        author_id=author_id,
        body=body,
        system=int(system),
        internal=int(internal),
        created_at=db.now(),
        updated_at=db.now(),
    )
    found = db.one(connection, "SELECT * FROM notes WHERE id = ?", identity)
    if found is None:
        raise LookupError(f"note {identity}")
    return found
