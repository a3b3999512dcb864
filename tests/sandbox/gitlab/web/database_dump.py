"""The database as SQL, and back: what GitLab does with `pg_dump` and `psql`, which work here with a server outside."""

from __future__ import annotations

import gzip
import os
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from .core import postgresql
from .core.config import Config

#: What GitLab ignores when it restores into a server without a superuser (`backup/targets/database.rb`).
_IGNORED = re.compile(r"ERROR:\s+must be owner of (extension|schema)|ERROR:\s+schema \"public\" already exists")


class DumpError(Exception):
    """The database could not be written or read; PostgreSQL's words."""


def write(config: Config, file: Path) -> None:
    """Write the database as SQL, compressed.

    Raises:
        DumpError: `pg_dump` fails.
    """
    if isinstance(config.database, postgresql.Server):
        done = _client("pg_dump", config.database, "--no-owner", "--no-privileges")
        if done.returncode:
            raise DumpError(done.stderr.strip())
        file.write_bytes(gzip.compress(done.stdout.encode()))
        return
    with closing(sqlite3.connect(config.database)) as source, gzip.open(file, "wt") as target:
        target.writelines(f"{line}\n" for line in source.iterdump())


def read(config: Config, file: Path) -> None:
    """Remove all tables, then run the SQL.

    Raises:
        DumpError: it does not run, or is that of the other kind of database; the tables are gone by then.
        OSError: it is damaged.
        EOFError: it is not complete.
    """
    text = gzip.decompress(file.read_bytes()).decode()
    if isinstance(config.database, postgresql.Server):
        _read_outside(config.database, text)
    else:
        _read_bundled(config.database, text)


def _read_outside(server: postgresql.Server, text: str) -> None:
    with postgresql.pool(server).connection() as connection:
        for kind, catalog in (("VIEW", "pg_views"), ("TABLE", "pg_tables")):
            column = catalog.removeprefix("pg_").removesuffix("s") + "name"
            query = f"SELECT {column} AS name FROM {catalog} WHERE schemaname = 'public'"  # noqa: S608 - two names
            for row in connection.execute(query).fetchall():
                connection.run(f'DROP {kind} IF EXISTS "{row["name"]}" CASCADE')
    if text.startswith("BEGIN TRANSACTION;"):
        raise DumpError(
            "this gitlab-ce is a stand-in and reads no backup of its bundled database into a server outside"
        )
    done = _client("psql", server, "--no-psqlrc", "--quiet", "--output", "/dev/null", text=text)
    failures = [line for line in done.stderr.splitlines() if "ERROR:" in line and not _IGNORED.search(line)]
    if failures or done.returncode:
        raise DumpError("\n".join(failures) or done.stderr.strip())


def _read_bundled(database: Path, text: str) -> None:
    with closing(sqlite3.connect(":memory:")) as fresh, closing(sqlite3.connect(database)) as target:
        try:
            fresh.executescript(text)
        except sqlite3.Error as error:
            with closing(sqlite3.connect(":memory:")) as nothing:
                nothing.backup(target)
            raise DumpError(str(error)) from error
        fresh.backup(target)


def _client(program: str, server: postgresql.Server, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | server.environment
    return subprocess.run([program, *words], env=environment, input=text, capture_output=True, text=True, check=False)
