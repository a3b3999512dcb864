"""CI variables of the instance, of groups and of projects."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import db, sealing
from .config import Config
from .errors import ApiError, rejected

KEY = re.compile(r"[a-zA-Z0-9_]{1,255}\Z")
#: What can be hidden in a log: one line without spaces, not too short; where variables in it are expanded, also none
#: of the characters that these are written with.
MASKABLE = re.compile(r"[a-zA-Z0-9_+=/@:.~-]{8,}\Z")
MASKABLE_RAW = re.compile(r"\S{8,}\Z")
TYPES = ("env_var", "file")


@dataclass(frozen=True)
class Variable:
    """A variable as a job gets it."""

    key: str
    value: str
    masked: bool = False
    raw: bool = False
    file: bool = False


def for_jobs(
    connection: db.Connection, config: Config, project: db.Row, ref_protected: bool, environment: str | None = None
) -> list[Variable]:
    """Variables for a job of a project, the weakest first: of the instance, of its groups from outside in, its own.

    Protected ones only for a protected ref, those with an environment's scope only for a job with that environment. A
    later one of the same name is meant to win: of one owner, the one whose scope says most.
    """
    owners: list[tuple[str, int | None]] = [("project_id IS NULL AND namespace_id IS ?", None)]
    chain: list[int] = []
    namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", project["namespace_id"])
    while namespace is not None:
        chain.insert(0, namespace["id"])
        namespace = db.one(connection, "SELECT * FROM namespaces WHERE id = ?", namespace["parent_id"])
    owners += [("namespace_id = ?", identity) for identity in chain]
    owners.append(("project_id = ?", project["id"]))
    found = []
    for condition, identity in owners:
        rows = connection.execute(f"SELECT * FROM variables WHERE {condition} ORDER BY id", (identity,))  # noqa: S608
        fitting = [row for row in rows if ref_protected or not row["protected"]]
        ranked = [(_rank(row["environment_scope"], environment), row) for row in fitting]
        found += [row for rank, row in sorted(ranked, key=lambda pair: pair[0]) if rank]
    return [
        Variable(
            key=row["key"],
            value=sealing.unseal(config, row["encrypted_value"]),
            masked=bool(row["masked"]),
            raw=bool(row["raw"]),
            file=row["variable_type"] == "file",
        )
        for row in found
    ]


def _rank(scope: str, environment: str | None) -> int:
    """How much a scope says of an environment: 0 when it is of another, 1 for all, then a pattern, then its name."""
    if scope == "*":
        return 1
    if environment is None:
        return 0
    if scope == environment:
        return 3
    pattern = ".*".join(re.escape(part) for part in scope.split("*"))
    return 2 if re.fullmatch(pattern, environment) else 0


def check_key(key: str) -> None:
    """Refuse a name that a shell could not have."""
    if not KEY.match(key):
        raise rejected("key", "can contain only letters, digits and '_'.")


def check_value(value: str, masked: bool, raw: bool) -> None:
    """Refuse a value that could not be masked, or is too long."""
    if len(value) > 10_000:
        raise rejected("value", "is too long (maximum is 10000 characters)")
    if masked and not (MASKABLE_RAW if raw else MASKABLE).match(value):
        raise rejected("value", "is invalid")


def taken(key: str) -> ApiError:
    """A variable of this name is there."""
    return ApiError(400, {"message": {"key": [f"({key}) has already been taken"]}})
