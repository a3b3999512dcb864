"""The runner protocol: register, verify a token, request jobs, send logs and results.

Follows the requests of the real gitlab-runner: JSON with the token in the body, except for logs, which are plain text
with `Content-Range`, and artifacts, which are forms. Older versions also send their token in a user's header.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..ci import environment_actions, job_queue, merging, payload, progress, runners, storage
from ..core import db, job_tokens, registration
from ..core.auth import client_address
from ..core.config import Config
from ..core.errors import ApiError, forbidden, missing
from .call import Call, created, no_content, open_route
from .runners import attributes

#: Seconds between two parts of a log: as GitLab asks for while somebody looks.
LOG_INTERVAL = "3"
NO_SYSTEM = "<legacy>"
NOT_PROCESSING = "Job is not processing on runner"
LARGEST_LOG = 100 * 1024 * 1024


def register(call: Call) -> Response:
    """The old way, with the registration token of a project, a group or the instance: the runner makes itself."""
    call.require("token")
    progress.lock(call.connection)
    owner = registration.owner(call.connection, call.config, call.text("token") or "")
    kind = "project_type" if owner["project_id"] else "group_type" if owner["namespace_id"] else "instance_type"
    row, token = runners.create(
        call.connection,
        call.config,
        runners.REGISTERED_PREFIX,
        runner_type=kind,
        group_id=owner["namespace_id"],
        **attributes(call, new=True, locked=False),
    )
    if owner["project_id"]:
        db.insert(call.connection, "ci_runner_projects", runner_id=row["id"], project_id=owner["project_id"])
    return created({"id": row["id"], "token": token, "token_expires_at": None})


def verify(call: Call) -> dict[str, Any]:
    """Whether a token is that of a runner."""
    runner, _ = _contact(call)
    return {"id": runner["id"], "token": call.text("token"), "token_expires_at": None}


def unregister(call: Call) -> Response:
    """Remove a runner by its token."""
    progress.lock(call.connection)
    runner = runners.by_token(call.connection, call.config, call.text("token"))
    call.connection.execute("DELETE FROM ci_runners WHERE id = ?", (runner["id"],))
    return no_content()


def unregister_manager(call: Call) -> Response:
    """Remove one machine of a runner; the runner stays."""
    call.require("token", "system_id")
    progress.lock(call.connection)
    runner = runners.by_token(call.connection, call.config, call.text("token"))
    call.connection.execute(
        "DELETE FROM ci_runner_managers WHERE runner_id = ? AND system_id = ?", (runner["id"], call.text("system_id"))
    )
    return no_content()


def reset(call: Call) -> Response:
    """A new token in the place of the one that the runner came with."""
    call.require("token")
    progress.lock(call.connection)
    runner = runners.by_token(call.connection, call.config, call.text("token"))
    return created({"token": runners.renew(call.connection, call.config, runner), "token_expires_at": None})


def discovery(_: Call) -> Response:
    """There is no job router."""
    return JSONResponse({"message": "501 Not Implemented"}, 501)


def request_job(call: Call) -> Response:
    """The next job that a runner may have, or 204. One that says that it knows the newest has nothing to look for."""
    call.require("token")
    runner, manager = _contact(call)
    progress.sweep(call.connection)
    latest = job_queue.value(job_queue.state(call.connection), call.text("token") or "")
    known = call.text("last_update") == latest
    job = None if known else payload.take(call.connection, call.config, runner, manager)
    if job is None:
        return Response(status_code=204, headers={"X-GitLab-Last-Update": latest})
    progress.note(call.connection, job["job_info"]["pipeline_id"])
    return created(job)


def update_job(call: Call) -> Response:
    """How a job goes on, or that it has ended."""
    progress.lock(call.connection)
    job = _job(call)
    state = call.text("state")
    if state in ("success", "failed"):
        code = call.integer("exit_code")
        reason = call.text("failure_reason") or ("script_failure" if state == "failed" else None)
        if job["status"] == "canceling":
            state, reason = "canceled", None
        if reason not in (None, *payload.FAILURE_REASONS):
            reason = "unknown_failure"
        call.connection.execute("UPDATE ci_jobs SET seen_at = ? WHERE id = ?", (db.now(), job["id"]))
        progress.finish(call.connection, job, state, reason, code)
        storage.archive_log(call.connection, call.config, job["id"])
        environment_actions.follow_job(call.connection, call.config, job["id"])
        merging.auto_cancel_on_failure(call.connection, job["pipeline_id"])
        merging.follow_pipeline(call.connection, call.config, job["pipeline_id"])
        return _told(state, 200)
    call.connection.execute("UPDATE ci_jobs SET seen_at = ? WHERE id = ?", (db.now(), job["id"]))
    return _told(job["status"], 200)


async def patch_log(request: Request) -> Response:
    """The next part of a log."""
    body = await request.body()
    return await run_in_threadpool(_append, request, body)


def _append(request: Request, body: bytes) -> Response:
    config: Config = request.app.state.config
    with db.connect(config.database) as connection:
        progress.lock(connection)
        identity = int(request.path_params["job"])
        job = owner(connection, config, identity, request.headers.get("job-token"))
        match = re.match(r"(\d+)-(\d+)", request.headers.get("content-range", ""))
        if match is None:
            raise ApiError(400, {"error": "400 Missing header Content-Range"})
        size = storage.live_size(config, identity)
        if int(match[1]) != size:
            return Response(status_code=416, headers={"Range": f"0-{size}", "Job-Status": job["status"]})
        if size + len(body) > LARGEST_LOG:
            progress.finish(connection, job, "failed", "trace_size_exceeded")
            storage.archive_log(connection, config, identity)
            return _told("failed", 403)
        connection.execute("UPDATE ci_jobs SET seen_at = ? WHERE id = ?", (db.now(), identity))
        size = storage.append_log(config, identity, body)
    headers = {"Job-Status": job["status"], "Range": f"0-{size}", "X-GitLab-Trace-Update-Interval": LOG_INTERVAL}
    return Response(status_code=202, headers=headers)


def owner(connection: db.Connection, config: Config, identity: int, token: str | None) -> db.Row:
    """The running job that a token is of; refuses all others, and says how the job is when it has ended."""
    job = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", identity)
    found = job_tokens.find_job(connection, config, token or "")
    if job is None or found is None or found["id"] != identity:
        raise forbidden()
    if job["status"] not in job_tokens.ALIVE:
        raise ApiError(403, {"message": f"403 Forbidden - {NOT_PROCESSING}"}, {"Job-Status": job["status"]})
    return job


def _job(call: Call) -> db.Row:
    token = call.text("token") or call.request.headers.get("job-token")
    if token is None:
        raise missing("token")
    return owner(call.connection, call.config, int(call.path("job")), token)


def _contact(call: Call) -> tuple[db.Row, int]:
    progress.lock(call.connection)
    runner = runners.by_token(call.connection, call.config, call.text("token"))
    info = call.params.get("info")
    manager = runners.contact(
        call.connection,
        runner,
        call.text("system_id") or NO_SYSTEM,
        info if isinstance(info, dict) else {},
        client_address(call.request),
    )
    return runner, manager


def _told(state: str, status: int) -> Response:
    headers = {"Job-Status": state, "X-GitLab-Trace-Update-Interval": LOG_INTERVAL}
    return Response(str(status), status, headers=headers, media_type="text/plain")


routes = [
    *open_route("/runners", POST=register, DELETE=unregister),
    *open_route("/runners/verify", POST=verify),
    *open_route("/runners/managers", DELETE=unregister_manager),
    *open_route("/runners/reset_authentication_token", POST=reset),
    *open_route("/runners/router/discovery", GET=discovery),
    *open_route("/jobs/request", POST=request_job),
    *open_route("/jobs/{job:int}", PUT=update_job),
    Route("/api/v4/jobs/{job:int}/trace", patch_log, methods=["PATCH"]),
]
