"""The metadata database: repositories, manifests, tags. In a PostgreSQL server; in tests without a machine, a file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from . import postgresql
from .config import Config, ConfigurationError
from .documents import Document, parse

SCHEMA = Path(__file__).with_name("schema.sql")
POSTGRESQL_SCHEMA = SCHEMA.with_name("schema.postgresql.sql")
#: Where a database is.
Database = Path | postgresql.Server
Connection = sqlite3.Connection
Row = sqlite3.Row


def now() -> str:
    """This moment, as the registry writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def connect(path: Database) -> Iterator[Connection]:
    """A connection in a transaction of its own: committed at the end, rolled back on an exception."""
    if isinstance(path, postgresql.Server):
        with postgresql.pool(path).connection() as other:
            yield cast(Connection, other)
        return
    connection = sqlite3.connect(path, timeout=20, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log this loses nothing when the process ends, and no request waits for a busy disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    finally:
        connection.close()


def migrate(path: Database) -> bool:
    """Make the tables of a database that has none; whether there was something to do."""
    if not pending(path):
        return False
    if isinstance(path, postgresql.Server):
        with postgresql.pool(path).connection() as other:
            other.run(POSTGRESQL_SCHEMA.read_text())
        return True
    connection = sqlite3.connect(path)
    try:
        connection.executescript(f"PRAGMA journal_mode = WAL; BEGIN; {SCHEMA.read_text()} COMMIT;")
    finally:
        connection.close()
    return True


def pending(path: Database) -> bool:
    """Whether the tables are not there yet.

    Raises:
        ConfigurationError: there is no such database, or no way to its server.
    """
    if isinstance(path, postgresql.Server):
        return _pending_in_server(path)
    if not path.exists():
        raise ConfigurationError(
            f'failed to initialize database connections: FATAL: database "{path.stem}" does not exist (SQLSTATE 3D000)'
        )
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'repositories'").fetchone() is None
    finally:
        connection.close()


def _pending_in_server(server: postgresql.Server) -> bool:
    try:
        with postgresql.pool(server).connection() as other:
            return other.execute("SELECT to_regclass('public.repositories')").fetchone()[0] is None
    except postgresql.driver().OperationalError as error:
        raise ConfigurationError(f"failed to initialize database connections: {_words(server, str(error))}") from None


def _words(server: postgresql.Server, error: str) -> str:
    """What the registry says of a failure to connect; its own driver's words where there is no socket."""
    socket = Path(server.host, f".s.PGSQL.{server.port}")
    if server.host.startswith("/") and not socket.exists():
        return f"dial unix {socket}: connect: no such file or directory"
    return error.strip().rpartition("FATAL: ")[2].strip()


def open_database(config: Config) -> Database:
    """The database, ready for use, with the delay of `gc.reviewafter` in it.

    Raises:
        ConfigurationError: it does not exist, or has no tables.
    """
    if pending(config.database_file):
        raise ConfigurationError(
            "there are pending database migrations, use the 'registry database migrate' CLI command to check and "
            "apply them"
        )
    with connect(config.database_file) as connection:
        connection.execute("UPDATE gc_settings SET review_after = ?", (config.gc.review_after.total_seconds(),))
    return config.database_file


def one(connection: Connection, query: str, *values: object) -> Row | None:
    """The first row, or nothing."""
    row: Row | None = connection.execute(query, values).fetchone()
    return row


def find_repository(connection: Connection, path: str) -> Row | None:
    """A repository by its path."""
    return one(connection, "SELECT * FROM repositories WHERE path = ?", path)


def ensure_repository(connection: Connection, path: str) -> int:
    """The ID of a repository, which is made if there is none."""
    connection.execute(
        "INSERT INTO repositories (path, created_at) VALUES (?, ?) ON CONFLICT (path) DO NOTHING", (path, now())
    )
    row = find_repository(connection, path)
    if row is None:
        raise sqlite3.DatabaseError(f"repository {path}")
    return int(row["id"])


def find_manifest(connection: Connection, repository: int, reference: str) -> Row | None:
    """A manifest by its digest or by a tag."""
    if reference.startswith("sha256:"):
        query = "SELECT * FROM manifests WHERE repository_id = ? AND digest = ?"
    else:
        query = (
            "SELECT manifests.* FROM tags JOIN manifests ON manifests.id = manifest_id "
            "WHERE tags.repository_id = ? AND name = ?"
        )
    return one(connection, query, repository, reference)


def add_blob(connection: Connection, repository: int, digest: str, size: int) -> None:
    """Content was uploaded to a repository, or mounted into it."""
    connection.execute("INSERT INTO blobs VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING", (digest, size, now()))
    connection.execute("INSERT OR IGNORE INTO repository_blobs VALUES (?, ?)", (repository, digest))


def blob_size(connection: Connection, path: str, digest: str) -> int | None:
    """Bytes of content that a repository has; None if it has none of that digest."""
    row = one(
        connection,
        "SELECT size FROM blobs JOIN repository_blobs USING (digest) JOIN repositories ON repositories.id = "
        "repository_id WHERE path = ? AND digest = ?",
        path,
        digest,
    )
    return None if row is None else int(row["size"])


def missing(connection: Connection, repository: int, document: Document) -> list[str]:
    """What a manifest refers to and the repository has not: configuration, layers, manifests, subject."""
    blobs = {
        row["digest"]
        for row in connection.execute("SELECT digest FROM repository_blobs WHERE repository_id = ?", (repository,))
    }
    wanted = [entry.digest for entry in document.manifests] + ([document.subject] if document.subject else [])
    lacks = [entry.digest for entry in document.blobs if entry.digest not in blobs]
    return lacks + [digest for digest in wanted if find_manifest(connection, repository, digest) is None]


def put_manifest(connection: Connection, repository: int, document: Document) -> int:
    """Store a manifest whose references are all there; answer its ID."""
    known = find_manifest(connection, repository, document.digest)
    if known is not None:
        return int(known["id"])
    subject = find_manifest(connection, repository, document.subject) if document.subject else None
    connection.execute(
        "INSERT INTO manifests (repository_id, digest, media_type, payload, total_size, config_digest, "
        "config_media_type, subject_id, artifact_type, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            repository,
            document.digest,
            document.media_type,
            document.payload,
            document.total_size,
            document.config.digest if document.config else None,
            document.config.media_type if document.config else None,
            subject["id"] if subject else None,
            document.artifact_type,
            now(),
        ),
    )
    added = find_manifest(connection, repository, document.digest)
    if added is None:
        raise sqlite3.DatabaseError(f"manifest {document.digest}")
    identity = int(added["id"])
    connection.executemany(
        "INSERT OR IGNORE INTO layers VALUES (?, ?, ?)",
        [(identity, layer.digest, layer.size) for layer in document.layers],
    )
    children = [find_manifest(connection, repository, entry.digest) for entry in document.manifests]
    connection.executemany(
        "INSERT OR IGNORE INTO manifest_references VALUES (?, ?)", [(identity, row["id"]) for row in children if row]
    )
    return identity


def put_tag(connection: Connection, repository: int, name: str, manifest: int) -> None:
    """Point a tag to a manifest."""
    moment = now()
    connection.execute(
        "INSERT INTO tags VALUES (?, ?, ?, ?, NULL) ON CONFLICT (repository_id, name) DO UPDATE SET "
        "manifest_id = excluded.manifest_id, updated_at = ?",
        (repository, name, manifest, moment, moment),
    )
    connection.execute("UPDATE repositories SET last_published_at = ? WHERE id = ?", (moment, repository))


def size(connection: Connection, path: str, *, descendants: bool) -> int:
    """Bytes of the layers that tagged images of a repository refer to, each counted once."""
    below = f"{path}/%" if descendants else path
    query = """
      WITH RECURSIVE used (id) AS (
        SELECT manifest_id FROM tags JOIN repositories ON repositories.id = repository_id WHERE path = ? OR path LIKE ?
        UNION SELECT child_id FROM manifest_references JOIN used ON used.id = parent_id
      )
      SELECT coalesce(sum(size), 0) FROM (
        SELECT DISTINCT layers.digest, layers.size FROM layers JOIN used ON used.id = manifest_id
      ) AS found
    """
    return int(connection.execute(query, (path, below)).fetchone()[0])


def tag_rows(connection: Connection, repository: int) -> list[Row]:
    """Tags of a repository by name, each with its manifest."""
    query = (
        "SELECT tags.name, tags.created_at, tags.updated_at, manifests.id AS manifest_id, digest, media_type, payload, "
        "total_size, config_digest, config_media_type FROM tags JOIN manifests ON manifests.id = manifest_id "
        "WHERE tags.repository_id = ? ORDER BY tags.name"
    )
    return connection.execute(query, (repository,)).fetchall()


def image_size(connection: Connection, repository: int, row: Row) -> int:
    """Bytes of an image; of an index, those of its images."""
    document = parse(row["payload"], row["media_type"])
    if not document.manifests:
        return int(row["total_size"])
    found = [find_manifest(connection, repository, entry.digest) for entry in document.manifests]
    return sum(int(child["total_size"]) for child in found if child)


def configuration_of(row: Row) -> dict[str, Any] | None:
    """The `config` object of an image in GitLab's API."""
    if row["config_digest"] is None:
        return None
    return {"digest": row["config_digest"], "media_type": row["config_media_type"]}


def names_in(payload: bytes) -> dict[str, Any]:
    """The JSON of a stored manifest."""
    found: dict[str, Any] = json.loads(payload)
    return found
