"""What `gitlab-rake db:migrate` does: the schema of each release on the way, and the background migrations of each."""

from __future__ import annotations

import re
from pathlib import Path

from . import background_migrations, db


class MigrationError(Exception):
    """A migration failed; all later ones were not run."""


def migrate(path: db.Database, version: str, folder: Path = db.MIGRATIONS) -> list[str]:
    """Bring a database to a version; answer the names of the schema migrations that were run.

    A new database has no data to migrate, so nothing is queued. What was run before a failure is not run again.

    Raises:
        MigrationError: a migration failed; its words are those of PostgreSQL where an object exists already.
    """
    done = _schema(path, folder)
    with db.connect(path) as connection:
        last = db.one(connection, "SELECT version FROM installed_versions ORDER BY id DESC")
    wanted = _release(version)
    if last is None or last["version"] != version:
        for release in sorted(_release(sub.name) for sub in folder.iterdir() if sub.is_dir()):
            if release <= wanted:
                done += _to(path, folder, release, upgrade=last is not None and release > _release(last["version"]))
        with db.connect(path) as connection:
            db.insert(connection, "installed_versions", version=version)
    return done


def _to(path: db.Database, folder: Path, release: tuple[int, int], *, upgrade: bool) -> list[str]:
    if upgrade:
        try:
            background_migrations.require_finished(path, release)
        except background_migrations.UnfinishedError as error:
            raise MigrationError(str(error)) from error
    done = _schema(path, folder / f"{release[0]}.{release[1]}")
    if upgrade:
        with db.connect(path) as connection:
            background_migrations.queue(connection, release)
    return done


def _schema(path: db.Database, folder: Path) -> list[str]:
    try:
        return db.migrate(path, folder)
    except db.errors() as error:
        # A file's words are not the server's.
        found = re.match(r"(?:index|table) (\S+) already exists", str(error))
        kind, words = (
            ("DuplicateTable", f'relation "{found[1]}" already exists') if found else (type(error).__name__, error)
        )
        raise MigrationError(f"PG::{kind}: ERROR:  {words}") from error


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
