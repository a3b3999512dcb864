"""The registry's configuration: the file `config.yml` that `gitlab-ctl reconfigure` writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import yaml

from .durations import duration
from .postgresql import Server

#: Before the folder of a database in a file: of tests alone.
_FILE = "file:"
_SHARED = ("cache", "delete", "redirect", "maintenance")


class ConfigurationError(ValueError):
    """The registry does not start with this configuration."""


@dataclass(frozen=True)
class Token:
    """Where clients get their tokens, and what is in a good one."""

    realm: str
    service: str
    issuer: str
    certificate: Path


@dataclass(frozen=True)
class Collection:
    """Settings of the online garbage collection (section `gc`)."""

    disabled: bool
    review_after: timedelta
    max_backoff: timedelta
    no_idle_backoff: bool
    manifest_interval: timedelta
    blob_interval: timedelta


@dataclass(frozen=True)
class Config:
    """What the part in front of the distribution needs to know."""

    host: str
    port: int
    token: Token
    driver: str
    storage: dict[str, Any]
    read_only: bool
    notifies: bool
    database: Literal["true", "false", "prefer"]
    #: The server that the section names; a file where the registry runs without a machine.
    database_file: Path | Server = field(repr=False)
    gc: Collection

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read `config.yml`.

        Raises:
            ConfigurationError: a value is not what the registry expects.
        """
        document: dict[str, Any] = yaml.safe_load(path.read_text())
        host, _, port = document["http"]["addr"].rpartition(":")
        auth, storage = document["auth"]["token"], document["storage"]
        driver = next(name for name in storage if name not in _SHARED)
        database = document.get("database") or {}
        readonly = (storage.get("maintenance") or {}).get("readonly") or {}
        return cls(
            host=host,
            port=int(port),
            token=Token(auth["realm"], auth["service"], auth["issuer"], Path(auth["rootcertbundle"])),
            driver="s3" if driver in ("s3", "s3aws", "s3_v2") else driver,
            storage=storage[driver] or {},
            read_only=readonly.get("enabled") is True,
            notifies=bool(document.get("notifications")),
            database=_enabled(database.get("enabled", False)),
            database_file=_place(database),
            gc=_collection(document.get("gc") or {}),
        )


def _place(database: dict[str, Any]) -> Path | Server:
    host, name = str(database.get("host", "")), str(database.get("dbname", "registry"))
    if host.startswith(_FILE):
        return Path(host.removeprefix(_FILE)) / f"{name}.sqlite3"
    return Server(
        host=host,
        port=int(database.get("port", 5432)),
        user=str(database.get("user", "registry")),
        dbname=name,
        sslmode=str(database.get("sslmode", "prefer")),
        sslrootcert=database.get("sslrootcert"),
        password=str(database.get("password", "")),
    )


def _enabled(value: object) -> Literal["true", "false", "prefer"]:
    match str(value).lower():
        case "true" | "false" | "prefer" as known:
            return known
    raise ConfigurationError(f"configuration error: database.enabled is true, false or prefer, not {value!r}")


def _collection(given: dict[str, Any]) -> Collection:
    try:
        return Collection(
            disabled=given.get("disabled") is True,
            review_after=duration(given.get("reviewafter", "24h")),
            max_backoff=duration(given.get("maxbackoff", "24h")),
            no_idle_backoff=given.get("noidlebackoff") is True,
            manifest_interval=duration((given.get("manifests") or {}).get("interval", "5s")),
            blob_interval=duration((given.get("blobs") or {}).get("interval", "5s")),
        )
    except ValueError as error:
        raise ConfigurationError(f"configuration error: gc: {error}") from None
