"""The section of a stack file about groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from components.settings.gitlab_names import Group
from components.settings.members import Member
from components.settings.section import ENVIRONMENT, PROMOTED, Contradiction, Section, refuse_repeats
from components.settings.shown import shown
from components.settings.strings import PublicText, matching

#: What GitLab accepts for a new group: a part of the names of images (`Gitlab::Regex.oci_repository_path_regex`).
_NEW: Final = re.compile(r"[a-zA-Z0-9]+([._-][a-zA-Z0-9]+)*")
#: `app/models/namespace.rb`
_LONGEST_DESCRIPTION: Final = 500
GroupId = Annotated[
    str,
    AfterValidator(
        matching(
            r"[1-9]\d{0,18}",
            "is not a group ID; no group could be found. Use the group ID shown on the group's page",
        )
    ),
]
#: `Gitlab::Regex.group_name_regex`, without what cannot be seen.
GroupName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?!.*[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff])"
            r"[\w\u00a9-\U0001f9ff][\w\u00a9-\U0001f9ff() .\u2010-\u2015-]{0,254}",
            "is not the name of a group; GitLab would reject it. Use at most 255 letters, digits, spaces, dots, dashes "
            "and parentheses, with a letter or a digit first",
        )
    ),
]


class GroupSettings(Section):
    """A group of projects, or of other groups: its full path says which one it is in.

    An imported group (`import_id`) keeps everything that is not set here.
    """

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    path: Group = Field(
        description="The full path of the group, which identifies it. The group around it is another entry, or exists.",
        examples=["team/apps"],
    )
    name: GroupName | None = Field(
        default=None,
        description="The name shown in GitLab.",
        examples=["Applications"],
        json_schema_extra={"unset": "the last part of `path`; unchanged if imported"},
    )
    description: PublicText | None = Field(
        default=None,
        max_length=_LONGEST_DESCRIPTION,
        description="The description shown in GitLab.",
        json_schema_extra={"unset": "none; unchanged if imported"},
    )
    visibility: Literal["private", "internal", "public"] | None = Field(
        default=None,
        description="Who can see the group. Nothing in it is seen by more people.",
        json_schema_extra={"unset": "`private`; unchanged if imported"},
    )
    import_id: GroupId | None = Field(
        default=None,
        description="The ID of an existing group to import, see below. It stays in GitLab when it leaves the stack.",
        examples=["7"],
        json_schema_extra={**ENVIRONMENT},
    )
    members: tuple[Member, ...] = Field(
        default=(),
        description="Who works in all projects of the group. Users can only exist once GitLab is up, so add them in a "
        "later update.",
        json_schema_extra={**ENVIRONMENT, "unset": "nobody but `root`, who owns it"},
    )

    @field_validator("members")
    @classmethod
    def _are_different_users(cls, value: tuple[Member, ...]) -> tuple[Member, ...]:
        refuse_repeats([one.user for one in value], "a user has one access only", same=str.lower)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """A path that only an older group can have."""
        wrong = [part for part in self.path.split("/") if not _NEW.fullmatch(part)]
        if wrong and not self.imported:
            message = (
                f"{shown(wrong[0])} cannot be part of the names of images; GitLab would reject it. Use letters and "
                "digits, with single dots, dashes or underscores between them"
            )
            yield Contradiction(("importId", "path"), message, "path")

    @property
    def imported(self) -> bool:
        """Whether the group existed before the stack."""
        return self.import_id is not None

    @property
    def key(self) -> str:
        """Its path as it is compared: GitLab ignores the case."""
        return self.path.lower()
