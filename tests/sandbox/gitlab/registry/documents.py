"""Manifests and indexes: what is in the JSON that clients push."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFESTS, INDEXES = (OCI_MANIFEST, DOCKER_MANIFEST), (OCI_INDEX, DOCKER_LIST)
BUILDKIT_CACHE = "application/vnd.buildkit.cacheconfig.v0"


class DocumentError(ValueError):
    """Not a manifest that a registry takes."""


@dataclass(frozen=True)
class Descriptor:
    """A reference to content."""

    digest: str
    media_type: str
    size: int


@dataclass(frozen=True)
class Document:
    """A manifest, or an index of manifests. `blobs` are what has to be in the repository before it."""

    digest: str
    media_type: str
    payload: bytes
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: str | None = None
    artifact_type: str | None = None
    platforms: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Configuration and layers."""
        return (self.config, *self.layers) if self.config else self.layers

    @property
    def total_size(self) -> int:
        """Bytes of configuration and layers."""
        return sum(blob.size for blob in self.blobs)


def digest_of(content: bytes) -> str:
    """The name of content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse(payload: bytes, content_type: str | None = None) -> Document:
    """Read a manifest.

    Raises:
        DocumentError: it is none.
    """
    try:
        found = json.loads(payload)
        media_type = (content_type or found.get("mediaType") or "").partition(";")[0].strip()
        if not media_type:
            media_type = OCI_INDEX if "manifests" in found else OCI_MANIFEST
        if media_type in INDEXES:
            return _index(found, payload, media_type)
        if media_type in MANIFESTS:
            return _manifest(found, payload, media_type)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentError(f"unexpected manifest content: {error}") from None
    raise DocumentError(f"unsupported manifest media type and no default available: {media_type}")


def _manifest(found: dict[str, Any], payload: bytes, media_type: str) -> Document:
    return Document(
        digest_of(payload),
        media_type,
        payload,
        config=_descriptor(found["config"]),
        layers=tuple(_descriptor(layer) for layer in found.get("layers") or [] if not layer.get("urls")),
        subject=(found.get("subject") or {}).get("digest"),
        artifact_type=found.get("artifactType"),
    )


def _index(found: dict[str, Any], payload: bytes, media_type: str) -> Document:
    """An index. BuildKit keeps its cache in one that names layers instead of manifests."""
    entries = [_descriptor(entry) for entry in found.get("manifests") or []]
    digest = digest_of(payload)
    if any(entry.media_type == BUILDKIT_CACHE for entry in entries):
        return Document(digest, media_type, payload, layers=tuple(entries))
    platforms = {entry["digest"]: entry.get("platform") or {} for entry in found.get("manifests") or []}
    return Document(digest, media_type, payload, manifests=tuple(entries), platforms=platforms)


def _descriptor(found: dict[str, Any]) -> Descriptor:
    return Descriptor(found["digest"], found.get("mediaType", ""), int(found["size"]))
