"""What every part of a stack file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Section(BaseModel):
    """A part of the stack file. Keys are in camel case there, as in Pulumi's own; unknown ones are refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )
