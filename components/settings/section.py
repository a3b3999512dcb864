"""What all sections of a stack file have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class RelatedKeyError(ValueError):
    """An error in another key than the one that is validated: `path`, below the section of that key."""

    def __init__(self, path: str, message: str) -> None:
        """Keep the path beside the message."""
        self.path = path
        super().__init__(message)


class Section(BaseModel):
    """A section of the stack file. Keys are in camel case, as Pulumi's own are; unknown keys are rejected.

    Each field is the only source of what users read about it: `description`, `default` and `examples`, and in
    `json_schema_extra` the `unit` of a number and, as `unset`, what applies where the default is not a fixed value.
    `make docs` writes them to `docs/settings.md` and `Pulumi.yaml`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )
