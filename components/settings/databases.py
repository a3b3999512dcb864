"""Where GitLab's tables are, and what it keeps in memory: in servers of its package, or in DigitalOcean's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber, whole_number
from components.settings.server import Server
from components.settings.strings import matching

_SIZE: Final = re.compile(r"-(\d+)vcpu-(\d+)gb")
#: DigitalOcean: a primary node and up to two standby nodes.
_MOST_STANDBYS: Final = 2
#: DigitalOcean, storage scaling.
_STORAGE_STEP_GB: Final = 10
#: DigitalOcean, limits of PostgreSQL: connections per GiB of memory, three of which it keeps, and the most of them.
_CONNECTIONS_PER_GB, _KEPT_CONNECTIONS, _MOST_CONNECTIONS = 25, 3, 1000
#: GitLab, "Tune PostgreSQL": threads of each worker of Puma; those of Sidekiq, whose own is one more; and what each
#: process may open beyond its threads.
_PUMA_THREADS, _SIDEKIQ_THREADS, _POOL_HEADROOM = 4, 10 + 1, 10
#: Since GitLab 16, each process has two pools: the tables of CI have connections of their own.
_POOLS: Final = 2
#: What the registry opens at most; without a limit it would be any number.
REGISTRY_CONNECTIONS: Final = 20
#: One each for backups, consoles and migrations.
_OTHER_CONNECTIONS: Final = 3
#: GitLab, Puma: with up to this much memory the stack turns workers off, or has two.
_SINGLE_PUMA_GB, _TWO_WORKERS_GB = 4, 8

DatabaseSlug = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z0-9]+-[a-z0-9.-]+",
            "is not a size of databases; no cluster could be created. Use one such as db-s-1vcpu-2gb",
        )
    ),
]


#: In GiB; the range is that of all sizes.
StorageSize = Annotated[int, Field(ge=10, le=30720), BeforeValidator(whole_number)]


class DatabaseKind(StrEnum):
    """Who runs a database: the server's own package, or DigitalOcean."""

    BUNDLED = "bundled"
    MANAGED = "managed"


class Day(StrEnum):
    """A day of the week."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


class DatabaseSettings(Section):
    """What both engines have in common."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    kind: DatabaseKind
    size: str
    standby_nodes: WholeNumber = Field(
        default=0,
        ge=0,
        le=_MOST_STANDBYS,
        description="How many nodes stand by to replace the first one. Each costs as much as that.",
        json_schema_extra={"unit": "nodes"},
    )

    @property
    def is_managed(self) -> bool:
        """Whether DigitalOcean runs it."""
        return self.kind is DatabaseKind.MANAGED

    def contradictions(self) -> Iterator[Contradiction]:
        """Nodes of a cluster that is not there."""
        keys = sorted(to_camel(name) for name in self.model_fields_set - {"kind"})
        if keys and not self.is_managed:
            yield Contradiction(
                ("kind", *keys),
                f"has {', '.join(keys)}, but kind is {self.kind}; that would be ignored. Set kind to managed, or "
                "remove it",
            )


class Postgresql(DatabaseSettings):
    """The server of GitLab's tables, and of those of the registry."""

    kind: DatabaseKind = Field(
        default=DatabaseKind.BUNDLED,
        description="Where the tables of GitLab and its registry are: `bundled` is the PostgreSQL of GitLab's package, "
        "on the data volume; `managed` is a cluster that DigitalOcean runs. A change moves the tables, and GitLab "
        "stands still meanwhile.",
    )
    size: DatabaseSlug = Field(
        default="db-s-4vcpu-8gb",
        description="The size slug of the cluster's nodes. A change resizes it while it runs.",
    )
    storage_size_gb: StorageSize | None = Field(
        default=None,
        description="The storage of the cluster, in steps of 10 GiB and in the range of its size. It can only grow.",
        examples=[160],
        json_schema_extra={"unit": "GiB", "unset": "what the size includes"},
    )

    @field_validator("storage_size_gb")
    @classmethod
    def _is_in_steps(cls, value: int | None) -> int | None:
        if value is not None and value % _STORAGE_STEP_GB:
            message = (
                f"{value} is not a multiple of {_STORAGE_STEP_GB}; DigitalOcean would reject it. "
                f"Use {value + -value % _STORAGE_STEP_GB}"
            )
            raise ValueError(message)
        return value

    @property
    def connections(self) -> int:
        """How many connections the size accepts; more than enough if the slug does not say."""
        found = _SIZE.search(self.size)
        if not found:
            return _MOST_CONNECTIONS
        return min(int(found[2]) * _CONNECTIONS_PER_GB, _MOST_CONNECTIONS) - _KEPT_CONNECTIONS


class Valkey(DatabaseSettings):
    """The server of what GitLab keeps in memory."""

    kind: DatabaseKind = Field(
        default=DatabaseKind.BUNDLED,
        description="Where GitLab's queue of jobs, its sessions and its cache are: `bundled` is the Redis of GitLab's "
        "package; `managed` is a cluster of Valkey that DigitalOcean runs. A change moves them, and GitLab stands "
        "still meanwhile.",
    )
    size: DatabaseSlug = Field(
        default="db-s-1vcpu-1gb",
        description="The size slug of the cluster's nodes. A change resizes it while it runs.",
    )


class Databases(Section):
    """GitLab's databases, and who runs them."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    postgresql: Postgresql = Field(
        default=Postgresql(), description="The server of GitLab's tables, and of those of the registry."
    )
    valkey: Valkey = Field(default=Valkey(), description="The server of what GitLab keeps in memory.")
    maintenance_day: Day = Field(
        default=Day.SUNDAY,
        description="The day on which DigitalOcean may install updates of managed databases, which interrupts GitLab "
        "for seconds.",
    )
    maintenance_hour: WholeNumber = Field(
        default=3,
        ge=0,
        le=23,
        description="The hour of that day. Choose one without a backup.",
        json_schema_extra={"unit": "UTC"},
    )

    @property
    def has_managed(self) -> bool:
        """Whether DigitalOcean runs one of them."""
        return self.postgresql.is_managed or self.valkey.is_managed

    def contradictions(self) -> Iterator[Contradiction]:
        """Maintenance of nothing."""
        for name in ("maintenance_day", "maintenance_hour"):
            if getattr(self, name) != type(self).model_fields[name].default and not self.has_managed:
                yield Contradiction(
                    ("postgresql.kind", "valkey.kind", to_camel(name)),
                    "is set, and no database is managed; it would be ignored. Remove it, or set the kind of one to "
                    "managed",
                    to_camel(name),
                )


def needed_connections(server: Server) -> int:
    """How many connections GitLab and the registry on a server of this size may have at the same time."""
    memory, cpus = server.memory_gb, server.cpus
    workers = 1 if memory <= _SINGLE_PUMA_GB else 2
    if memory > _TWO_WORKERS_GB:
        # As the package chooses: one for each processor, as far as memory allows.
        workers = max(2, min(cpus, memory - 2))
    pool = workers * (_PUMA_THREADS + _POOL_HEADROOM) + _SIDEKIQ_THREADS + _POOL_HEADROOM
    return pool * _POOLS + REGISTRY_CONNECTIONS + _OTHER_CONNECTIONS
