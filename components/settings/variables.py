"""CI/CD variables of projects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import ConfigDict, Field, SecretStr, field_validator

from components.settings.section import PROMOTED, Contradiction, Section
from components.settings.shown import shown

#: The only values that GitLab masks (Ci::Maskable, for values in which nothing is expanded).
_MASKABLE: Final = re.compile(r"\S{8,}")
#: Set by GitLab for every job; a variable of the project would take precedence.
_PREDEFINED: Final = re.compile(r"CI|CI_(?!DEBUG_).*|GITLAB_CI")
#: GitLab, Ci::Variable.
_LONGEST_VALUE: Final = 10_000


class Variable(Section):
    """A CI/CD variable of a project. Jobs get its value verbatim: nothing in it is expanded."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    value: SecretStr = Field(description="The value, which jobs get verbatim.")
    masked: bool = Field(default=True, description="Whether GitLab hides the value in job logs.")
    protected: bool = Field(
        default=False, description="Whether only jobs of protected branches and tags get the variable."
    )

    @field_validator("value")
    @classmethod
    def _fits(cls, value: SecretStr) -> SecretStr:
        if "\0" in value.get_secret_value():
            message = (
                "contains a NUL character, which no environment variable can hold; GitLab would reject it. "
                "Encode the value, for example with base64"
            )
            raise ValueError(message)
        if len(value.get_secret_value()) > _LONGEST_VALUE:
            message = (
                f"has more than {_LONGEST_VALUE} characters; GitLab would reject it. "
                "Keep it in a file that jobs download, and its password in the variable"
            )
            raise ValueError(message)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """A value that is to be masked, but cannot be."""
        if self.masked and not _MASKABLE.fullmatch(self.value.get_secret_value()):
            message = (
                "has a value that cannot be masked; GitLab would reject it. "
                "Use at least 8 characters without spaces or line breaks, or set masked to false"
            )
            yield Contradiction(("value", "masked"), message)


def variable_errors(key: str) -> Iterator[str]:
    """What is wrong with the name of a variable."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", key):
        yield (
            f"{shown(key)} is not a variable name; GitLab would reject it, or no shell could set it. "
            "Use at most 255 letters, digits and underscores, not starting with a digit"
        )
    elif _PREDEFINED.fullmatch(key):
        yield f"{shown(key)} is set by GitLab or the pipeline; jobs would use this value instead. Choose another name"
