"""What a user got wrong, reported so that it can be fixed."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator
from typing import Any, Final, get_origin

import pulumi
from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from components.settings.section import SectionError
from components.settings.shown import on_one_line, shown

#: What pydantic reports, in this project's words: what is wrong, what would happen, what to do. `{found}` is pydantic's
#: own message; the other names are the context that it gives for that type of error.
_SENTENCES: Final = {
    "bool_parsing": "is neither true nor false; it cannot be read. Write true or false",
    "bool_type": "is neither true nor false; it cannot be read. Write true or false",
    "dict_type": "is not a section; its settings cannot be read. Indent them below it, one per line",
    "model_type": "is not a section; its settings cannot be read. Indent them below it, one per line",
    "enum": "is not a valid choice; it could not be applied. Use {expected}",
    "greater_than_equal": "is too small; it would be rejected. Use {ge} or more",
    "int_from_float": "is not a whole number; it cannot be read. Write it without a fraction",
    "int_parsing": "is not a whole number; it cannot be read. Write digits only",
    "int_type": "is not a whole number; it cannot be read. Write digits only",
    "literal_error": "is not a valid choice; GitLab would reject it. Use {expected}",
    "less_than_equal": "is too large; it would be rejected. Use {le} or less",
    "string_too_long": "is too long; it would be rejected. Use at most {max_length} characters",
    "string_type": "is not a string; it would be read as something else. Put it in quotes",
    "too_long": "has too many entries; it would be rejected. List at most {max_length}",
    "too_short": "has too few entries; there would be nothing to do. List at least {min_length}",
    "tuple_type": "is not a list; it cannot be read. Write one entry per line, each after a dash",
}

#: Where pydantic found an error: names of keys and indexes of lists.
Location = tuple[int | str, ...]


class SettingsError(pulumi.RunError):
    """What a user got wrong in a stack file or in the environment: all errors, one line each, without a traceback."""

    def __init__(self, errors: list[str]) -> None:
        """Keep the errors, and make one message of them."""
        self.errors = errors
        noun = "error" if len(errors) == 1 else "errors"
        lines = "\n".join(f"  - {error}" for error in errors)
        super().__init__(f"{len(errors)} {noun} in the configuration; nothing was changed.\n{lines}")


def format_errors(details: list[ErrorDetails], model: type[BaseModel]) -> list[str]:
    """All errors, one line each: the key path, what is wrong, what would happen, and what to do."""
    # An entry that is wrong does not count, so a list with one is called too short as well.
    wrong = {detail["loc"][:-1] for detail in details}
    short = [detail for detail in details if detail["type"] == "too_short" and detail["loc"] in wrong]
    each = [one for detail in details if detail not in short for one in _each(detail)]
    return [_format_error(detail, model) for detail in each]


def _each(detail: ErrorDetails) -> list[ErrorDetails]:
    """What pydantic reports as one error, because one validator has found it all."""
    error = detail.get("ctx", {}).get("error")
    messages = error.messages if isinstance(error, SectionError) else [detail["msg"]]
    return [{**detail, "msg": message} for message in messages]


def _format_error(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location = detail["loc"]
    current = _current_name(location, model)
    if current and detail["type"] == "extra_forbidden":
        message = f"is the former name of {current}, which is set as well; it would be ignored. Remove it"
        return line_of(location, message)
    message = _message(detail, model)
    return line_of(location, f"{message}. The key is now called {current}" if current else message)


def line_of(location: Location, message: str) -> str:
    """One line about the key at a location."""
    return on_one_line(f"{pulumi_path(location)}: {message}")


def _message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location = detail["loc"]
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"is not a setting; it would have no effect. {_suggestion(location, model)}"
    if detail["type"] == "missing":
        secret = "--secret " if _is_secret(location, model) else ""
        command = f"pulumi config set {secret}--path {shlex.quote(pulumi_path(location))} …"
        return f"is missing; nothing can be created without it. Set it with: {command}"
    sentence = _SENTENCES.get(detail["type"], "is invalid; it would fail later. {found}")
    return sentence.format(found=shown(detail["msg"]), **detail.get("ctx", {}))


def secret_paths(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each secret below `model`, with `*` for names that the user chooses."""
    for name, field in model.model_fields.items():
        path = (*prefix, field.alias or name)
        named = ("*",) if get_origin(field.annotation) is dict else ()
        if _holds_secret(field):
            yield (*path, *named)
        for section in sections_of(field.annotation):
            yield from secret_paths(section, (*path, *named))


def pulumi_path(location: Location) -> str:
    """A key path in the notation of `pulumi config set --path`."""
    return "".join(map(_step, location)).removeprefix(".")


def _step(part: int | str) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if re.fullmatch(r"[\w-]+", part, re.ASCII) else f'["{shown(part)}"]'


def location_of(path: str) -> Location:
    """The location at a key path of the program's own; those of users may have other characters."""
    return tuple(int(step) if step.isdigit() else step for step in re.findall(r"\w+", path))


def _is_secret(location: Location, model: type[BaseModel]) -> bool:
    fields = section_of(location, model).model_fields.values()
    return any(field.alias == location[-1] and _holds_secret(field) for field in fields)


def _holds_secret(field: FieldInfo) -> bool:
    return SecretStr in getattr(field.annotation, "__args__", (field.annotation,))


def _suggestion(location: Location, model: type[BaseModel]) -> str:
    known = [field.alias or name for name, field in section_of(location, model).model_fields.items()]
    nearest = nearest_key(location, model)
    return f"Did you mean {nearest}?" if nearest else f"Known keys: {', '.join(sorted(known))}"


def nearest_key(location: Location, model: type[BaseModel]) -> str | None:
    """The key that the unknown one at `location` was probably meant to be."""
    known = {
        (field.alias or name).lower(): field.alias for name, field in section_of(location, model).model_fields.items()
    }
    close = difflib.get_close_matches(str(location[-1]).lower().replace("_", ""), known, n=1)
    return known[close[0]] if close else None


def _current_name(location: Location, model: type[BaseModel]) -> str | None:
    """The current name of the key at `location`, if the stack file uses its former name."""
    if not location:
        return None
    for field in section_of(location, model).model_fields.values():
        former = field.validation_alias.choices[1:] if isinstance(field.validation_alias, AliasChoices) else []
        if location[-1] in former:
            return field.alias
    return None


def section_of(location: Location, model: type[BaseModel]) -> type[BaseModel]:
    """The section that the key at `location` is in; list indexes and names that the user chose are skipped."""
    for part in location[:-1]:
        found = [field for field in model.model_fields.values() if field.alias == part]
        model = next(iter(sections_of(found[0].annotation)), model) if found else model
    return model


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The models of sections that a field holds: one, or those of a list or a mapping."""
    options = getattr(annotation, "__args__", (annotation,))
    return [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
