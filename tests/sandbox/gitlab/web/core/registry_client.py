"""Client of the container registry: over loopback, with a token that it signs itself."""

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
#: The types of manifests that GitLab reads (`lib/container_registry/base_client.rb`): an index is not among them.
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
OK, UNAUTHORIZED, MISSING = 200, 401, 404
REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    409: "Name Taken",
    422: "Too Many Subrepositories",
}
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


class RegistryApi:
    """GitLab's own API of the registry, which exists only with its metadata database."""

    def __init__(self, config: Config, registry: Registry) -> None:
        self._config, self._registry = config, registry

    def supported(self) -> bool:
        """Whether the registry has it."""
        return self._send("GET", "/gitlab/v1/", []).status_code in (OK, UNAUTHORIZED)

    def move(self, path: str, *, dry_run: bool, **target: str) -> str | None:
        """Rename what is under a path (`name`), or move it (`namespace`); the reason why it cannot be."""
        access: Access = [
            {"type": "repository", "name": path, "actions": ["pull", "push"], "meta": {"project_path": path}},
            {"type": "repository", "name": f"{path}/*", "actions": ["pull"], "meta": {"project_path": path}},
        ]
        if "namespace" in target:
            access.append({"type": "repository", "name": f"{target['namespace']}/*", "actions": ["push"]})
        query = f"?dry_run={'true' if dry_run else 'false'}"
        answer = self._send("PATCH", f"/gitlab/v1/repositories/{path}/{query}", access, target)
        return None if answer.is_success else REASONS.get(answer.status_code, "Error")

    def _send(self, method: str, path: str, access: Access, body: dict[str, str] | None = None) -> httpx.Response:
        token = sign(self._config, self._registry, access, "gitlab")
        url, headers = f"{self._registry.api_url}{path}", {"Authorization": f"Bearer {token}"}
        return httpx.request(method, url, headers=headers, json=body, timeout=30)


class RegistryClient:
    """Reads and deletes what is in one repository of the registry."""

    def __init__(self, config: Config, registry: Registry, path: str) -> None:
        self._path = path
        access = [{"type": "repository", "name": path, "actions": ["pull", "delete", "*"]}]
        token = sign(config, registry, access, "gitlab")
        self._http = httpx.Client(base_url=registry.api_url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def tags(self) -> list[str]:
        """Names of all tags, sorted; none when there is no such repository."""
        names: list[str] = []
        url = f"/v2/{self._path}/tags/list?n=100"
        while url:
            answer = self._http.get(url)
            if answer.status_code == MISSING:
                return []
            answer.raise_for_status()
            names += answer.json()["tags"] or []
            following = re.search(r"<[^>]*\?([^>]*)>", answer.headers.get("link", ""))
            url = f"/v2/{self._path}/tags/list?{following[1]}" if following else ""
        return sorted(names)

    def details(self, tag: str) -> dict[str, Any] | None:
        """What GitLab shows of a tag; None if it cannot read it, as an index without the metadata database."""
        found = self._listed(tag)
        if found is not None:
            return found
        answer = self._http.get(f"/v2/{self._path}/manifests/{tag}", headers={"Accept": ", ".join(MANIFESTS)})
        if answer.status_code == MISSING:
            return None
        manifest = answer.raise_for_status().json()
        revision = manifest.get("config", {}).get("digest", "").removeprefix("sha256:")
        return {
            "revision": revision,
            "short_revision": revision[:9],
            "digest": answer.headers["docker-content-digest"],
            "created_at": self._created(manifest),
            "total_size": sum(layer["size"] for layer in manifest.get("layers", [])),
        }

    def _listed(self, tag: str) -> dict[str, Any] | None:
        """The tag in the metadata database, if the registry has one."""
        answer = self._http.get(f"/gitlab/v1/repositories/{self._path}/tags/list/", params={"name": tag, "n": 1000})
        found = answer.json() if answer.status_code == OK else []
        entry = next((entry for entry in found if entry["name"] == tag), None)
        if entry is None:
            return None
        revision = entry.get("config_digest", "").removeprefix("sha256:")
        return {
            "revision": revision,
            "short_revision": revision[:9],
            "digest": entry["digest"],
            "created_at": entry["published_at"],
            "total_size": entry["size_bytes"],
        }

    def _created(self, image: dict[str, Any]) -> str | None:
        blob = self._http.get(f"/v2/{self._path}/blobs/{image['config']['digest']}", follow_redirects=True)
        return blob.json().get("created") if blob.status_code == OK else None

    def delete_tag(self, tag: str) -> bool:
        """Delete a tag; its manifest and other tags of that stay."""
        answer = self._http.delete(f"/v2/{self._path}/manifests/{tag}")
        if answer.status_code == MISSING:
            return False
        answer.raise_for_status()
        return True
