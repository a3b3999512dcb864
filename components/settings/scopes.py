"""Which settings are promoted from one environment to the next, and which belong to an environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from components.settings.errors import sections_of
from components.settings.section import Scope

#: By which key an entry of a list of sections is known, whatever its place in the list.
IDENTITIES: Final = {"groups": "path", "projects": "path", "runners": "name"}

#: The keys that lead to a setting. An entry of a list with identities is named by its identity.
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Leaf:
    """One setting with its value, after all defaults: a plain value of YAML, or the content of a secret."""

    path: Path
    value: Any
    is_set: bool
    is_secret: bool


def scope_of(model: type[BaseModel], field: FieldInfo) -> Scope:
    """What a setting belongs to: as its field says, else as its section says.

    Raises:
        KeyError: neither says it.
    """
    of_field = field.json_schema_extra if isinstance(field.json_schema_extra, Mapping) else {}
    of_section = model.model_config.get("json_schema_extra")
    declared = {**(of_section if isinstance(of_section, Mapping) else {}), **of_field}
    return Scope(str(declared["scope"]))


def scopes(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Scope]]:
    """Every setting below `model` by its keys, without those that users choose, and what it belongs to."""
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        if sections := sections_of(field.annotation):
            for section in sections:
                yield from scopes(section, path)
        else:
            yield path, scope_of(model, field)


def promoted(settings: BaseModel) -> Iterator[Leaf]:
    """All settings that are promoted, with their values."""
    yield from _promoted(settings, ())


def _promoted(section: BaseModel, prefix: Path) -> Iterator[Leaf]:
    model = type(section)
    for name, field in model.model_fields.items():
        path, value = (*prefix, field.alias or name), getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _promoted(value, path)
        elif sections_of(field.annotation):
            yield from _entries(value, path)
        elif scope_of(model, field) is Scope.PROMOTED:
            is_secret = isinstance(value, SecretStr)
            plain = value.get_secret_value() if isinstance(value, SecretStr) else _plain(value)
            yield Leaf(path, plain, name in section.model_fields_set, is_secret)


def _entries(value: Any, path: Path) -> Iterator[Leaf]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _promoted(entry, (*path, key))
    elif value is not None:
        identity = IDENTITIES.get(str(path[-1])) if len(path) == 1 else None
        for number, entry in enumerate(value):
            yield from _promoted(entry, (*path, getattr(entry, identity) if identity else number))


def _plain(value: Any) -> Any:
    """The value as a stack file has it."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int) else str(value)
