"""The API that GitLab itself uses (`/gitlab/v1/`); it exists only with the metadata database."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import metadata
from .errors import error
from .metadata import Connection, Row
from .tokens import Access, Tokens

_SEGMENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-*)[a-z0-9]+)*\Z")
_LEASE = timedelta(minutes=1)


class GitLabApi:
    """Handlers of `/gitlab/v1/`."""

    def __init__(self, database: metadata.Database, tokens: Tokens) -> None:
        self._database, self._tokens = database, tokens

    def routes(self) -> list[Route]:
        """What these handlers answer. The slash at the end belongs to each path."""
        one = "/gitlab/v1/repositories/{name:path}"
        return [
            Route("/gitlab/v1/", self.base, methods=["GET"]),
            Route(f"{one}/tags/list/", self.tags, methods=["GET"]),
            Route(f"{one}/tags/detail/{{tag}}/", self.tag, methods=["GET"]),
            Route("/gitlab/v1/repository-paths/{name:path}/repositories/list/", self.below, methods=["GET"]),
            Route(f"{one}/", self.details, methods=["GET"]),
            Route(f"{one}/", self.rename, methods=["PATCH"]),
        ]

    async def base(self, request: Request) -> Response:
        """Whether there is such an API."""
        return self._tokens.refusal(request) or Response()

    async def details(self, request: Request) -> Response:
        """One repository, with its size if that is asked for."""
        name, size = request.path_params["name"], request.query_params.get("size")
        access = [name] + ([f"{name}/*"] if size == "self_with_descendants" else [])
        refused = next(filter(None, (self._tokens.refusal(request, each, "pull") for each in access)), None)
        if refused:
            return refused
        if size not in (None, "self", "self_with_descendants"):
            return error("INVALID_QUERY_PARAMETER_VALUE", {"parameter": "size"})
        return await run_in_threadpool(self._details, name, size)

    def _details(self, name: str, size: str | None) -> Response:
        with metadata.connect(self._database) as connection:
            row = metadata.find_repository(connection, name)
            inside = metadata.one(connection, "SELECT 1 FROM repositories WHERE path LIKE ?", f"{name}/%")
            if row is None and not (size == "self_with_descendants" and inside):
                return error("NAME_UNKNOWN", {"name": name})
            shown = {"name": name.rpartition("/")[2], "path": name}
            for field in ("created_at", "updated_at", "last_published_at"):
                if row is not None and row[field]:
                    shown[field] = row[field]
            if size:
                found = metadata.size(connection, name, descendants=size != "self")
                return JSONResponse({**shown, "size_bytes": found, "size_precision": "default"})
        return JSONResponse(shown)

    async def tags(self, request: Request) -> Response:
        """Tags with digest, size and the time when they were pushed."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, "pull")
        return refused if refused else await run_in_threadpool(self._tags, request, name)

    def _tags(self, request: Request, name: str) -> Response:
        query = request.query_params
        limit = query.get("n", "100")
        if not limit.isdigit() or not 1 <= int(limit) <= 1000:
            return error("INVALID_QUERY_PARAMETER_VALUE", {"parameter": "n"})
        with metadata.connect(self._database) as connection:
            repository = metadata.find_repository(connection, name)
            if repository is None:
                return error("NAME_UNKNOWN", {"name": name})
            rows = metadata.tag_rows(connection, repository["id"])
            rows = [row for row in rows if query.get("name", "") in row["name"] and row["name"] > query.get("last", "")]
            shown = [_tag(connection, repository["id"], row) for row in rows[: int(limit)]]
        headers = {}
        if len(rows) > int(limit):
            following = urlencode({**query, "n": limit, "last": rows[int(limit) - 1]["name"]})
            headers["link"] = f'<{request.url.replace(query=following)}>; rel="next"'
        return JSONResponse(shown, headers=headers)

    async def tag(self, request: Request) -> Response:
        """One tag, with the manifest that it points to."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, "pull")
        return refused if refused else await run_in_threadpool(self._one_tag, name, request.path_params["tag"])

    def _one_tag(self, name: str, tag: str) -> Response:
        with metadata.connect(self._database) as connection:
            repository = metadata.find_repository(connection, name)
            if repository is None:
                return error("NAME_UNKNOWN", {"name": name})
            rows = metadata.tag_rows(connection, repository["id"])
            row = next((row for row in rows if row["name"] == tag), None)
            if row is None:
                return error("MANIFEST_UNKNOWN", {"tagName": tag})
            image = {
                "size_bytes": metadata.image_size(connection, repository["id"], row),
                "manifest": {"digest": row["digest"], "media_type": row["media_type"]},
                "config": metadata.configuration_of(row),
            }
        times = _times(row)
        return JSONResponse(
            {"repository": name, "name": tag, "image": {k: v for k, v in image.items() if v is not None}, **times}
        )

    async def below(self, request: Request) -> Response:
        """Repositories under a path that have tags."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, "pull")
        return refused if refused else await run_in_threadpool(self._below, name)

    def _below(self, name: str) -> Response:
        query = (
            "SELECT * FROM repositories WHERE (path = ? OR path LIKE ?) "
            "AND EXISTS (SELECT 1 FROM tags WHERE repository_id = repositories.id) ORDER BY path"
        )
        with metadata.connect(self._database) as connection:
            rows = connection.execute(query, (name, f"{name}/%")).fetchall()
        return JSONResponse([{"name": row["path"].rpartition("/")[2], "path": row["path"]} for row in rows])

    async def rename(self, request: Request) -> Response:
        """Give a repository, and all below it, another name or namespace; `dry_run` only asks whether it would do."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, "pull", "push") or self._tokens.refusal(
            request, f"{name}/*", "pull"
        )
        if refused:
            return refused
        try:
            body = json.loads(await request.body())
        except ValueError:
            return error("INVALID_JSON_BODY")
        access = self._tokens.access(request)
        dry = request.query_params.get("dry_run") == "true"
        return await run_in_threadpool(self._rename, access or Access(()), name, body, dry)

    def _rename(self, access: Access, name: str, body: dict[str, Any], dry: bool) -> Response:
        parent, _, leaf = name.rpartition("/")
        target = f"{body.get('namespace') or parent}/{body.get('name') or leaf}"
        one_of_both = bool(body.get("name")) != bool(body.get("namespace"))
        same_root = target.partition("/")[0] == name.partition("/")[0]
        if not (one_of_both and same_root and all(map(_SEGMENT.match, target.split("/")))):
            return error("NAME_INVALID", {"name": target})
        if not any((entry.get("meta") or {}).get("project_path") == name for entry in access.entries):
            return error("MISMATCH_PROJECT_PATH_CLAIM")
        with metadata.connect(self._database) as connection:
            if metadata.one(connection, *_family("SELECT 1 FROM repositories WHERE", target)):
                return error("RENAME_CONFLICT")
            if not metadata.one(connection, *_family("SELECT 1 FROM repositories WHERE", name)):
                return error("NAME_UNKNOWN", {"name": name})
            if dry:
                until = (datetime.now(UTC) + _LEASE).isoformat(timespec="milliseconds").replace("+00:00", "Z")
                return JSONResponse({"ttl": until}, 202)
            move = "UPDATE repositories SET path = ? || substr(path, ?), updated_at = ? WHERE path = ? OR path LIKE ?"
            connection.execute(move, (target, len(name) + 1, metadata.now(), name, f"{name}/%"))
        return Response(status_code=204)


def _family(query: str, path: str) -> tuple[str, str, str]:
    return f"{query} path = ? OR path LIKE ?", path, f"{path}/%"


def _times(row: Row) -> dict[str, str]:
    times = {"created_at": row["created_at"], "published_at": row["updated_at"] or row["created_at"]}
    return times | ({"updated_at": row["updated_at"]} if row["updated_at"] else {})


def _tag(connection: Connection, repository: int, row: Row) -> dict[str, Any]:
    shown = {
        "name": row["name"],
        "digest": row["digest"],
        "media_type": row["media_type"],
        "size_bytes": metadata.image_size(connection, repository, row),
        **_times(row),
    }
    return shown | ({"config_digest": row["config_digest"]} if row["config_digest"] else {})
