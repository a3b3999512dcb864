"""The database as SQL, and back, by PostgreSQL's programs with GitLab's arguments (lib/backup/targets/database.rb)."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

from .core import postgresql
from .core.config import Config

PROGRAMS = Path("/opt/gitlab/embedded/bin")
#: What GitLab ignores: warnings, what `--clean` would have dropped, and what only a superuser may change.
_IGNORED = re.compile(r"WARNING:|does not exist$|must be owner of")
_DROPPED = (("VIEW", "pg_views", "viewname"), ("TABLE", "pg_tables", "tablename"))


class DumpError(Exception):
    """The database could not be written or read; PostgreSQL's words."""


def write(config: Config, file: Path) -> None:
    """Write the database as SQL, compressed.

    Raises:
        DumpError: `pg_dump` fails.
    """
    server = _server(config)
    done = _run("pg_dump", server, "--clean", "--if-exists", server.dbname)
    if done.returncode:
        raise DumpError(done.stderr.strip())
    file.write_bytes(gzip.compress(done.stdout.encode()))


def read(config: Config, file: Path) -> list[str]:
    """Remove all tables, then run the SQL; returns the errors of single statements, which stop nothing.

    Raises:
        DumpError: `psql` cannot connect; the tables are gone by then.
        OSError: the file is damaged.
        EOFError: it is not complete.
    """
    server = _server(config)
    _drop_tables(server)
    text = gzip.decompress(file.read_bytes()).decode()
    done = _run("psql", server, server.dbname, text=text)
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise DumpError(done.stderr.strip())
    return [line for line in done.stderr.splitlines() if not _IGNORED.search(line)]


def _drop_tables(server: postgresql.Server) -> None:
    with postgresql.pool(server).connection() as connection:
        for kind, catalog, column in _DROPPED:
            query = f"SELECT {column} AS name FROM {catalog} WHERE schemaname = 'public'"  # noqa: S608 - two names
            for row in connection.execute(query).fetchall():
                connection.run(f'DROP {kind} IF EXISTS "{row["name"]}" CASCADE')


def _server(config: Config) -> postgresql.Server:
    if not isinstance(config.database, postgresql.Server):
        raise DumpError("there is no server, and nothing to dump a file with")
    return config.database


def _run(program: str, server: postgresql.Server, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / program), *words]
    environment = os.environ | server.environment
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
