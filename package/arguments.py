"""The settings of a stack file as types that the schema of a package can have."""

# No `annotations` of the future: the schema is read from the types themselves.

from collections.abc import Iterator, Mapping
from enum import Enum
from types import NoneType
from typing import Any, Literal, NotRequired, TypedDict, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

#: What has the same shape in all languages.
_SIMPLE = (bool, float, int, str)


def arguments_of(model: type[BaseModel]) -> Any:
    """Return a section as a `TypedDict` with the keys of the stack file.

    Secrets are not among them: the values of these types are plain, and previews show them. Whatever has no type in
    every language is `Any`.
    """
    keys = {
        str(field.alias): _entry(field) for field in model.model_fields.values() if not _is_secret(field.annotation)
    }
    return TypedDict(type_name(model), keys)  # type: ignore[operator]


def type_name(model: type[BaseModel]) -> str:
    """Return the name of the type of a section. SDKs add `Args` to it."""
    return model.__name__.removesuffix("Settings") or model.__name__


def descriptions_of(model: type[BaseModel]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Return what each key of each section at and below `model` is, by the name of the section's type."""
    fields = model.model_fields.values()
    yield type_name(model), {str(field.alias): field.description or "" for field in fields}
    for field in fields:
        for section in _sections(field.annotation):
            yield from descriptions_of(section)


def _entry(field: FieldInfo) -> Any:
    kind = _plain(field.annotation)
    return kind if field.is_required() else NotRequired[kind]


def _plain(kind: Any) -> Any:
    """The nearest type that the schema can have."""
    origin, inner = get_origin(kind), [one for one in get_args(kind) if one is not NoneType]
    if hasattr(kind, "__metadata__"):
        return _plain(kind.__origin__)
    if origin in {tuple, list}:
        return list[_plain(inner[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[str, _plain(inner[1])]  # type: ignore[misc]
    if origin is Literal:
        return _simple(type(inner[0]))
    return _plain(inner[0]) if len(inner) == 1 else _simple(kind)


def _simple(kind: Any) -> Any:
    if not isinstance(kind, type):
        return Any
    if issubclass(kind, BaseModel):
        return arguments_of(kind)
    return str if issubclass(kind, Enum) else kind if kind in _SIMPLE else Any


def _sections(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _sections(inner)


def _is_secret(kind: Any) -> bool:
    return kind is SecretStr or any(map(_is_secret, get_args(kind)))
