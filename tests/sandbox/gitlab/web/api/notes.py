"""Notes (comments) of merge requests. A running job may read them and nothing else: to write it needs a user's token.

Lines that are quick actions, such as `/close`, are refused: GitLab would carry them out, this stand-in cannot.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from ..ci import merge_views
from ..core import access, db, merge_requests, projects
from ..core.auth import Principal
from ..core.errors import ApiError, forbidden, not_found
from .call import Call, created, no_content, page, route
from .lookup import find_project, find_project_by_job, record_not_found

#: Characters of a note (`Gitlab::Database::MAX_TEXT_SIZE_LIMIT`).
LONGEST = 1_000_000
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*?$", re.DOTALL | re.MULTILINE)
QUICK_ACTION = re.compile(
    r"^/(approve|assign|assign_reviewer|close|copy_metadata|done|draft|due|label|lock|merge|milestone|ready|rebase|"
    r"reassign|relabel|reopen|request_review|shrug|spend|subscribe|tableflip|target_branch|title|todo|unapprove|"
    r"unassign|unlabel|unlock|unsubscribe)\b",
    re.MULTILINE,
)


def listing(call: Call) -> Response:
    """Notes, newest first; GitLab's own among them."""
    project, who = find_project_by_job(call, 0)
    request = _merge_request(call, project, who)
    column = call.choice("order_by", ("created_at", "updated_at"), "created_at")
    order = call.choice("sort", ("asc", "desc"), "desc")
    kept = {"all_notes": (0, 1), "only_comments": (0,), "only_activity": (1,)}
    kinds = kept[call.choice("activity_filter", tuple(kept), "all_notes") or "all_notes"]
    rows = call.connection.execute(
        f"SELECT * FROM notes WHERE merge_request_id = ? ORDER BY {column} {order}, id {order}",  # noqa: S608
        (request["id"],),
    ).fetchall()
    seen = [row for row in rows if row["system"] in kinds and _visible(call, project, who, row)]
    return page(call, [_present(call, row, request) for row in seen])


def get(call: Call) -> dict[str, Any]:
    """One note."""
    project, who = find_project_by_job(call, 0)
    request = _merge_request(call, project, who)
    row = _find(call, request)
    if not _visible(call, project, who, row):
        raise not_found("Note")
    return _present(call, row, request)


def create(call: Call) -> Response:
    """Say something. Whoever may see the merge request may."""
    who = call.user()
    project, level = find_project(call, 0)
    request = _merge_request(call, project, who)
    if project["archived"] or (project["visibility"] == "private" and level < access.REPORTER):
        raise forbidden()
    call.require("body")
    body, internal = _body(call), bool(call.flag("internal", call.flag("confidential", False)))
    row = merge_requests.add_note(call.connection, request, who.user["id"], body, internal=internal)
    return created(_present(call, row, request))


def update(call: Call) -> dict[str, Any]:
    """Say something else; for who said it, and for maintainers."""
    request, row = _changeable(call)
    if "body" in call.params:
        if not call.text("body"):
            raise ApiError(400, {"error": "body is empty"})
        call.connection.execute(
            "UPDATE notes SET body = ?, updated_at = ? WHERE id = ?", (_body(call), db.now(), row["id"])
        )
    return _present(call, _find(call, request), request)


def delete(call: Call) -> Response:
    """Take back what was said; for who said it, and for maintainers."""
    _, row = _changeable(call)
    call.connection.execute("DELETE FROM notes WHERE id = ?", (row["id"],))
    return no_content()


def _merge_request(call: Call, project: db.Row, who: Principal | None) -> db.Row:
    if who is None:
        call.user()
    row = merge_requests.find(call.connection, project["id"], call.path("iid"))
    least = access.REPORTER if project["visibility"] == "private" else 0
    off = projects.options(project)["merge_requests_access_level"] == "disabled"
    if row is None or off or access.project_level(call.connection, who, project) < least:
        raise not_found("MergeRequest")
    return row


def _changeable(call: Call) -> tuple[db.Row, db.Row]:
    who = call.user()
    project, level = find_project(call, 0)
    request = _merge_request(call, project, who)
    row = _find(call, request)
    if row["system"] or (row["author_id"] != who.user["id"] and level < access.MAINTAINER):
        raise forbidden()
    return request, row


def _find(call: Call, request: db.Row) -> db.Row:
    query = "SELECT * FROM notes WHERE id = ? AND merge_request_id = ?"
    row = db.one(call.connection, query, call.path("note"), request["id"])
    if row is None:
        raise record_not_found()
    return row


def _visible(call: Call, project: db.Row, who: Principal | None, row: db.Row) -> bool:
    return not row["internal"] or access.project_level(call.connection, who, project) >= access.REPORTER


def _body(call: Call) -> str:
    body = call.text("body") or ""
    if not body.strip():
        raise _refused("can't be blank")
    if len(body) > LONGEST:
        raise _refused(f"is too long (maximum is {LONGEST} characters)")
    action = QUICK_ACTION.search(FENCE.sub("", body))
    if action is not None:
        raise ApiError(400, {"message": f"400 Bad request - this stand-in supports no quick actions: {action[0]}"})
    return body


def _refused(reason: str) -> ApiError:
    return ApiError(400, {"message": f'400 Bad request - Note {{:note=>["{reason}"]}}'})


def _present(call: Call, row: db.Row, request: db.Row) -> dict[str, Any]:
    return merge_views.note(call.connection, call.config, row, request["iid"])


routes = [
    *route("/projects/{id}/merge_requests/{iid:int}/notes", GET=listing, POST=create),
    *route("/projects/{id}/merge_requests/{iid:int}/notes/{note:int}", GET=get, PUT=update, DELETE=delete),
]
