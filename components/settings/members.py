"""Members of projects: users of GitLab, and what they may do."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field

from components.settings.gitlab_names import ADMINISTRATOR
from components.settings.section import ENVIRONMENT, Section
from components.settings.shown import shown

#: As `lib/gitlab/path_regex.rb` has it for the paths of namespaces.
_USER: Final = re.compile(r"[a-zA-Z0-9_.][a-zA-Z0-9_.-]{0,254}")


def _user(value: str) -> str:
    if not _USER.fullmatch(value):
        message = (
            f"{shown(value)} is not the name of a user; nobody could be found. Use the name that GitLab shows after @, "
            "without the @"
        )
        raise ValueError(message)
    if value.lower() == ADMINISTRATOR:
        message = f"{shown(value)} is the administrator, who may do everything; it would have no effect. Remove it"
        raise ValueError(message)
    return value


class Member(Section):
    """A user of GitLab who works in a project."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    user: Annotated[str, AfterValidator(_user)] = Field(
        description="The name of a user that GitLab has, as it is after the @.", examples=["jane"]
    )
    access: Literal["guest", "planner", "reporter", "developer", "maintainer", "owner"] = Field(
        default="developer",
        description="What the user may do. A `developer` pushes branches and pulls images; a `maintainer` also changes "
        "the default branch and what is released.",
    )
