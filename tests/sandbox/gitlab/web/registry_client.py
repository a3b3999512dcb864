"""The registry as the application sees it: over loopback, with a token that it signs for itself."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import uuid
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
        """What GitLab tells of a tag; sizes of an index are those of its manifests."""
        answer = self._http.get(f"manifests/{tag}", headers={"Accept": ", ".join(MANIFESTS)})
        if answer.status_code == MISSING:
            return None
        answer.raise_for_status()
        manifest = answer.json()
        config = manifest.get("config", {})
        layers = manifest.get("layers", manifest.get("manifests", []))
        created = None
        if "digest" in config:
            blob = self._http.get(f"blobs/{config['digest']}", follow_redirects=True)
            created = blob.json().get("created") if blob.status_code == OK else None
        revision = config.get("digest", "").removeprefix("sha256:")
        return {
            "revision": revision,
            "short_revision": revision[:9],
            "digest": answer.headers["docker-content-digest"],
            "created_at": created,
            "total_size": sum(layer["size"] for layer in layers),
        }

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
