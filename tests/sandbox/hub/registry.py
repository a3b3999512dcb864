"""The registry of Docker Hub (and of Quay, GitHub and GitLab, for one image each): read-only.

Implements the distribution protocol as far as pulling needs it, with anonymous tokens from a second host name as on
Docker Hub, each for the repositories that it was asked for, and with Docker Hub's limit of pulls. Every image gets one
more layer here, with the sandbox's authority, so that containers and the engines in them trust the sandbox as its
machines do.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import secrets
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Host, Route, Router
from starlette.types import ASGIApp

from tests.sandbox import versions
from tests.sandbox.hub.build import BUNDLE, IMAGES, Layer, blob, folder, layers, write_layer
from tests.sandbox.hub.pulls import Pulls
from tests.sandbox.layout import GHCR_HOST, GITLAB_REGISTRY_HOST, HUB_AUTH_HOST, HUB_HOSTS, HUB_MIRROR_HOST, QUAY_HOST

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
    registry = dict.fromkeys(versions.REGISTRY_TAGS, "registry")
    proxy = dict.fromkeys(versions.KAMAL_PROXY_TAGS, "kamal-proxy")
    official = {"docker": docker, "node": node, "debian": debian, "registry": registry}
    languages = {"python": versions.PYTHON_TAGS, "golang": versions.GOLANG_TAGS, "nginx": versions.NGINX_TAGS}
    official |= {name: dict.fromkeys(known, name) for name, known in languages.items()}
    others = {"buildah/stable": buildah, "basecamp/kamal-proxy": proxy}
    others["aquasec/trivy"] = dict.fromkeys(versions.TRIVY_TAGS, "trivy")
    others["sigstore/cosign/cosign"] = dict.fromkeys(versions.COSIGN_TAGS, "cosign")
    runners = [package.partition("-")[0] for package in versions.GITLAB_RUNNERS]
    others["gitlab/gitlab-runner"] = {f"alpine-v{one}": f"gitlab-runner-{one}" for one in runners}
    helper = {f"x86_64-v{one}": f"gitlab-runner-helper-{one}" for one in runners}
    others["gitlab-org/gitlab-runner/gitlab-runner-helper"] = helper
    return {**{f"library/{name}": known for name, known in official.items()}, **others}


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


class Tokens:
    """Anonymous tokens: each is for the repositories that were asked for, for five minutes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    async def issue(self, request: Request) -> Response:
        """A token for any caller: everything here is public. It grants nothing but to pull."""
        scopes = [part for text in request.query_params.getlist("scope") for part in text.split()]
        found = [re.fullmatch(r"repository:([^:]+):(\S+)", scope) for scope in scopes]
        granted = frozenset(one[1] for one in found if one and {"pull", "*"} & set(one[2].split(",")))
        text, now = secrets.token_urlsafe(32), time.monotonic()
        self._known = {key: value for key, value in self._known.items() if value[0] > now}
        self._known[text] = (now + TOKEN_LIFETIME, granted)
        issued_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return JSONResponse({"token": text, "access_token": text, "expires_in": TOKEN_LIFETIME, "issued_at": issued_at})

    def refuse(self, request: Request, repository: str, *, is_known: bool) -> Response | None:
        """The refusal for who has no token for a repository; as on Docker Hub, also for one that does not exist."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        until, granted = self._known.get(text, (0.0, frozenset[str]()))
        has_token = scheme.lower() == "bearer" and until > time.monotonic()
        if has_token and is_known and (not repository or repository in granted):
            return None
        scope = f',scope="repository:{repository}:pull"' if repository else ""
        denied = _error(401, "UNAUTHORIZED", "authentication required", None)
        denied.headers["WWW-Authenticate"] = REALM + scope + (',error="insufficient_scope"' if has_token else "")
        return denied


class Hub:
    """Serves the images of a catalogue, and counts who pulls them."""

    def __init__(self, catalogue: Catalogue, pulls: Pulls) -> None:
        self._catalogue, self._pulls = catalogue, pulls
        self._names = tags()
        self.tokens = Tokens()

    async def ping(self, request: Request) -> Response:
        """Whether the caller has a token."""
        return self._refuse(request, "") or JSONResponse({}, headers=_VERSION)

    async def manifest(self, request: Request) -> Response:
        """What an image consists of, by tag or digest."""
        answer = self._manifest(request, request.path_params["name"], request.path_params["reference"])
        self._pulls.note(request, "manifests", request.path_params["reference"], answer.status_code)
        return answer

    def _manifest(self, request: Request, repository: str, reference: str) -> Response:
        if refusal := self._refuse(request, repository):
            return refusal
        counted = request.url.hostname in HUB_HOSTS
        if counted and (refusal := self._pulls.refuse(request)):
            return refusal
        digest = reference if ":" in reference else self._tags(repository).get(reference, "")
        content = self._catalogue.manifests.get(digest)
        if content is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", f"unknown tag={reference}")
        headers = {"Docker-Content-Digest": digest, "Content-Type": MANIFEST, "ETag": f'"{digest}"', **_VERSION}
        return Response(content, headers=headers | (self._pulls.headers(request) if counted else {}))

    async def layer(self, request: Request) -> Response:
        """A layer, or the description of an image."""
        answer = self._layer(request, request.path_params["digest"])
        self._pulls.note(request, "blobs", request.path_params["digest"], answer.status_code)
        return answer

    def _layer(self, request: Request, digest: str) -> Response:
        if refusal := self._refuse(request, request.path_params["name"]):
            return refusal
        headers = {"Docker-Content-Digest": digest, **_VERSION}
        if digest in self._catalogue.blobs:
            return Response(self._catalogue.blobs[digest], media_type="application/octet-stream", headers=headers)
        if file := self._catalogue.files.get(digest):
            return FileResponse(file, media_type="application/octet-stream", headers=headers)
        return _error(404, "BLOB_UNKNOWN", "blob unknown to registry", digest)

    async def listing(self, request: Request) -> Response:
        """The tags of a repository."""
        repository = request.path_params["name"]
        refusal = self._refuse(request, repository)
        return refusal or JSONResponse({"name": repository, "tags": sorted(self._tags(repository))}, headers=_VERSION)

    def _refuse(self, request: Request, repository: str) -> Response | None:
        return self.tokens.refuse(request, repository, is_known=not repository or bool(self._tags(repository)))

    def _tags(self, repository: str) -> dict[str, str]:
        """The digests of a repository, by tag."""
        images = self._catalogue.images
        return {tag: images[name] for tag, name in self._names.get(repository, {}).items() if name in images}


def create_hub_app(cache: Path, ca_certificate: Path, pulls: Pulls | None = None) -> ASGIApp:
    """Serve registry and tokens under Docker Hub's names. Without built images every repository is unknown."""
    hub = Hub(Catalogue(cache, ca_certificate), pulls or Pulls())
    registry = Router(
        [
            Route("/v2/", hub.ping),
            Route("/v2/{name:path}/manifests/{reference}", hub.manifest),
            Route("/v2/{name:path}/blobs/{digest}", hub.layer),
            Route("/v2/{name:path}/tags/list", hub.listing),
        ],
        redirect_slashes=False,
    )
    hosts = (*HUB_HOSTS, HUB_MIRROR_HOST, QUAY_HOST, GHCR_HOST, GITLAB_REGISTRY_HOST)
    served = [Host(host, app=registry) for host in hosts if host != HUB_AUTH_HOST]
    return Starlette(routes=[Host(HUB_AUTH_HOST, app=Router([Route("/token", hub.tokens.issue)])), *served])


_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


def _error(status: int, code: str, message: str, detail: object) -> Response:
    body = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return JSONResponse(body, status_code=status, headers=_VERSION)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
