"""Images that a test adds to Docker Hub and Quay, in a folder of the sandbox that is read at each request."""

from __future__ import annotations

import re
from pathlib import Path

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Additions:
    """A folder of images: `blobs` has manifests, descriptions and layers by digest, `tags/REPOSITORY/TAG` digests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tags(self, repository: str) -> dict[str, str]:
        """The digests of a repository, by tag; none for one that is not there."""
        folder = self._folder / "tags" / repository
        found = (path for path in folder.glob("*") if path.is_file()) if ".." not in repository else ()
        return {path.name: path.read_text() for path in found}

    def blob(self, digest: str) -> Path | None:
        """The file with this content."""
        path = self._folder / "blobs" / digest.removeprefix("sha256:")
        return path if _DIGEST.fullmatch(digest) and path.exists() else None

    def add_blob(self, digest: str, content: bytes) -> None:
        """Have a manifest, a description or a layer."""
        self._write(self._folder / "blobs" / digest.removeprefix("sha256:"), content)

    def add_tag(self, repository: str, tag: str, digest: str) -> None:
        """Have an image, all of whose parts are there."""
        self._write(self._folder / "tags" / repository / tag, digest.encode())

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_bytes(content)
        unfinished.replace(path)
