"""What does not go together with managed databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from components.settings.databases import Databases, needed_connections
from components.settings.section import Contradiction
from components.settings.server import Server

#: Settings of a server that is not used then, and of the connection, which is the stack's own.
_POSTGRESQL: Final = re.compile(r"\b(postgresql|pgbouncer|patroni|db_ssl\w+|databases)\b")
_VALKEY: Final = re.compile(r"\b(redis(?:_\w+)?)\b")


def database_conflicts(databases: Databases, server: Server, extra_configuration: str) -> Iterator[Contradiction]:
    """Keys of other sections that do not go with these."""
    postgresql = databases.postgresql
    needed = needed_connections(server)
    if postgresql.is_managed and postgresql.connections < needed:
        yield Contradiction(
            ("databases.postgresql", "server.size"),
            f"{postgresql.size} accepts {postgresql.connections} connections, and GitLab on {server.size} may need "
            f"{needed} at once; pages would fail under load. Use a size with more memory, at 25 connections a GiB",
            "databases.postgresql.size",
        )
    for name, engine, pattern in (("postgresql", postgresql, _POSTGRESQL), ("valkey", databases.valkey, _VALKEY)):
        if engine.is_managed and (found := pattern.search(extra_configuration)):
            yield Contradiction(
                (f"databases.{name}.kind", "gitlab.extraConfiguration"),
                f"sets {found[1]}, and databases.{name} is managed; the line would have no effect, or break the "
                f"connection. Remove the line, or set databases.{name}.kind to bundled",
                "gitlab.extraConfiguration",
            )
