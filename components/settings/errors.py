"""What a user did wrong, told so that it can be mended."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final

import pulumi
from pydantic import AliasChoices, BaseModel, SecretStr
from pydantic_core import ErrorDetails

#: What pydantic finds, in the words of this project: what is wrong, what would have happened, what to do. `{found}` is
#: what pydantic says itself, `{expected}` what it would have taken.
_SENTENCES: Final = {
    "bool_parsing": "is neither true nor false; it could not be read. Write true or false",
    "dict_type": "is not a section; its settings could not be read. Indent them below it, one a line",
    "model_type": "is not a section; its settings could not be read. Indent them below it, one a line",
    "enum": "is none of the choices; nobody could act on it. Take {expected}",
    "greater_than_equal": "is too small; it would be refused. Take {ge} or more",
    "int_from_float": "is not a whole number; it could not be read. Write it without a fraction",
    "int_parsing": "is not a whole number; it could not be read. Write digits only",
    "int_type": "is not a whole number; it could not be read. Write digits only",
    "literal_error": "is none of the choices; it would be refused. Take {expected}",
    "less_than_equal": "is too large; it would be refused. Take {le} or less",
    "string_type": "is not a text; it would be read as something else. Put it in quotes",
    "tuple_type": "is not a list; it could not be read. Write one entry a line, each after a dash",
}


class SettingsError(pulumi.RunError):
    """What a user did wrong in a stack file or in the environment: one line each, all of them, no traceback."""

    def __init__(self, errors: list[str]) -> None:
        """Keep the errors and make one message of them."""
        self.errors = errors
        noun = "mistake" if len(errors) == 1 else "mistakes"
        lines = "\n".join(f"  - {error}" for error in errors)
        super().__init__(f"{len(errors)} {noun} in the configuration; nothing was touched.\n{lines}")


def format_error(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """One error as a line: the key path first, then what is wrong, what would have happened and what to do."""
    location = [str(part) for part in detail["loc"]]
    path = ".".join(location)
    current = _current_name(location, model)
    if current and detail["type"] == "extra_forbidden":
        return f"{path}: is the former name of {current}, which is set as well; it would be ignored. Remove it"
    message = _message(detail, location, model)
    line = f"{path}: {message}" if path else message
    return f"{line}. The key is called {current} now" if current else line


def _message(detail: ErrorDetails, location: list[str], model: type[BaseModel]) -> str:
    path = ".".join(location)
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"is not a setting; it would have no effect. {_suggestion(location, model)}"
    if detail["type"] == "missing":
        secret = " --secret" if path in set(secret_paths(model)) else ""
        return f"is missing; nothing could be made without. Set it with: pulumi config set{secret} --path {path} …"
    sentence = _SENTENCES.get(detail["type"], "is refused; it would fail later. {found}")
    return sentence.format(found=detail["msg"], **detail.get("ctx", {}))


def secret_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Key paths of all secrets below `model`."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        options = getattr(field.annotation, "__args__", (field.annotation,))
        if SecretStr in options:
            yield path
        for section in _sections(field.annotation):
            yield from secret_paths(section, f"{path}.")


def _suggestion(location: list[str], model: type[BaseModel]) -> str:
    section = _section_of(location, model)
    known = [field.alias or name for name, field in section.model_fields.items()]
    close = difflib.get_close_matches(location[-1], known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(sorted(known))}"


def _current_name(location: list[str], model: type[BaseModel]) -> str | None:
    """The name of the key that `location` ends with, if the stack file uses its former one."""
    if not location:
        return None
    for field in _section_of(location, model).model_fields.values():
        former = field.validation_alias.choices[1:] if isinstance(field.validation_alias, AliasChoices) else []
        if location[-1] in former:
            return field.alias
    return None


def _section_of(location: list[str], model: type[BaseModel]) -> type[BaseModel]:
    """The section that the key at `location` is in; list positions and names of the user's choice are passed over."""
    for part in location[:-1]:
        found = [field for field in model.model_fields.values() if field.alias == part]
        model = next(iter(_sections(found[0].annotation)), model) if found else model
    return model


def _sections(annotation: Any) -> list[type[BaseModel]]:
    options = getattr(annotation, "__args__", (annotation,))
    return [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
