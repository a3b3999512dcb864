"""The engines of managed databases."""

from __future__ import annotations

from typing import Final

from components.settings import DatabaseSettings, Settings

#: As settings, logical names and the names of clusters have them.
POSTGRESQL, VALKEY = "postgresql", "valkey"
ENGINES: Final = (POSTGRESQL, VALKEY)


def wanted_engines(settings: Settings) -> list[str]:
    """The engines that are to be managed."""
    return [engine for engine in ENGINES if settings_of(settings, engine).is_managed]


def settings_of(settings: Settings, engine: str) -> DatabaseSettings:
    """The section of an engine."""
    databases = settings.databases
    return databases.postgresql if engine == POSTGRESQL else databases.valkey
