"""The OCI API of the registry with its metadata database: manifests and tags are in the database, content in storage.

The distribution takes and gives content, all of it in one repository of its own (`SHELF`): which repository has which
content is in the database alone, as in GitLab's registry, which writes no links to the storage in this mode.
"""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import metadata
from .documents import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, DocumentError, parse
from .errors import error
from .metadata import Row
from .proxy import Distribution
from .storage import REPOSITORIES, Storage
from .tokens import Access, Tokens, protected

SHELF = "content"
CREATED, ACCEPTED = 201, 202
_PULL, _PUSH, _DELETE = ("pull",), ("pull", "push"), ("delete",)
_WORDS = {
    OCI_MANIFEST: "OCI manifest found, but accept header does not support OCI manifests",
    OCI_INDEX: "OCI index found, but accept header does not support OCI indexes",
}


def put_on_shelf(storage: Storage, digest: str) -> None:
    """Let the distribution find content that did not come through it, as after an import."""
    name = digest.removeprefix("sha256:")
    storage.write(f"{REPOSITORIES}/{SHELF}/_layers/sha256/{name}/link", digest.encode())


def take_off_shelf(storage: Storage, digest: str) -> None:
    """Forget content that was deleted."""
    storage.remove(f"{REPOSITORIES}/{SHELF}/_layers/sha256/{digest.removeprefix('sha256:')}")


class Images:
    """Handlers of `/v2/`."""

    def __init__(
        self, database: metadata.Database, distribution: Distribution, tokens: Tokens, *, read_only: bool
    ) -> None:
        self._database, self._distribution, self._tokens = database, distribution, tokens
        self._read_only = read_only

    def routes(self) -> list[Route]:
        """What these handlers answer."""
        manifests, blobs = "/v2/{name:path}/manifests/{reference}", "/v2/{name:path}/blobs"
        return [
            Route("/v2/", self.base, methods=["GET"]),
            Route("/v2/{name:path}/tags/list", self.tags, methods=["GET"]),
            Route(manifests, self.get_manifest, methods=["GET"]),
            Route(manifests, self.put_manifest, methods=["PUT"]),
            Route(manifests, self.delete_manifest, methods=["DELETE"]),
            Route(f"{blobs}/uploads/", self.begin_upload, methods=["POST"]),
            Route(f"{blobs}/uploads/{{upload}}", self.upload, methods=["GET", "PATCH", "PUT", "DELETE"]),
            Route(f"{blobs}/{{digest}}", self.get_blob, methods=["GET"]),
        ]

    async def base(self, request: Request) -> Response:
        """Whether this is a registry, and one that works."""
        return self._tokens.refusal(request) or await self._distribution.forward(request)

    async def tags(self, request: Request) -> Response:
        """Names of the tags of a repository, in pages."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, *_PULL)
        return refused if refused else await run_in_threadpool(self._tags, request, name)

    def _tags(self, request: Request, name: str) -> Response:
        limit, last = request.query_params.get("n", ""), request.query_params.get("last", "")
        with metadata.connect(self._database) as connection:
            row = metadata.find_repository(connection, name)
            if row is None:
                return error("NAME_UNKNOWN", {"name": name})
            names = [tag["name"] for tag in metadata.tag_rows(connection, row["id"]) if tag["name"] > last]
        count = int(limit) if limit.isdigit() else 100
        headers = {}
        if len(names) > count:
            names = names[:count]
            query = urlencode({"last": names[-1], "n": count})
            headers["link"] = f'</v2/{name}/tags/list?{query}>; rel="next"'
        return JSONResponse({"name": name, "tags": names}, headers=headers)

    async def get_manifest(self, request: Request) -> Response:
        """A manifest, if the client takes its type."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, *_PULL)
        return refused if refused else await run_in_threadpool(self._get_manifest, request, name)

    def _get_manifest(self, request: Request, name: str) -> Response:
        reference = request.path_params["reference"]
        with metadata.connect(self._database) as connection:
            repository = metadata.find_repository(connection, name)
            row = repository and metadata.find_manifest(connection, repository["id"], reference)
            if repository and row and row["media_type"] == DOCKER_LIST and not reference.startswith("sha256:"):
                row = _one_platform(connection, repository["id"], row, request)
        if row is None:
            return error("MANIFEST_UNKNOWN", {"Reference": reference})
        if row["media_type"] in _WORDS and not _accepts(request, row["media_type"]):
            return error("MANIFEST_UNKNOWN", message=_WORDS[row["media_type"]])
        headers = {"docker-content-digest": row["digest"], "etag": f'"{row["digest"]}"'}
        return Response(row["payload"], headers=headers, media_type=row["media_type"])

    async def put_manifest(self, request: Request) -> Response:
        """Take a manifest when everything that it refers to is there, and point a tag to it."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, *_PUSH)
        if refused or self._read_only:
            return refused or error("UNSUPPORTED")
        denied = protected(self._tokens.access(request), name, "push", request.path_params["reference"])
        if denied:
            await request.body()
            return denied
        return await run_in_threadpool(self._put_manifest, request, name, await request.body())

    def _put_manifest(self, request: Request, name: str, body: bytes) -> Response:
        reference = request.path_params["reference"]
        try:
            document = parse(body, request.headers.get("content-type"))
        except DocumentError as refusal:
            return error("MANIFEST_INVALID", str(refusal))
        by_digest = reference.startswith("sha256:")
        if by_digest and reference != document.digest:
            return error("DIGEST_INVALID")
        with metadata.connect(self._database) as connection:
            repository = metadata.ensure_repository(connection, name)
            lacks = metadata.missing(connection, repository, document)
            if lacks:
                return error("MANIFEST_BLOB_UNKNOWN", *lacks)
            identity = metadata.put_manifest(connection, repository, document)
            if not by_digest:
                metadata.put_tag(connection, repository, reference, identity)
        headers = {"location": f"/v2/{name}/manifests/{document.digest}", "docker-content-digest": document.digest}
        return Response(status_code=CREATED, headers=headers)

    async def delete_manifest(self, request: Request) -> Response:
        """Delete a tag, or a manifest with all of its tags."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, *_DELETE)
        if refused or self._read_only:
            return refused or error("UNSUPPORTED")
        access = self._tokens.access(request)
        return await run_in_threadpool(self._delete_manifest, access, name, request.path_params["reference"])

    def _delete_manifest(self, access: Access | None, name: str, reference: str) -> Response:
        with metadata.connect(self._database) as connection:
            repository = metadata.find_repository(connection, name)
            row = repository and metadata.find_manifest(connection, repository["id"], reference)
            if not repository or not row:
                return error("MANIFEST_UNKNOWN", {"Reference": reference})
            if denied := protected(access, name, "delete", reference):
                return denied
            if not reference.startswith("sha256:"):
                connection.execute(
                    "DELETE FROM tags WHERE repository_id = ? AND name = ?", (repository["id"], reference)
                )
                return Response(status_code=ACCEPTED)
            if metadata.one(connection, "SELECT 1 FROM manifest_references WHERE child_id = ?", row["id"]):
                return error("MANIFEST_REFERENCED")
            connection.execute("DELETE FROM manifests WHERE id = ?", (row["id"],))
        return Response(status_code=ACCEPTED)

    async def begin_upload(self, request: Request) -> Response:
        """Begin an upload, or take over content that another repository has (`mount`)."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, *_PUSH)
        if refused or self._read_only:
            return refused or error("UNSUPPORTED")
        digest, source = request.query_params.get("mount"), request.query_params.get("from")
        access = self._tokens.access(request)
        if digest and source and access and access.allows(source, *_PULL):
            mounted = await run_in_threadpool(self._mount, name, source, digest)
            if mounted:
                headers = {"location": f"/v2/{name}/blobs/{digest}", "docker-content-digest": digest}
                return Response(status_code=CREATED, headers=headers)
        return await self._pass_on(request, name, "uploads/")

    def _mount(self, name: str, source: str, digest: str) -> bool:
        with metadata.connect(self._database) as connection:
            size = metadata.blob_size(connection, source, digest)
            if size is None:
                return False
            metadata.add_blob(connection, metadata.ensure_repository(connection, name), digest, size)
            return True

    async def upload(self, request: Request) -> Response:
        """Go on with an upload; content that is complete is recorded."""
        name = request.path_params["name"]
        refused = self._tokens.refusal(request, name, *_PUSH)
        if refused or self._read_only:
            return refused or error("UNSUPPORTED")
        answer = await self._pass_on(request, name, f"uploads/{request.path_params['upload']}")
        if request.method == "PUT" and answer.status_code == CREATED:
            digest = answer.headers["docker-content-digest"]
            found = await self._distribution.fetch("HEAD", f"/v2/{SHELF}/blobs/{digest}")
            await run_in_threadpool(self._record, name, digest, int(found.headers["content-length"]))
        return answer

    def _record(self, name: str, digest: str, size: int) -> None:
        with metadata.connect(self._database) as connection:
            metadata.add_blob(connection, metadata.ensure_repository(connection, name), digest, size)

    async def get_blob(self, request: Request) -> Response:
        """Content that the repository has."""
        name, digest = request.path_params["name"], request.path_params["digest"]
        refused = self._tokens.refusal(request, name, *_PULL)
        if refused:
            return refused
        if await run_in_threadpool(self._size, name, digest) is None:
            return error("BLOB_UNKNOWN", digest)
        return await self._pass_on(request, name, digest)

    def _size(self, name: str, digest: str) -> int | None:
        with metadata.connect(self._database) as connection:
            return metadata.blob_size(connection, name, digest)

    async def _pass_on(self, request: Request, name: str, rest: str) -> Response:
        renamed = (f"/v2/{SHELF}/blobs/", f"/v2/{name}/blobs/")
        return await self._distribution.forward(request, f"/v2/{SHELF}/blobs/{rest}", as_name=renamed)


def _accepts(request: Request, media_type: str) -> bool:
    given = ",".join(request.headers.getlist("accept"))
    return media_type in [part.partition(";")[0].strip() for part in given.split(",")]


def _one_platform(connection: metadata.Connection, repository: int, row: Row, request: Request) -> Row | None:
    """For a client without lists: the image for Linux on amd64."""
    if _accepts(request, DOCKER_LIST):
        return row
    platforms = parse(row["payload"], row["media_type"]).platforms
    wanted = {"architecture": "amd64", "os": "linux"}
    chosen = next((digest for digest, platform in platforms.items() if wanted.items() <= platform.items()), None)
    return metadata.find_manifest(connection, repository, chosen) if chosen else None
