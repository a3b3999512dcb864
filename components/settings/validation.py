"""All errors of a stack file at once: an invalid value hides no error of another one.

What is invalid is replaced by its default or by a placeholder, until the rest is valid. Errors of several keys together
are then looked for in what remains, except where they depend on a key that is invalid. Nothing is created with a
placeholder.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from components.settings.errors import Location, format_errors, line_of, location_of, nearest_key, section_of
from components.settings.section import Section
from components.settings.stack_file import Settings

#: What stands for required keys that are missing or invalid, by their paths. `{}` is the index of the entry.
_PLACEHOLDERS: Final[Mapping[str, Any]] = {
    "domain": "placeholder.invalid",
    "adminCidrs": ["192.0.2.1/32"],
    "registry.s3.accessKey": "placeholder",
    "registry.s3.bucket": "placeholder",
    "registry.s3.secretKey": "placeholder",
    "smtp.address": "smtp.placeholder.invalid",
    "smtp.from": "placeholder@placeholder.invalid",
    "signIn.oidc[].issuer": "https://placeholder-{}.invalid",
    "signIn.oidc[].clientId": "placeholder",
    "signIn.oidc[].clientSecret": "placeholder",
    "signIn.ldap.host": "ldap.placeholder.invalid",
    "signIn.ldap.base": "dc=placeholder,dc=invalid",
    "groups[].path": "placeholder-{}",
    "groups[].members[].user": "placeholder-{}",
    "projects[].path": "placeholder-{}",
    "projects[].members[].user": "placeholder-{}",
    "projects[].extraStages[].name": "placeholder-{}",
    "projects[].extraStages[].script": ["true"],
    "runners[].name": "placeholder-{}",
}


@dataclass(frozen=True)
class Validity:
    """Which keys of a stack file are invalid, by their locations."""

    invalid: frozenset[Location]

    def has(self, *paths: str) -> bool:
        """Whether everything at and below these key paths is valid on its own."""
        return all(self.has_at(location_of(path)) for path in paths)

    def has_at(self, location: Location) -> bool:
        """The same for one location."""
        return not any(_contains(location, one) or _contains(one, location) for one in self.invalid)


@dataclass(frozen=True)
class Validated:
    """The settings without what is invalid, which keys that are, and one line for each error."""

    settings: Settings
    validity: Validity
    errors: tuple[str, ...]


def validate(values: Mapping[str, Any]) -> Validated:
    """Check the settings of a stack file, each on its own and those of a section together."""
    document: dict[str, Any] = copy.deepcopy(dict(values))
    details: list[ErrorDetails] = []
    invalid: set[Location] = set()
    while True:
        try:
            settings = Settings.model_validate(document)
            break
        except ValidationError as error:
            found = [_with_aliases(one) for one in error.errors(include_url=False, include_input=False)]
        # Of what is left of a list or a section, nothing more can be said.
        details += [one for one in found if not any(_contains(one["loc"], other) for other in invalid)]
        invalid |= {place for one in found for place in _invalid(one)}
        # From the end, because entries are removed from lists.
        for one in reversed(found):
            _repair(document, one)
    validity = Validity(frozenset(invalid))
    lines = [*format_errors(details, Settings), *_contradictions(settings, (), validity)]
    return Validated(settings, validity, tuple(lines))


def _contradictions(section: Section, location: Location, validity: Validity) -> Iterator[str]:
    for one in section.contradictions():
        if all(validity.has_at((*location, *location_of(key))) for key in one.keys):
            yield line_of((*location, *location_of(one.path)), one.message)
    for name, field in type(section).model_fields.items():
        for step, value in _sections_in(getattr(section, name)):
            yield from _contradictions(value, (*location, field.alias or name, *step), validity)


def _sections_in(value: Any) -> Iterator[tuple[Location, Section]]:
    if isinstance(value, Section):
        yield (), value
    elif isinstance(value, tuple):
        yield from (((number,), one) for number, one in enumerate(value) if isinstance(one, Section))
    elif isinstance(value, Mapping):
        yield from (((key,), one) for key, one in value.items() if isinstance(one, Section))


def _with_aliases(detail: ErrorDetails) -> ErrorDetails:
    """The error of a default, which pydantic reports under the name of its field, under its key."""
    if detail["type"] == "extra_forbidden":
        return detail
    fields = section_of(detail["loc"], Settings).model_fields
    last = detail["loc"][-1]
    field = fields.get(str(last)) if isinstance(last, str) else None
    return {**detail, "loc": (*detail["loc"][:-1], field.alias)} if field and field.alias else detail


def _invalid(detail: ErrorDetails) -> Iterator[Location]:
    """What cannot be relied on after an error: its key, and the key that an unknown one was meant to be."""
    location = detail["loc"]
    yield location
    if detail["type"] == "extra_forbidden" and (meant := nearest_key(location, Settings)):
        yield (*location[:-1], meant)


def _repair(document: dict[str, Any], detail: ErrorDetails) -> None:
    """Replace what is invalid by its default or a placeholder, or the nearest section around it that has one."""
    location = detail["loc"]
    while location:
        container = _at(document, location[:-1])
        last = location[-1]
        if isinstance(container, list) and isinstance(last, int) and last < len(container):
            if (entry := _entry(location)) is None:
                # Of what is not a section nothing depends on the place in its list.
                del container[last]
            else:
                container[last] = entry
            return
        if isinstance(container, dict):
            was_there = last in container
            container.pop(last, None)
            placeholder = _placeholder(location)
            if placeholder is not None:
                container[last] = placeholder
                return
            if was_there:
                return
        location = location[:-1]
    message = f"{detail['type']} at {detail['loc']} cannot be repaired"
    raise AssertionError(message)


def _at(document: Any, location: Location) -> Any:
    """What is there, or None."""
    for step in location:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def _placeholder(location: Location) -> Any:
    """The placeholder of a key, or None."""
    found = _PLACEHOLDERS.get(_generic(location))
    numbers = [step for step in location if isinstance(step, int)]
    return found.format(*numbers[-1:]) if isinstance(found, str) else copy.deepcopy(found)


def _entry(location: Location) -> dict[str, Any] | None:
    """The placeholder of a section in a list, with all that it requires; None for an entry that is no section."""
    prefix = f"{_generic(location)}."
    keys = [path.removeprefix(prefix) for path in _PLACEHOLDERS if path.startswith(prefix)]
    return {key: _placeholder((*location, key)) for key in keys if "." not in key} or None


def _generic(location: Location) -> str:
    """The path of a setting, whatever the indexes of the lists around it."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in location).removeprefix(".")


def _contains(location: Location, other: Location) -> bool:
    """Whether a location is the other one or around it."""
    return other[: len(location)] == location
