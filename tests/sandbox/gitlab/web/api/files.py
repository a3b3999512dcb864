"""Files of a repository; each change is a commit."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from starlette.responses import Response

from ..core import access, commits, db, projects, protection, repositories
from ..core.errors import ApiError, forbidden, invalid, missing, not_found
from ..core.events import NO_COMMIT, Push, push_accepted
from .call import Call, created, no_content, route
from .lookup import find_project


def reader(call: Call) -> db.Row:
    """The project that the path names, for somebody who may read its code."""
    if call.who is not None:
        call.user("read_repository", "write_repository")
    row, level = find_project(call, 0, "read_repository", "write_repository")
    least = access.REPORTER if row["visibility"] == "private" else 0
    exposure = projects.options(row)["repository_access_level"]
    if exposure == "disabled":
        raise forbidden()
    if level < (access.REPORTER if exposure == "private" else least):
        raise forbidden() if level else not_found("Project")
    return row


def writer(call: Call) -> tuple[db.Row, int]:
    """The project that the path names, for somebody who may push to it."""
    call.user()
    row, level = find_project(call, access.DEVELOPER)
    if row["archived"]:
        raise forbidden()
    return row, level


def may_push(call: Call, project: db.Row, level: int, branch: str) -> bool:
    """Whether the user may push to a branch."""
    admin = call.user().admin
    return protection.may_push(call.connection, project, level, admin, branch)


def get(call: Call) -> dict[str, Any]:
    """A file with its content."""
    shown, data = _read(call)
    return shown | {"content": base64.b64encode(data).decode()}


def head(call: Call) -> Response:
    """What is known of a file, in headers."""
    shown, _ = _read(call)
    words = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in shown.items()}
    return Response(headers={f"X-Gitlab-{name.replace('_', '-').title()}": text for name, text in words.items()})


def raw(call: Call) -> Response:
    """The content alone."""
    return Response(_read(call)[1], media_type="text/plain")


def create(call: Call) -> Response:
    """Add a file."""
    return created(_change(call, "create"))


def update(call: Call) -> dict[str, Any]:
    """Change a file."""
    return _change(call, "update")


def delete(call: Call) -> Response:
    """Remove a file."""
    _change(call, "delete")
    return no_content()


def _read(call: Call) -> tuple[dict[str, Any], bytes]:
    """The file that the path names, as the API shows it, and its content."""
    project, path = reader(call), call.path("file")
    ref, number = _ref(call, project), project["id"]
    sha = repositories.resolve(call.config, number, ref)
    if sha is None:
        raise not_found("Commit")
    entry = repositories.find_entry(call.config, number, sha, path)
    if entry is None or entry.kind != "blob":
        raise not_found("File")
    data = repositories.run(call.config, number, "cat-file", "blob", entry.sha)
    last = repositories.log(call.config, number, sha, path=path, limit=1)
    shown = {
        "file_name": path.rpartition("/")[2],
        "file_path": path,
        "size": len(data),
        "encoding": "base64",
        "content_sha256": hashlib.sha256(data).hexdigest(),
        "ref": ref,
        "blob_id": entry.sha,
        "commit_id": sha,
        "last_commit_id": last[0].sha if last else sha,
        "execute_filemode": entry.mode == "100755",
    }
    return shown, data


def decode(text: str, encoding: str | None) -> bytes:
    """The content of a file that came in a parameter."""
    if encoding != "base64":
        return text.encode()
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error:
        raise invalid("content") from None


def commit(call: Call, project: db.Row, branch: str, changes: list[commits.Change]) -> str:
    """Commit changes in the name of the user, and tell of it; answers the commit."""
    user = call.user().user
    committer = commits.Signature(user["name"], user["email"])
    author = commits.Signature(call.text("author_name") or committer.name, call.text("author_email") or committer.email)
    repositories.ensure(call.config, project["id"], project["default_branch"] or "main")
    before, after = commits.create(
        call.config,
        project["id"],
        branch=branch,
        changes=changes,
        message=call.text("commit_message") or "",
        author=author,
        committer=committer,
        start=call.text("start_sha") or call.text("start_branch"),
    )
    if before == NO_COMMIT:
        protection.settle_first_push(call.connection, call.config, project, branch)
    ref = f"{repositories.BRANCHES}{branch}"
    push_accepted(call.connection, call.config, Push(project["id"], ref, before, after, user["id"]))
    return after


def _change(call: Call, action: str) -> dict[str, Any]:
    project, level = writer(call)
    call.require(*(["branch", "commit_message"] if action == "delete" else ["branch", "commit_message", "content"]))
    branch, path = call.text("branch") or "", call.path("file")
    if not branch:
        raise ApiError(400, {"error": "branch is empty"})
    if not may_push(call, project, level, branch):
        raise ApiError(400, {"message": "You are not allowed to push into this branch"})
    encoding = call.choice("encoding", ("base64", "text"))
    text = call.text("content")
    if text is None and action != "delete":
        raise missing("content")
    data = None if action == "delete" else decode(text or "", encoding)
    change = commits.Change(
        action, path, data, executable=call.flag("execute_filemode"), last_commit=call.text("last_commit_id")
    )
    commit(call, project, branch, [change])
    return {"file_path": path, "branch": branch}


def _ref(call: Call, project: db.Row) -> str:
    ref = call.text("ref") or "HEAD"
    return (project["default_branch"] or "main") if ref == "HEAD" else ref


routes = [
    *route("/projects/{id}/repository/files/{file}", HEAD=head, GET=get, POST=create, PUT=update, DELETE=delete),
    *route("/projects/{id}/repository/files/{file}/raw", GET=raw),
]
