"""Files of the application, on this machine or in object storage: `ObjectStorage::Concern` of GitLab.

Each file has a name, which is the same in both places, and the number of the store that it is in. A new one is put into
the object storage that `gitlab.rb` names for its type, by way of a temporary object, as Workhorse does: it uploads what
a client sends to `tmp/uploads`, and the application copies it to its place once it has accepted it.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.responses import RedirectResponse, Response

from .s3 import Bucket, Connection, ObjectStorageError

LOCAL: Final = 1
REMOTE: Final = 2
#: How long a link to an object is valid (`DirectUpload`, `ObjectStorage::Concern`).
_LINK_SECONDS: Final = 600


@dataclass(frozen=True)
class Files:
    """The files of one type, such as `artifacts`: their folder, and their bucket if object storage is on for them."""

    type_: str
    folder: Path
    bucket: Bucket | None = None
    proxy_download: bool = field(default=False)

    def write(self, path: str, content: bytes) -> int:
        """Keep a new file; answer its store.

        Raises:
            ObjectStorageError: object storage does not take it.
        """
        return self._write_remote(path, content) if self.bucket else self._write_local(path, content)

    def read(self, store: int, path: str) -> bytes:
        """The content of a file.

        Raises:
            ObjectStorageError: it is in object storage, which is off or does not give it.
            OSError: it is not in the folder.
        """
        return self._remote().read(path) if store == REMOTE else (self.folder / path).read_bytes()

    def delete(self, store: int, path: str) -> None:
        """Delete a file, which may be gone already.

        Raises:
            ObjectStorageError: object storage refuses.
        """
        if store == REMOTE:
            self._remote().delete(path)
        else:
            (self.folder / path).unlink(missing_ok=True)
            self._prune(path)

    def move(self, store: int, path: str, target: int) -> None:
        """Move a file to the other store.

        Raises:
            ObjectStorageError: object storage is off, or refuses.
            OSError: the file is not in its folder.
        """
        bucket = self._remote()
        content = self.read(store, path)
        if target == REMOTE:
            bucket.write(path, content)
        else:
            self._write_local(path, content)
        self.delete(store, path)

    def response(self, store: int, path: str, filename: str) -> Response:
        """A download: of the content, or of a link to the object."""
        disposition = f'attachment; filename="{filename}"'
        if store == REMOTE and not self.proxy_download:
            return RedirectResponse(self._remote().signed_url(path, _LINK_SECONDS, disposition), 302)
        headers = {"Content-Disposition": disposition}
        return Response(self.read(store, path), media_type="application/octet-stream", headers=headers)

    def _write_remote(self, path: str, content: bytes) -> int:
        bucket = self._remote()
        uploaded = f"tmp/uploads/{time.time():.0f}-{secrets.token_hex(8)}"
        bucket.write(uploaded, content)
        bucket.copy(uploaded, path)
        bucket.delete(uploaded)
        return REMOTE

    def _write_local(self, path: str, content: bytes) -> int:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return LOCAL

    def _remote(self) -> Bucket:
        if self.bucket is None:
            raise ObjectStorageError("Object Storage is not enabled")
        return self.bucket

    def _prune(self, path: str) -> None:
        """Remove folders that are empty now."""
        for folder in (self.folder / path).parents:
            if folder == self.folder or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()


@dataclass(frozen=True)
class ObjectStore:
    """GitLab's consolidated form: one connection, and a bucket for each type."""

    connection: Connection
    buckets: dict[str, str]
    proxied: tuple[str, ...]

    @classmethod
    def load(cls, settings: dict[str, Any] | None, access_key: str, secret_key: str) -> ObjectStore | None:
        """What `gitlab-ctl reconfigure` has written; None if object storage is off."""
        if not settings:
            return None
        connection = Connection(
            settings["endpoint"], settings["region"], bool(settings["path_style"]), access_key, secret_key
        )
        return cls(connection, dict(settings["buckets"]), tuple(settings["proxied"]))

    def files(self, type_: str, folder: Path) -> Files:
        """The files of a type."""
        name = self.buckets.get(type_)
        return Files(type_, folder, self.connection.bucket(name) if name else None, type_ in self.proxied)
