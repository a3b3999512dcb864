"""`registry database import`: from metadata in the storage to the database, in one step or in three."""

from __future__ import annotations

from collections.abc import Iterable

from . import metadata
from .documents import Document, parse
from .images import SHELF, put_on_shelf
from .locks import hand_over, tags
from .storage import BLOBS, Storage, blob_folder


class ImportFailedError(RuntimeError):
    """The storage holds a tag whose manifest is not there."""


def pre_import(database: metadata.Database, storage: Storage) -> int:
    """The first step: manifests of tagged images, with what they refer to. The registry may be in use."""
    found = {(repository, digest) for repository, _, digest in tags(storage) if repository != SHELF}
    for repository, digest in sorted(found):
        with metadata.connect(database) as connection:
            identity = metadata.ensure_repository(connection, repository)
            _add(connection, storage, identity, digest)
    return len(found)


def import_all(database: metadata.Database, storage: Storage) -> int:
    """The second step: everything of the first that is new, and the tags. Nobody may push meanwhile.

    At its end the storage belongs to the database.
    """
    pre_import(database, storage)
    found = sorted(tags(storage))
    with metadata.connect(database) as connection:
        connection.execute("DELETE FROM tags")
        for repository, name, digest in found:
            identity = metadata.ensure_repository(connection, repository)
            row = metadata.find_manifest(connection, identity, digest)
            if row is not None:
                metadata.put_tag(connection, identity, name, row["id"])
    hand_over(storage)
    return len(found)


def import_blobs(database: metadata.Database, storage: Storage) -> int:
    """The third step: content that no image refers to, so that the garbage collector looks at it."""
    count = 0
    for name, size in storage.sizes(BLOBS):
        digest = f"sha256:{name.split('/')[-2]}"
        with metadata.connect(database) as connection:
            if metadata.one(connection, "SELECT 1 FROM blobs WHERE digest = ?", digest) is None:
                connection.execute("INSERT INTO blobs VALUES (?, ?, ?)", (digest, size, metadata.now()))
                count += 1
    return count


def _add(connection: metadata.Connection, storage: Storage, repository: int, digest: str) -> None:
    payload = storage.read(f"{blob_folder(digest)}/data")
    if payload is None:
        raise ImportFailedError(f"importing manifest {digest}: blob not found in storage")
    document = parse(payload)
    for entry in document.manifests:
        _add(connection, storage, repository, entry.digest)
    if document.subject:
        _add(connection, storage, repository, document.subject)
    _add_blobs(connection, storage, repository, document)
    metadata.put_manifest(connection, repository, document)


def _add_blobs(connection: metadata.Connection, storage: Storage, repository: int, document: Document) -> None:
    known: Iterable[metadata.Row] = connection.execute(
        "SELECT digest FROM repository_blobs WHERE repository_id = ?", (repository,)
    )
    there = {row["digest"] for row in known}
    for blob in document.blobs:
        if blob.digest not in there:
            put_on_shelf(storage, blob.digest)
            metadata.add_blob(connection, repository, blob.digest, blob.size)
