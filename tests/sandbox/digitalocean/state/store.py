"""The state of the emulator: one SQLite file.

It holds everything that must survive a restart: records, counters, settings, the request log and the list of gaps. It
contains user data and keys, so only its owner can read it. All access is from the thread of the event loop, and changes
between two `await`s can be one transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.sandbox.digitalocean.models.base import Record, now

R = TypeVar("R", bound=Record)

#: Requests kept in the log.
LOG_LENGTH = 20_000

_SCHEMA = Path(__file__).with_name("schema.sql")


class Store:
    """Typed records over SQLite. Lists are in the order of creation."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or make the file; without a path the state lives as long as the store."""
        if path is not None:
            path.touch(mode=0o600, exist_ok=True)
            path.chmod(0o600)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA.read_text())
        self._depth = 0

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. May be nested; never held across an `await`."""
        if self._depth == 0:
            self._db.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._db.execute("COMMIT")

    def put(self, record: Record) -> None:
        """Store a record, new or changed."""
        self._db.execute(
            "INSERT INTO record (kind, key, body) VALUES (?, ?, ?)"
            " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
            (record.kind, record.key, record.model_dump_json()),
        )

    def get(self, model: type[R], key: str | int) -> R | None:
        """One record, or None."""
        row = self._db.execute("SELECT body FROM record WHERE kind = ? AND key = ?", (model.kind, str(key))).fetchone()
        return model.model_validate_json(row[0]) if row else None

    def all(self, model: type[R]) -> list[R]:
        """All records of a kind."""
        rows = self._db.execute("SELECT body FROM record WHERE kind = ? ORDER BY seq", (model.kind,))
        return [model.model_validate_json(body) for (body,) in rows]

    def where(self, model: type[R], **fields: str | int | None) -> list[R]:
        """The records of a kind whose fields have just these values."""
        condition = " AND ".join(f"json_extract(body, '$.{name}') IS ?" for name in fields)
        rows = self._db.execute(
            f"SELECT body FROM record WHERE kind = ? AND {condition} ORDER BY seq",  # noqa: S608 - names of fields
            (model.kind, *fields.values()),
        )
        return [model.model_validate_json(body) for (body,) in rows]

    def delete(self, record: Record) -> None:
        """Forget a record. It is fine if it is gone."""
        self._db.execute("DELETE FROM record WHERE kind = ? AND key = ?", (record.kind, record.key))

    def next_number(self, name: str, first: int) -> int:
        """The next number of a counter that starts at `first`; never the same twice, whatever was deleted."""
        row = self._db.execute(
            "INSERT INTO counter (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + 1"
            " RETURNING value",
            (name, first),
        ).fetchone()
        return int(row[0])

    def setting(self, name: str, default: Any = None) -> Any:
        """A value that was set, or the default."""
        row = self._db.execute("SELECT body FROM setting WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else default

    def set_setting(self, name: str, value: Any) -> None:
        """Remember a value that JSON can hold."""
        self._db.execute(
            "INSERT INTO setting (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
            (name, json.dumps(value)),
        )

    def log_request(self, method: str, path: str, status: int, milliseconds: float, fault: str | None) -> None:
        """Note one request: never its headers, query or body. Status 0 is a connection that was dropped."""
        cursor = self._db.execute(
            "INSERT INTO request (at, method, path, status, milliseconds, fault) VALUES (?, ?, ?, ?, ?, ?)",
            (now(), method, path, status, round(milliseconds, 1), fault),
        )
        self._db.execute("DELETE FROM request WHERE id <= ?", ((cursor.lastrowid or 0) - LOG_LENGTH,))

    def requests(self, after: int = 0) -> list[dict[str, Any]]:
        """The log, oldest first, from the entry after number `after`."""
        columns = ("id", "at", "method", "path", "status", "milliseconds", "fault")
        rows = self._db.execute(
            "SELECT id, at, method, path, status, milliseconds, fault FROM request WHERE id > ? ORDER BY id", (after,)
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def note_gap(self, method: str, path: str, detail: str) -> None:
        """Count one request for something that the emulator lacks."""
        self._db.execute(
            "INSERT INTO gap (method, path, detail, count, last_at) VALUES (?, ?, ?, 1, ?)"
            " ON CONFLICT (method, path, detail) DO UPDATE SET count = count + 1, last_at = excluded.last_at",
            (method, path, detail, now()),
        )

    def gaps(self) -> list[dict[str, Any]]:
        """What was asked for and is lacking."""
        columns = ("method", "path", "detail", "count", "last_at")
        rows = self._db.execute("SELECT method, path, detail, count, last_at FROM gap ORDER BY path, method")
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def wipe(self) -> None:
        """Forget all of it except counters: numbers are never given twice."""
        with self.transaction():
            for table in ("record", "setting", "request", "gap"):
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
