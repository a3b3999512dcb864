"""Client of the container registry: over loopback, with a token that it signs itself."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from .config import Config, Registry

SERVICE = "container_registry"
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
OK, MISSING = 200, 404
Access = list[dict[str, Any]]


def key_id(pem: str) -> str:
    """The name of a key as libtrust has it, which is what the registry looks for."""
    public = load_pem_private_key(pem.encode(), None).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def sign(config: Config, registry: Registry, access: Access, subject: str, minutes: int = 5, **more: Any) -> str:
    """A token for the registry."""
    issued = int(time.time())
    payload = {
        "access": access,
        "jti": str(uuid.uuid4()),
        "aud": SERVICE,
        "sub": subject,
        "iss": registry.issuer,
        "iat": issued,
        "nbf": issued - 5,
        "exp": issued + minutes * 60,
        **more,
    }
    return jwt.encode(payload, config.registry_key, "RS256", {"kid": key_id(config.registry_key)})


class RegistryClient:
    """Reads and deletes what is in one repository of the registry."""

    def __init__(self, config: Config, registry: Registry, path: str) -> None:
        self._path = path
        access = [{"type": "repository", "name": path, "actions": ["pull", "delete", "*"]}]
        token = sign(config, registry, access, "gitlab")
        self._http = httpx.Client(
            base_url=f"{registry.api_url}/v2/{path}/", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def tags(self) -> list[str]:
        """Names of all tags, sorted; none when there is no such repository."""
        names: list[str] = []
        url = "tags/list?n=100"
        while url:
            answer = self._http.get(url)
            if answer.status_code == MISSING:
                return []
            answer.raise_for_status()
            names += answer.json()["tags"] or []
            following = re.search(r"<[^>]*\?([^>]*)>", answer.headers.get("link", ""))
            url = f"tags/list?{following[1]}" if following else ""
        return sorted(names)

    def digest(self, tag: str) -> str | None:
        """Digest of the manifest of a tag."""
        answer = self._http.head(f"manifests/{tag}", headers={"Accept": ", ".join(MANIFESTS)})
        if answer.status_code == MISSING:
            return None
        answer.raise_for_status()
        digest: str = answer.headers["docker-content-digest"]
        return digest

    def details(self, tag: str) -> dict[str, Any] | None:
        """What GitLab tells of a tag; of an index, the sizes of its images and the time of the first."""
        answer = self._manifest(tag)
        if answer is None:
            return None
        manifest = answer.json()
        images = list(self._images(manifest)) if "manifests" in manifest else [manifest]
        revision = manifest.get("config", {}).get("digest", "").removeprefix("sha256:")
        return {
            "revision": revision,
            "short_revision": revision[:9],
            "digest": answer.headers["docker-content-digest"],
            "created_at": next((self._created(image) for image in images), None),
            "total_size": sum(layer["size"] for image in images for layer in image.get("layers", [])),
        }

    def _manifest(self, reference: str) -> httpx.Response | None:
        answer = self._http.get(f"manifests/{reference}", headers={"Accept": ", ".join(MANIFESTS)})
        if answer.status_code == MISSING:
            return None
        answer.raise_for_status()
        return answer

    def _images(self, index: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Manifests of an index; those of no platform are notes about the others."""
        for entry in index["manifests"]:
            if entry.get("platform", {}).get("architecture") == "unknown":
                continue
            answer = self._manifest(entry["digest"])
            if answer is not None:
                yield answer.json()

    def _created(self, image: dict[str, Any]) -> str | None:
        blob = self._http.get(f"blobs/{image['config']['digest']}", follow_redirects=True)
        return blob.json().get("created") if blob.status_code == OK else None

    def delete_tag(self, tag: str) -> bool:
        """Delete the manifest of a tag; the distribution has no other way, so tags of the same manifest go too."""
        digest = self.digest(tag)
        if digest is None:
            return False
        answer = self._http.delete(f"manifests/{digest}")
        if answer.status_code == MISSING:
            return False
        answer.raise_for_status()
        return True
