"""Backups: when, where, and for how long they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber, refuse_repeats
from components.settings.strings import Name, Region, matching

_MINUTES_OF_A_DAY: Final = 24 * 60
#: Hours between the start of a backup and its end that the age check allows by default.
_SLACK_HOURS: Final = 2


TimeOfDay = Annotated[
    str,
    AfterValidator(
        matching(
            r"([01]\d|2[0-3]):[0-5]\d",
            'is not a time of day; the timer would not start. Use one such as "02:30", in quotes',
        )
    ),
]


class Backup(Section):
    """Backups of GitLab, its registry and its configuration to a Space of their own."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    enabled: bool = Field(
        default=False, description="Whether backups are made. Those that are kept stay when it is turned off."
    )
    times: tuple[TimeOfDay, ...] = Field(
        default=("02:30",),
        description="The times of day, in UTC, at which a backup starts.",
        examples=[["02:30", "14:30"]],
    )
    keep_last: WholeNumber = Field(
        default=7, ge=1, le=1000, description="The number of backups that are kept, whatever their age."
    )
    keep_days: WholeNumber = Field(
        default=14,
        ge=0,
        le=3650,
        description="Backups younger than this are kept, whatever their number.",
        json_schema_extra={"unit": "days"},
    )
    max_age_hours: WholeNumber = Field(
        default=24 + _SLACK_HOURS,
        ge=1,
        le=24 * 365,
        description="`make verify` fails if the last complete backup is older than this.",
        json_schema_extra={"unit": "hours"},
    )
    prefix: Name = Field(default="gitlab", description="The folder in the Space that the backups are in.")
    spaces_region: Region | None = Field(
        default=None,
        description="The region of the Space. In another one than the server's, backups survive the loss of a region.",
        examples=["fra1"],
        json_schema_extra={"unset": "the value of `region`"},
    )

    @field_validator("times")
    @classmethod
    def _are_times(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            message = 'is empty; no backup would ever start. Give at least one, such as "02:30"'
            raise ValueError(message)
        refuse_repeats(value)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """A check that would fail between two backups."""
        longest = -(-self.longest_pause_minutes // 60)
        if self.max_age_hours <= longest:
            message = (
                f"has maxAgeHours {self.max_age_hours}, but up to {longest} hours between two backups; the check would "
                f"fail every day. Set maxAgeHours to {longest + _SLACK_HOURS} or more, or add times"
            )
            yield Contradiction(("maxAgeHours", "times"), message)

    @property
    def longest_pause_minutes(self) -> int:
        """The longest time between the starts of two backups."""
        starts = sorted(int(time[:2]) * 60 + int(time[3:]) for time in self.times)
        following = [*starts[1:], starts[0] + _MINUTES_OF_A_DAY]
        return max(after - before for before, after in zip(starts, following, strict=True))
