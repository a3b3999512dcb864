"""What policies read of resources and settings. Whatever a preview does not know yet is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pulumi
from pulumi_policy.proxy import UnknownValueError


def known(properties: Any, key: str | int, default: Any = None) -> Any:
    """A property; `default` if it is not there, or not known before the update."""
    try:
        return properties[key]
    except (KeyError, IndexError, TypeError, UnknownValueError):
        return default


def items(properties: Any, key: str) -> list[Any]:
    """The known entries of a list; none if there is no such list."""
    found = known(properties, key)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [entry for entry in (known(found, place) for place in range(len(found))) if entry is not None]


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every known string at and below a value, with the path that leads to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key in value:
            yield from strings(known(value, key), f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence):
        for place in range(len(value)):
            yield from strings(known(value, place), f"{path}[{place}]")


def section(key: str) -> Any:
    """A section or a list of the stack file by its top-level key, such as `gitlab`; None if it is not set."""
    return pulumi.Config().get_object(key)
