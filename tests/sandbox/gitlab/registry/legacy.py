"""The registry without its metadata database: the distribution does everything but what GitLab's does otherwise."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .documents import INDEXES, MANIFESTS, DocumentError, parse
from .errors import error
from .proxy import Distribution
from .storage import REPOSITORIES, Storage
from .tokens import Tokens, protected

_OK, _MISSING, _ACCEPTED = 200, 404, 202
_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_legacy_app(distribution: Distribution, storage: Storage, tokens: Tokens, *, read_only: bool) -> Starlette:
    """The application of this mode."""
    registry = _Legacy(distribution, storage, tokens, read_only=read_only)
    manifests = "/v2/{name:path}/manifests/{reference}"
    return Starlette(
        routes=[
            Route("/gitlab/v1/{rest:path}", registry.absent, methods=_ANY),
            Route(manifests, registry.put, methods=["PUT"]),
            Route(manifests, registry.delete, methods=["DELETE"]),
            Route("/{rest:path}", registry.forward, methods=_ANY),
        ]
    )


class _Legacy:
    def __init__(self, distribution: Distribution, storage: Storage, tokens: Tokens, *, read_only: bool) -> None:
        self._distribution, self._storage, self._tokens, self._read_only = distribution, storage, tokens, read_only

    async def absent(self, request: Request) -> Response:
        """GitLab's API: not without the database."""
        return self._tokens.refusal(request) or Response(status_code=_MISSING)

    async def forward(self, request: Request) -> Response:
        """Everything that the distribution does as GitLab's registry does it."""
        return await self._distribution.forward(request)

    async def put(self, request: Request) -> Response:
        """Take a manifest, unless its subject is unknown: only GitLab's registry checks that."""
        body = await request.body()
        access, params = self._tokens.access(request), request.path_params
        if denied := protected(access, params["name"], "push", params["reference"]):
            return denied
        subject = _subject(body, request.headers.get("content-type"))
        if subject:
            path = f"/v2/{request.path_params['name']}/manifests/{subject}"
            headers = {"accept": ", ".join((*MANIFESTS, *INDEXES))}
            found = await self._distribution.fetch("HEAD", path, headers | _authorization(request))
            if found.status_code == _MISSING:
                return error("MANIFEST_BLOB_UNKNOWN", subject)
        return await self._distribution.forward(request, body=body)

    async def delete(self, request: Request) -> Response:
        """Delete a manifest, or a single tag, which the distribution cannot."""
        name, reference = request.path_params["name"], request.path_params["reference"]
        denied = protected(self._tokens.access(request), name, "delete", reference)
        if reference.startswith("sha256:"):
            return denied or await self._distribution.forward(request)
        refused = self._tokens.refusal(request, name, "delete")
        if refused or self._read_only:
            return refused or error("UNSUPPORTED")
        folder = f"{REPOSITORIES}/{name}/_manifests/tags/{reference}"
        if self._storage.read(f"{folder}/current/link") is None:
            return error("MANIFEST_UNKNOWN", {"Tag": reference})
        if denied:
            return denied
        self._storage.remove(folder)
        return Response(status_code=_ACCEPTED)


def _subject(body: bytes, content_type: str | None) -> str | None:
    try:
        return parse(body, content_type).subject
    except DocumentError:
        return None  # The distribution says what is wrong with it.


def _authorization(request: Request) -> dict[str, Any]:
    given = request.headers.get("authorization")
    return {"authorization": given} if given else {}
