"""Alerts: who is notified, and of what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from components.settings.notifications import Notifications, Slack
from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber, refuse_repeats
from components.settings.strings import email_address

Recipient = Annotated[
    str,
    AfterValidator(email_address("DigitalOcean would reject it, and no alert would be created")),
]

#: The regions from which DigitalOcean can request a target.
CheckRegion = Literal["us_east", "us_west", "eu_west", "se_asia"]


class Alerts(Section):
    """Alerts by mail and in Slack. Without a recipient there are none."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    email: tuple[Recipient, ...] = Field(
        default=(),
        description="Who gets alerts by mail. DigitalOcean accepts verified addresses of members of its team only.",
        examples=[["ops@example.com"]],
    )
    slack: Slack | None = Field(default=None, description="The channel of Slack that gets alerts.")
    regions: tuple[CheckRegion, ...] = Field(
        default=("us_east", "eu_west"),
        description="The regions from which the sign-in page and the registry are requested. An alert fires once "
        "none of them gets an answer.",
    )
    certificate_days: WholeNumber = Field(
        default=14,
        ge=1,
        le=60,
        description="An alert fires if the certificate is valid for fewer days. GitLab renews one of Let's Encrypt "
        "30 days before it expires.",
        json_schema_extra={"unit": "days"},
    )

    disk_percent: WholeNumber = Field(
        default=85,
        ge=1,
        le=99,
        description="An alert fires if the root disk of a machine, or the data volume, is fuller than this.",
        json_schema_extra={"unit": "percent"},
    )
    memory_percent: WholeNumber = Field(
        default=90,
        ge=1,
        le=99,
        description="An alert fires if a machine uses more of its memory than this for 10 minutes.",
        json_schema_extra={"unit": "percent"},
    )
    load_per_cpu: WholeNumber = Field(
        default=3,
        ge=1,
        le=100,
        description="An alert fires if the load of a machine, as an average of 15 minutes, is more than this for each "
        "of its CPUs for 30 minutes.",
    )
    pipelines: Notifications | None = Field(
        default=None,
        description="Who is notified of failed pipelines of all projects that say nothing else; GitLab notifies them.",
        json_schema_extra={"unset": "nobody"},
    )

    @field_validator("email")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value, "it would get each alert more than once", same=str.lower)
        return value

    @field_validator("regions")
    @classmethod
    def _are_regions(cls, value: tuple[CheckRegion, ...]) -> tuple[CheckRegion, ...]:
        if not value:
            message = "is empty; nothing would be checked. Give at least one, such as us_east"
            raise ValueError(message)
        refuse_repeats(value)
        return value

    @property
    def enabled(self) -> bool:
        """Whether DigitalOcean notifies anybody."""
        return bool(self.email or self.slack)

    def contradictions(self) -> Iterator[Contradiction]:
        """Conditions without anybody to notify."""
        # The defaults themselves ask for nothing: `make new` writes them all.
        if not self.enabled and self != Alerts(pipelines=self.pipelines):
            message = "has neither email nor slack; nobody would be notified. Add one of them, or remove alerts"
            yield Contradiction(("email", "slack"), message)
        if self.pipelines and not self.pipelines.enabled:
            message = "has neither email nor slack; nobody would be notified. Add one of them, or remove it"
            yield Contradiction(("pipelines",), message, "pipelines")
