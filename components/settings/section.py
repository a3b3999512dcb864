"""What all sections of a stack file have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from components.settings.shown import shown


class Scope(StrEnum):
    """What a setting belongs to: what is promoted from one environment to the next, or the environment itself."""

    PROMOTED = "promoted"
    ENVIRONMENT = "environment"


#: For `json_schema_extra`, of a section or of one field in it.
PROMOTED: Final = {"scope": Scope.PROMOTED.value}
ENVIRONMENT: Final = {"scope": Scope.ENVIRONMENT.value}


class Contradiction(NamedTuple):
    """An error of several keys together, each of which is valid on its own.

    `keys` are the paths below the section that it depends on: it is not reported if one of them is invalid. `path` is
    the key that the message names, below the section; empty for the section itself.
    """

    keys: tuple[str, ...]
    message: str
    path: str = ""


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


def refuse_repeats(
    values: Sequence[str],
    what_happens: str = "the second one would have no effect",
    *,
    same: Callable[[str], str] = str,
) -> None:
    """Refuse a list that has an entry more than once.

    `what_happens` is the consequence of a second entry, for the message. Entries are alike if `same` returns the same
    for them: `str.lower` ignores their case.

    Raises:
        SectionError: an entry is repeated; the message names each of them once, as it is written first.
    """
    first: dict[str, str] = {}
    for one in values:
        first.setdefault(same(one), one)
    counts = Counter(same(one) for one in values)
    twice = [first[key] for key, count in counts.items() if count > 1]
    refuse(f"has {shown(one)} more than once; {what_happens}. Keep one of them" for one in twice)


def whole_number(value: Any) -> Any:
    """Refuse what Python would take for a whole number, but no user means as one.

    Raises:
        ValueError: it is none.
    """
    # Python takes true for 1, and digits with underscores, spaces or of other scripts for a number.
    if isinstance(value, bool) or (isinstance(value, str) and not (value.isascii() and value.isdigit())):
        message = "is not a whole number; it cannot be read. Write digits only"
        raise ValueError(message)
    return value


#: A whole number, as YAML or as `pulumi config set` writes it.
WholeNumber = Annotated[int, BeforeValidator(whole_number)]


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

    def contradictions(self) -> Iterator[Contradiction]:
        """Errors of several keys together. They are looked for even if there are invalid keys beside them."""
        return iter(())
