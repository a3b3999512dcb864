"""Trees, commits, branches and tags of a repository."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..core import access, commits, db, protection, repositories
from ..core.errors import ApiError, forbidden, invalid, missing, not_found
from ..core.events import NO_COMMIT, Push, push_accepted
from .call import Call, created, no_content, page, route
from .files import commit, decode, may_push, reader, writer

NOT_YOURS_TO_DELETE = (
    "You are not allowed to delete protected branches from this project. Only a project maintainer or owner can delete "
    "a protected branch."
)


def tree(call: Call) -> Response:
    """What is in a folder."""
    project = reader(call)
    ref = call.text("ref") or project["default_branch"] or "main"
    path = call.text("path") or ""
    if repositories.resolve(call.config, project["id"], ref) is None:
        raise not_found("Tree")
    found = repositories.tree(call.config, project["id"], ref, path, bool(call.flag("recursive", False)))
    if path and not found:
        raise ApiError(404, {"message": "404 invalid revision or path Not Found"})
    shown = [
        {
            "id": entry.sha,
            "name": entry.path.rpartition("/")[2],
            "type": entry.kind,
            "path": entry.path,
            "mode": entry.mode,
        }
        for entry in sorted(found, key=lambda entry: (entry.kind != "tree", entry.path))
    ]
    return page(call, shown)


def log(call: Call) -> Response:
    """Commits, newest first."""
    project = reader(call)
    ref = call.text("ref_name") or project["default_branch"] or "main"
    if not repositories.empty(call.config, project["id"]) and not repositories.resolve(call.config, project["id"], ref):
        raise not_found("Commit")
    found = repositories.log(call.config, project["id"], ref, path=call.text("path"))
    return page(call, [present_commit(call, project, one) for one in found])


def get_commit(call: Call) -> dict[str, Any]:
    """One commit, by its sha or a branch or tag."""
    project = reader(call)
    found = repositories.commit(call.config, project["id"], call.path("sha"))
    if found is None:
        raise not_found("Commit")
    return present_commit(call, project, found) | {"status": None, "project_id": project["id"], "last_pipeline": None}


def create_commit(call: Call) -> Response:
    """Several changes in one commit."""
    project, level = writer(call)
    call.require("branch", "commit_message", "actions")
    branch = call.text("branch") or ""
    if not may_push(call, project, level, branch):
        raise forbidden("You are not allowed to push into this branch")
    actions = call.params["actions"]
    if not isinstance(actions, list) or not actions:
        raise ApiError(400, {"error": "actions is empty"})
    sha = commit(call, project, branch, [_change(action) for action in actions])
    made = repositories.commit(call.config, project["id"], sha)
    if made is None:
        raise LookupError(sha)
    return created(present_commit(call, project, made) | {"status": None, "project_id": project["id"]})


def branches(call: Call) -> Response:
    """Branches, by name."""
    project = reader(call)
    search = call.text("search") or ""
    found = repositories.branches(call.config, project["id"])
    return page(call, [present_branch(call, project, name, sha) for name, sha in found.items() if search in name])


def get_branch(call: Call) -> dict[str, Any]:
    """One branch."""
    project = reader(call)
    name, sha = _found(call, project, "branch")
    return present_branch(call, project, name, sha)


def create_branch(call: Call) -> Response:
    """Make a branch from a branch, tag or commit."""
    project, level = writer(call)
    call.require("branch", "ref")
    name, start = call.text("branch") or "", call.text("ref") or ""
    if name in repositories.branches(call.config, project["id"]):
        raise ApiError(400, {"message": "Branch already exists"})
    if not commits.check_name(f"{repositories.BRANCHES}{name}"):
        raise ApiError(400, {"message": "Branch name is invalid"})
    sha = repositories.resolve(call.config, project["id"], start)
    if sha is None:
        raise ApiError(400, {"message": f"Invalid reference name: {start}"})
    if not may_push(call, project, level, name):
        raise ApiError(400, {"message": "You are not allowed to create protected branches on this project."})
    _move(call, project, f"{repositories.BRANCHES}{name}", None, sha)
    return created(present_branch(call, project, name, sha))


def delete_branch(call: Call) -> Response:
    """Remove a branch, unless it is the default one; a protected one, when one may."""
    project, level = writer(call)
    name, sha = _found(call, project, "branch")
    if not may_push(call, project, level, name):
        raise ApiError(405, {"message": "You dont have push access to repo"})
    if name == (project["default_branch"] or "main"):
        raise ApiError(400, {"message": "The default branch of a project cannot be deleted."})
    if protection.branch_rules(call.connection, project["id"], name) and level < access.MAINTAINER:
        raise ApiError(400, {"message": NOT_YOURS_TO_DELETE})
    _move(call, project, f"{repositories.BRANCHES}{name}", sha, None)
    return no_content()


def tags(call: Call) -> Response:
    """Tags, by name."""
    project = reader(call)
    found = repositories.tags(call.config, project["id"])
    return page(call, [present_tag(call, project, name, sha) for name, sha in found.items()])


def get_tag(call: Call) -> dict[str, Any]:
    """One tag."""
    project = reader(call)
    name, sha = _found(call, project, "tag")
    return present_tag(call, project, name, sha)


def create_tag(call: Call) -> Response:
    """Make a tag."""
    project, level = writer(call)
    call.require("tag_name", "ref")
    name, start = call.text("tag_name") or "", call.text("ref") or ""
    admin = call.user().admin
    if not protection.may_make_tag(call.connection, project, level, admin, name):
        raise ApiError(400, {"message": "You are not allowed to create this tag as it is protected."})
    if name in repositories.tags(call.config, project["id"]):
        raise ApiError(400, {"message": f"Tag {name} already exists"})
    if not commits.check_name(f"{repositories.TAGS}{name}"):
        raise ApiError(400, {"message": "Tag name invalid"})
    sha = repositories.resolve(call.config, project["id"], start)
    if sha is None:
        raise ApiError(400, {"message": f"Target {start} is invalid"})
    _move(call, project, f"{repositories.TAGS}{name}", None, sha)
    return created(present_tag(call, project, name, sha))


def delete_tag(call: Call) -> Response:
    """Remove a tag."""
    project, level = writer(call)
    name, sha = _found(call, project, "tag")
    if protection.tag_rules(call.connection, project["id"], name) and level < access.MAINTAINER:
        raise forbidden()
    _move(call, project, f"{repositories.TAGS}{name}", sha, None)
    return no_content()


def _found(call: Call, project: db.Row, kind: str) -> tuple[str, str]:
    """Name and commit of the branch or the tag that the path means."""
    known = repositories.branches if kind == "branch" else repositories.tags
    name = call.path(kind)
    sha = known(call.config, project["id"]).get(name)
    if sha is None:
        raise not_found(kind.capitalize())
    return name, sha


def present_commit(call: Call, project: db.Row, one: repositories.Commit) -> dict[str, Any]:
    """A commit as the API shows it."""
    return {
        "id": one.sha,
        "short_id": one.sha[:8],
        "created_at": one.committed_at,
        "parent_ids": list(one.parents),
        "title": one.title,
        "message": one.message,
        "author_name": one.author_name,
        "author_email": one.author_email,
        "authored_date": one.authored_at,
        "committer_name": one.committer_name,
        "committer_email": one.committer_email,
        "committed_date": one.committed_at,
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{call.config.external_url}/{project['full_path']}/-/commit/{one.sha}",
    }


def present_branch(call: Call, project: db.Row, name: str, sha: str) -> dict[str, Any]:
    """A branch as the API shows it."""
    found = repositories.commit(call.config, project["id"], sha)
    rules = protection.branch_rules(call.connection, project["id"], name)
    admin = bool(call.who and call.who.admin)
    level = access.project_level(call.connection, call.who, project)
    return {
        "name": name,
        "commit": present_commit(call, project, found) if found else None,
        "merged": False,
        "protected": bool(rules),
        "developers_can_push": any(rule["push_level"] == access.DEVELOPER for rule in rules),
        "developers_can_merge": any(rule["merge_level"] == access.DEVELOPER for rule in rules),
        "can_push": protection.may_push(call.connection, project, level, admin, name),
        "default": name == (project["default_branch"] or "main"),
        "web_url": f"{call.config.external_url}/{project['full_path']}/-/tree/{name}",
    }


def present_tag(call: Call, project: db.Row, name: str, sha: str) -> dict[str, Any]:
    """A tag as the API shows it."""
    found = repositories.commit(call.config, project["id"], sha)
    return {
        "name": name,
        "message": "",
        "target": sha,
        "commit": present_commit(call, project, found) if found else None,
        "release": None,
        "protected": bool(protection.tag_rules(call.connection, project["id"], name)),
        "created_at": None,
    }


def _change(action: Any) -> commits.Change:
    if not isinstance(action, dict):
        raise invalid("actions")
    kind, path = action.get("action"), action.get("file_path")
    if kind not in commits.ACTIONS:
        raise invalid("actions[0][action]", "does not have a valid value")
    if not isinstance(path, str) or not path:
        raise missing("actions[0][file_path]")
    text = action.get("content")
    if kind in ("create", "update") and text is None:
        raise missing("actions[0][content]")
    return commits.Change(
        kind,
        path,
        None if text is None or kind == "delete" else decode(str(text), action.get("encoding")),
        previous_path=action.get("previous_path"),
        executable=action.get("execute_filemode"),
        last_commit=action.get("last_commit_id"),
    )


def _move(call: Call, project: db.Row, ref: str, before: str | None, after: str | None) -> None:
    commits.move(call.config, project["id"], ref, before, after)
    user = call.user().user
    push_accepted(
        call.connection,
        call.config,
        Push(project["id"], ref, before or NO_COMMIT, after or NO_COMMIT, user["id"]),
    )


routes = [
    *route("/projects/{id}/repository/tree", GET=tree),
    *route("/projects/{id}/repository/commits", GET=log, POST=create_commit),
    *route("/projects/{id}/repository/commits/{sha}", GET=get_commit),
    *route("/projects/{id}/repository/branches", GET=branches, POST=create_branch),
    *route("/projects/{id}/repository/branches/{branch}", GET=get_branch, DELETE=delete_branch),
    *route("/projects/{id}/repository/tags", GET=tags, POST=create_tag),
    *route("/projects/{id}/repository/tags/{tag}", GET=get_tag, DELETE=delete_tag),
]
