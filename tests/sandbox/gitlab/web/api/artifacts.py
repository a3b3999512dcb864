"""Artifacts: upload and download by runners, download by users, and by jobs with their own token.

Community Edition lets a job's token download; Enterprise Edition asks for a Premium license.
"""

from __future__ import annotations

import io
import json
import zipfile

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..ci import keywords, progress, storage
from ..ci.documents import ConfigurationError
from ..core import access, db, job_tokens, settings
from ..core.auth import Principal
from ..core.config import Config
from ..core.errors import ApiError, forbidden, not_found
from .call import Call, no_content, route
from .forms import file_of
from .lookup import find_job, find_project, find_project_by_job
from .protocol import owner

MEBIBYTE = 1024 * 1024
#: Least access for what a job left, by its `artifacts:access`; nobody has more than an owner.
LEAST = {
    "all": 0,
    "developer": access.DEVELOPER,
    "maintainer": access.MAINTAINER,
    "none": access.OWNER + 1,
}


async def upload(request: Request) -> Response:
    """Keep what a runner sends: one file of a form."""
    body = await request.body()
    return await run_in_threadpool(_keep, request, body)


async def download_for_job(request: Request) -> Response:
    """The archive of a job, for a later job of the same project."""
    return await run_in_threadpool(_send, request)


def _keep(request: Request, body: bytes) -> Response:
    config: Config = request.app.state.config
    filename, content = file_of(request.headers.get("content-type", ""), body, "artifacts.zip")
    query = request.query_params
    kind, form = query.get("artifact_type") or "archive", query.get("artifact_format") or "zip"
    with db.connect(config.database) as connection:
        progress.lock(connection)
        token = request.headers.get("job-token") or query.get("token")
        job = owner(connection, config, int(request.path_params["job"]), token)
        largest = int(settings.read(connection)["max_artifacts_size"]) * MEBIBYTE
        if len(content) > largest:
            raise ApiError(413, {"message": "413 Request Entity Too Large"})
        seconds = _seconds(query.get("expire_in"))
        if kind == "dotenv":
            try:
                found = storage.dotenv(content)
            except ValueError as error:
                raise ApiError(400, {"message": str(error), "http_status": "bad_request"}) from None
            connection.execute("UPDATE ci_jobs SET dotenv = ? WHERE id = ?", (json.dumps(found), job["id"]))
        storage.keep(
            connection,
            config,
            job["id"],
            kind=kind,
            form=form,
            filename=filename,
            content=content,
            seconds=seconds,
        )
    return JSONResponse({"message": "201 Created"}, 201)


def _send(request: Request) -> Response:
    config: Config = request.app.state.config
    with db.connect(config.database) as connection:
        token = request.headers.get("job-token") or request.query_params.get("token") or ""
        asking = job_tokens.find(connection, config, token)
        job = db.one(connection, "SELECT * FROM ci_jobs WHERE id = ?", request.path_params["job"])
        if asking is None or job is None or job["project_id"] != asking.project["id"]:
            raise forbidden()
        archive = storage.artifact(connection, job["id"], "archive")
        if archive is None:
            raise not_found()
        return storage.response(config, archive)


def download(call: Call) -> Response:
    """The archive of a job, for who may see the project."""
    archive = _archive(call, _job(call))
    return storage.response(call.config, archive)


def download_latest(call: Call) -> Response:
    """The archive of the newest good job of a name on a branch or tag."""
    archive = _archive(call, _latest(call))
    return storage.response(call.config, archive)


def one_file(call: Call) -> Response:
    """One file of the archive of a job."""
    return _member(call, _archive(call, _job(call)))


def one_file_latest(call: Call) -> Response:
    """One file of the archive of the newest good job of a name."""
    return _member(call, _archive(call, _latest(call)))


def delete(call: Call) -> Response:
    """Remove what a job left."""
    call.user()
    project, _ = find_project(call, access.MAINTAINER)
    job = find_job(call, project)
    storage.remove(call.connection, call.config, job["id"], also_log=False)
    return no_content()


def _job(call: Call) -> db.Row:
    project, who = find_project_by_job(call, access.REPORTER)
    job = find_job(call, project)
    _require_access(call, project, who, job)
    return job


def _require_access(call: Call, project: db.Row, who: Principal | None, job: db.Row) -> None:
    """Refuse what `artifacts:access` refuses. It is of no concern to later jobs of the pipeline: they get all."""
    said = json.loads(job["options"]).get("artifacts") or {}
    wanted = said.get("access") or ("developer" if said.get("public") is False else "all")
    if access.project_level(call.connection, who, project) < LEAST[wanted]:
        raise forbidden()


def _latest(call: Call) -> db.Row:
    project, who = find_project_by_job(call, access.REPORTER)
    call.require("job")
    job = db.one(
        call.connection,
        "SELECT ci_jobs.* FROM ci_jobs JOIN ci_pipelines ON ci_pipelines.id = ci_jobs.pipeline_id "
        "WHERE ci_jobs.project_id = ? AND ci_pipelines.ref = ? AND ci_jobs.name = ? AND ci_jobs.status = 'success' "
        "ORDER BY ci_jobs.id DESC",
        project["id"],
        call.path("ref"),
        call.text("job"),
    )
    if job is None:
        raise not_found()
    _require_access(call, project, who, job)
    return job


def _archive(call: Call, job: db.Row) -> db.Row:
    archive = storage.artifact(call.connection, job["id"], "archive")
    if archive is None:
        raise not_found()
    return archive


def _member(call: Call, archive: db.Row) -> Response:
    try:
        with zipfile.ZipFile(io.BytesIO(storage.content(call.config, archive))) as bundle:
            return Response(bundle.read(call.path("file")), media_type="application/octet-stream")
    except (KeyError, zipfile.BadZipFile):
        raise not_found() from None


def _seconds(text: str | None) -> int | None:
    if not text or text == "never":
        return None
    try:
        return keywords.duration("expire_in", text)
    except ConfigurationError:
        return None


routes = [
    Route("/api/v4/jobs/{job:int}/artifacts", upload, methods=["POST"]),
    Route("/api/v4/jobs/{job:int}/artifacts", download_for_job, methods=["GET"]),
    *route("/projects/{id}/jobs/artifacts/{ref}/download", GET=download_latest),
    *route("/projects/{id}/jobs/artifacts/{ref}/raw/{file:path}", GET=one_file_latest),
    *route("/projects/{id}/jobs/{job:int}/artifacts", GET=download, DELETE=delete),
    *route("/projects/{id}/jobs/{job:int}/artifacts/{file:path}", GET=one_file),
]
