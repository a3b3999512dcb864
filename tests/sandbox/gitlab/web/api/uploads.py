"""Files that are attached to issues and comments of a project."""

from __future__ import annotations

import secrets
from pathlib import PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..core import access, auth, db, settings, users
from ..core.config import Config
from ..core.errors import not_found
from ..core.repositories import disk_path
from .call import Call, page, route
from .forms import file_of
from .lookup import find_project

MEBIBYTE = 1024 * 1024
#: `lib/gitlab/file_type_detection.rb`: what is shown in a text and not only linked.
IMAGES = (".bmp", ".gif", ".ico", ".jpeg", ".jpg", ".png", ".svg", ".tiff", ".webp")


async def upload(request: Request) -> Response:
    """Keep one file of a form."""
    body = await request.body()
    return await run_in_threadpool(_keep, request, body)


def _keep(request: Request, body: bytes) -> Response:
    config: Config = request.app.state.config
    with db.connect(config.database) as connection:
        call = Call(request, config, connection, auth.identify(connection, config, request), {})
        who = call.user()
        project, _ = find_project(call, 0)
        filename, content = file_of(request.headers.get("content-type", ""), body, "file")
        if len(content) > int(settings.read(connection)["max_attachment_size"]) * MEBIBYTE:
            # Rails tells Workhorse the limit, whose words these are (`fail.Request`).
            return PlainTextResponse("Request Entity Too Large\n", 413)
        secret = secrets.token_hex(16)
        number = db.insert(
            connection,
            "uploads",
            project_id=project["id"],
            user_id=who.user["id"],
            secret=secret,
            filename=filename,
            content=b"",
            created_at=db.now(),
        )
        path = f"{disk_path(project['id'])}/{secret}/{filename}"
        store = config.uploads.write(path, content)
        connection.execute(
            "UPDATE uploads SET store = ?, path = ?, size = ? WHERE id = ?", (store, path, len(content), number)
        )
    return JSONResponse(_present(number, project["id"], secret, PurePosixPath(filename)), 201)


def _present(number: int, project: int, secret: str, file: PurePosixPath) -> dict[str, Any]:
    url, is_image = f"/uploads/{secret}/{file.name}", file.suffix.lower() in IMAGES
    alt = file.stem if is_image else file.name
    return {
        "id": number,
        "alt": alt,
        "url": url,
        "full_path": f"/-/project/{project}{url}",
        "markdown": f"{'!' if is_image else ''}[{alt}]({url})",
    }


def listing(call: Call) -> Response:
    """The files of a project, newest first."""
    project, _ = find_project(call, access.MAINTAINER)
    query = "SELECT id, user_id, filename, size, created_at FROM uploads WHERE project_id = ?"
    rows = call.connection.execute(f"{query} ORDER BY id DESC", (project["id"],)).fetchall()
    return page(
        call,
        [
            {
                **{name: row[name] for name in ("id", "size", "filename", "created_at")},
                "uploaded_by": users.present(users.get(call.connection, row["user_id"]), call.config.external_url),
            }
            for row in rows
        ],
    )


def download(call: Call) -> Response:
    """One file, by its ID; for who may manage the project."""
    project, _ = find_project(call, access.MAINTAINER)
    return _send(call, "id = ?", project, call.path("upload"))


def download_by_secret(call: Call) -> Response:
    """One file, by the parts of its URL; for who may see the project."""
    project, _ = find_project(call, access.GUEST)
    return _send(call, "secret = ? AND filename = ?", project, call.path("secret"), call.path("file"))


def _send(call: Call, condition: str, project: db.Row, *values: str) -> Response:
    query = f"SELECT * FROM uploads WHERE {condition} AND project_id = ?"  # noqa: S608 - the conditions above
    row = db.one(call.connection, query, *values, project["id"])
    if row is None:
        raise not_found()
    return call.config.uploads.response(row["store"], row["path"], row["filename"])


routes = [
    Route("/api/v4/projects/{id}/uploads", upload, methods=["POST"]),
    *route("/projects/{id}/uploads", GET=listing),
    *route("/projects/{id}/uploads/{upload:int}", GET=download),
    *route("/projects/{id}/uploads/{secret}/{file}", GET=download_by_secret),
]
