"""Property names in programs and in the API, names of access levels, and helpers to convert them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from tests.sandbox.plugins.base.framework import Field, Kind, PluginError
from tests.sandbox.plugins.base.properties import Properties

#: From the documentation of the API: "Access levels". 60 is only for protected branches.
ACCESS_LEVELS = {
    "no one": 0,
    "minimal": 5,
    "guest": 10,
    "planner": 15,
    "reporter": 20,
    "developer": 30,
    "maintainer": 40,
    "owner": 50,
    "admin": 60,
}


def camel(name: str) -> str:
    """`shared_runners_enabled` as `sharedRunnersEnabled`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def or_none(value: Any) -> Any:
    """The normal form of a text: an empty one and none are the same for GitLab."""
    return value or None


def fields(kind: Kind, names: Iterable[str], **options: Any) -> dict[str, Field]:
    """One field for each of the API's names, all of the same kind."""
    if kind is Kind.STRING:
        options.setdefault("normal", or_none)
    return {camel(name): Field(kind, **options) for name in names}


def own_names(names: Iterable[str]) -> dict[str, str]:
    """The API's names by the program's."""
    return {camel(name): name for name in names}


def to_api(names: Mapping[str, str], properties: Properties) -> Properties:
    """Body of a request: the properties that are there, under the API's names."""
    return {api: properties[name] for name, api in names.items() if properties.get(name) is not None}


def from_api(names: Mapping[str, str], body: Properties) -> Properties:
    """Properties that the API returned, under the program's names; missing ones are left out."""
    return {name: body[api] for name, api in names.items() if api in body}


def level_name(value: int) -> str:
    """The name of an access level.

    Raises:
        PluginError: it has none here.
    """
    for name, level in ACCESS_LEVELS.items():
        if level == value:
            return name
    raise PluginError(f"access level {value} has no name in the sandbox's plugin")


def instant(value: str) -> Any:
    """The normal form of a time: the same moment may be written in several ways. Without a zone it is in UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def day(value: str) -> Any:
    """The normal form of a date: GitLab gives some with a time."""
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return value
