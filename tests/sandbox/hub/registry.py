"""The registry of Docker Hub (and of Quay, for one image): read-only.

Implements the distribution protocol as far as pulling needs it, with anonymous tokens from a second host name as on
Docker Hub. Every image gets one more layer here, with the sandbox's authority, so that containers and the engines in
them trust the sandbox as its machines do.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import secrets
import tarfile
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Host, Route, Router
from starlette.types import ASGIApp

from tests.sandbox import versions
from tests.sandbox.hub.build import BUNDLE, IMAGES, Layer, blob, folder, layers, write_layer
from tests.sandbox.layout import HUB_AUTH_HOST, HUB_HOSTS, HUB_MIRROR_HOST, QUAY_HOST

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CREATED = "2026-01-01T00:00:00Z"
REALM = f'Bearer realm="https://{HUB_AUTH_HOST}/token",service="registry.docker.io"'
TOKEN_LIFETIME = 300


def tags() -> dict[str, dict[str, str]]:
    """Repository -> tag -> image. Every name is the version of what is in the image."""
    docker = {"latest": "docker-cli", "cli": "docker-cli", "dind": "docker-dind"}
    for tag in versions.DOCKER_TAGS:
        docker |= {tag: "docker-cli", f"{tag}-cli": "docker-cli", f"{tag}-dind": "docker-dind"}
    node = {name: "node" for tag in versions.NODE_TAGS for name in (tag, f"{tag}-slim", f"{tag}-trixie-slim")}
    debian = dict.fromkeys(versions.DEBIAN_TAGS, "debian")
    buildah = dict.fromkeys(versions.BUILDAH_TAGS, "buildah")
    return {"library/docker": docker, "library/node": node, "library/debian": debian, "buildah/stable": buildah}


class Catalogue:
    """Manifests and small blobs of all images, made once; layers stay in the cache's files."""

    def __init__(self, cache: Path, ca_certificate: Path) -> None:
        self._cache = cache
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        known = layers(cache)
        self.files = {layer.digest: blob(cache, layer.digest) for layer in known.values()}
        own = self._trust(ca_certificate) if known else None
        self.images = {
            name: self._image([*(known[part] for part in parts), own], config)
            for name, (parts, config) in IMAGES.items()
            if own is not None and all(part in known for part in parts)
        }

    def _trust(self, ca_certificate: Path) -> Layer:
        authority = ca_certificate.read_bytes()
        bundle = (folder(self._cache) / "ca-certificates.crt").read_bytes() + authority

        def fill(archive: tarfile.TarFile) -> None:
            for name, content in ((BUNDLE, bundle), ("usr/local/share/ca-certificates/sandbox-ca.crt", authority)):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))

        file = io.BytesIO()
        layer = write_layer(fill, file)
        self.blobs[layer.digest] = file.getvalue()
        return layer

    def _image(self, parts: list[Layer], config: dict[str, Any]) -> str:
        """Digest of the manifest."""
        described = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [part.diff_id for part in parts]},
            "history": [{"created": CREATED, "created_by": "slipway sandbox"} for _ in parts],
        }
        text = json.dumps(described).encode()
        self.blobs[_digest(text)] = text
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(text), "digest": _digest(text)},
            "layers": [{"mediaType": LAYER, "size": part.size, "digest": part.digest} for part in parts],
        }
        content = json.dumps(manifest).encode()
        self.manifests[_digest(content)] = content
        return _digest(content)


def create_hub_app(cache: Path, ca_certificate: Path) -> ASGIApp:
    """Serve registry and tokens under Docker Hub's names. Without built images every repository is unknown."""
    catalogue, names = Catalogue(cache, ca_certificate), tags()

    async def ping(request: Request) -> Response:
        return _challenge(request) or JSONResponse({}, headers=_VERSION)

    async def manifest(request: Request) -> Response:
        repository, reference = request.path_params["name"], request.path_params["reference"]
        if refusal := _challenge(request, repository, names):
            return refusal
        digest = reference if ":" in reference else catalogue.images.get(names[repository].get(reference, ""), "")
        content = catalogue.manifests.get(digest)
        if content is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", f"unknown tag={reference}")
        headers = {"Docker-Content-Digest": digest, "Content-Type": MANIFEST, "ETag": f'"{digest}"', **_VERSION}
        return Response(content, headers=headers)

    async def layer(request: Request) -> Response:
        if refusal := _challenge(request, request.path_params["name"], names):
            return refusal
        digest = request.path_params["digest"]
        headers = {"Docker-Content-Digest": digest, **_VERSION}
        if digest in catalogue.blobs:
            return Response(catalogue.blobs[digest], media_type="application/octet-stream", headers=headers)
        if digest in catalogue.files:
            return FileResponse(catalogue.files[digest], media_type="application/octet-stream", headers=headers)
        return _error(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)

    async def listing(request: Request) -> Response:
        repository = request.path_params["name"]
        refusal = _challenge(request, repository, names)
        return refusal or JSONResponse({"name": repository, "tags": sorted(names[repository])}, headers=_VERSION)

    registry = Router(
        [
            Route("/v2/", ping),
            Route("/v2/{name:path}/manifests/{reference}", manifest),
            Route("/v2/{name:path}/blobs/{digest}", layer),
            Route("/v2/{name:path}/tags/list", listing),
        ],
        redirect_slashes=False,
    )
    served = [Host(host, app=registry) for host in (*HUB_HOSTS, HUB_MIRROR_HOST, QUAY_HOST) if host != HUB_AUTH_HOST]
    return Starlette(routes=[Host(HUB_AUTH_HOST, app=Router([Route("/token", token)])), *served])


async def token(_: Request) -> Response:
    """A token for any caller: everything here is public and read-only."""
    text = secrets.token_urlsafe(32)
    return JSONResponse({"token": text, "access_token": text, "expires_in": TOKEN_LIFETIME})


_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


def _challenge(
    request: Request, repository: str = "", names: dict[str, dict[str, str]] | None = None
) -> Response | None:
    """The refusal for who has no token; and, as on Docker Hub, for who asks for a repository that is not there."""
    is_known = names is None or repository in names
    if is_known and request.headers.get("authorization", "").lower().startswith("bearer "):
        return None
    scope = f',scope="repository:{repository}:pull"' if repository else ""
    denied = _error(401, "UNAUTHORIZED", "authentication required", None)
    denied.headers["WWW-Authenticate"] = REALM + scope + ("" if is_known else ',error="insufficient_scope"')
    return denied


def _error(status: int, code: str, message: str, detail: object) -> Response:
    body = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return JSONResponse(body, status_code=status, headers=_VERSION)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
