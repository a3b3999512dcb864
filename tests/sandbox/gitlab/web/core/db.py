"""The database: a PostgreSQL server, or a SQLite file; a connection per request.

On a machine it is the bundled PostgreSQL or the one that `gitlab.rb` names, and `postgresql` gives connections that
look like SQLite's. In tests that run the application without a machine, it is a file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import cast

from . import postgresql

MIGRATIONS = Path(__file__).parent / "migrations"

Row = sqlite3.Row
Connection = sqlite3.Connection
#: Where a database is.
Database = Path | postgresql.Server


def now() -> str:
    """This moment, as GitLab writes it."""
    return written(datetime.now(UTC))


def written(moment: datetime) -> str:
    """A moment as GitLab writes it: in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(text: str) -> datetime:
    """The moment that a text names. One without a zone is in UTC, whatever the zone of the machine.

    Raises:
        ValueError: it is not a moment.
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def today() -> date:
    """This day in UTC."""
    return datetime.now(UTC).date()


def errors() -> tuple[type[Exception], ...]:
    """What a statement can raise."""
    try:
        return (sqlite3.Error, postgresql.driver().Error)
    except ModuleNotFoundError:
        return (sqlite3.Error,)


@contextmanager
def connect(database: Database) -> Iterator[Connection]:
    """A connection in a transaction: committed at the end, rolled back on an exception."""
    if isinstance(database, postgresql.Server):
        with postgresql.pool(database).connection() as other:
            yield cast(Connection, other)
        return
    connection = sqlite3.connect(database, timeout=20, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log this loses nothing when the process ends, and no request waits for a busy disk.
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            yield connection
    finally:
        connection.close()


def migrate(database: Database, directory: Path = MIGRATIONS) -> list[str]:
    """Bring the schema up to date; answer the names of the migrations that were run."""
    done = []
    file = isinstance(database, Path)
    with connect(database) as connection:
        if file:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_migrations (name TEXT PRIMARY KEY)")
        known = {row["name"] for row in connection.execute("SELECT name FROM schema_migrations")}
        for script in sorted(directory.glob("*.sql")):
            if script.name not in known:
                begin = "BEGIN;\n" if file else ""
                connection.executescript(f"{begin}{script.read_text()}\n")
                connection.execute("INSERT INTO schema_migrations VALUES (?)", (script.name,))
                connection.commit()
                done.append(script.name)
    return done


def one(connection: Connection, query: str, *values: object) -> Row | None:
    """The first row, or nothing."""
    row: Row | None = connection.execute(query, values).fetchone()
    return row


def insert(connection: Connection, table: str, **values: object) -> int:
    """Add a row; answer its id. `table` and the names are the program's own, never a client's."""
    if isinstance(connection, postgresql.Connection):
        return connection.insert(table, tuple(values), tuple(values.values()))
    names = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    cursor = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    if cursor.lastrowid is None:
        raise sqlite3.DatabaseError("no row id")
    return cursor.lastrowid
