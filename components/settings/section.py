"""What all sections of a stack file have in common."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Scope(StrEnum):
    """What a setting belongs to: what is promoted from one environment to the next, or the environment itself."""

    PROMOTED = "promoted"
    ENVIRONMENT = "environment"


#: For `json_schema_extra`, of a section or of one field in it.
PROMOTED: Final = {"scope": Scope.PROMOTED.value}
ENVIRONMENT: Final = {"scope": Scope.ENVIRONMENT.value}


class RelatedKeyError(ValueError):
    """An error in another key than the one that is validated: `path`, below the section of that key."""

    def __init__(self, path: str, message: str) -> None:
        """Keep the path beside the message."""
        self.path = path
        super().__init__(message)


class SectionError(ValueError):
    """Several errors of one key, each of which is reported in a line of its own."""

    def __init__(self, messages: list[str]) -> None:
        """Keep the messages."""
        self.messages = messages
        super().__init__("; ".join(messages))


def refuse(messages: Iterable[str]) -> None:
    """End a validator with all of its `messages`; without any, the value is accepted.

    Raises:
        SectionError: there is a message.
    """
    if found := list(messages):
        raise SectionError(found)


class Section(BaseModel):
    """A section of the stack file. Keys are in camel case, as Pulumi's own are; unknown keys are rejected.

    Each field is the only source of what users read about it: `description`, `default` and `examples`, and in
    `json_schema_extra` the `unit` of a number and, as `unset`, what applies where the default is not a fixed value.
    Each section says there what its settings belong to (`PROMOTED` or `ENVIRONMENT`); a field may say otherwise.
    `make docs` writes them to `docs/settings.md` and `Pulumi.yaml`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )
