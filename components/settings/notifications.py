"""Who is notified of pipelines that fail: for all projects in `alerts`, or in one project for that project."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator

from components.settings.section import ENVIRONMENT, Section, refuse_repeats
from components.settings.strings import email_address, matching

#: The path of an incoming webhook: team, configuration and secret (api.slack.com/messaging/webhooks).
_WEBHOOK: Final = re.compile(r"/services/[A-Z0-9]+/[A-Z0-9]+/[A-Za-z0-9]+")
#: The hosts of webhooks: Slack, and GovSlack.
_SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")
#: GitLab, Integrations::Base::PipelinesEmail.
_MOST_RECIPIENTS: Final = 30

Channel = Annotated[
    str,
    AfterValidator(
        matching(
            r"#?[a-z0-9][a-z0-9._-]{0,79}",
            'is not the name of a channel; nobody would see the alerts. Use one such as "#ops", in quotes',
        )
    ),
]
Reader = Annotated[str, AfterValidator(email_address("no mail would arrive"))]


class Slack(Section):
    """A channel of Slack, and the webhook that writes to it."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    channel: Channel = Field(description="The channel that is written to.", examples=["#ops"])
    url: SecretStr = Field(
        description="The address of an incoming webhook of Slack. Whoever has it can write to the channel."
    )

    @field_validator("url")
    @classmethod
    def _is_a_webhook(cls, value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            valid = parts.scheme == "https" and parts.netloc in _SLACK_HOSTS and not parts.query + parts.fragment
        except ValueError:
            valid = False
        if not valid or not _WEBHOOK.fullmatch(parts.path):
            message = (
                "is not the address of an incoming webhook; no alert would reach Slack. Create a webhook for the "
                "channel, and use its whole address: https://hooks.slack.com/services/…"
            )
            raise ValueError(message)
        return value


class Notifications(Section):
    """Who is notified of pipelines, and of which. Without a recipient: nobody."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    email: tuple[Reader, ...] = Field(
        default=(),
        max_length=_MOST_RECIPIENTS,
        description="Who gets a mail, sent by GitLab through `smtp`. Anybody can, whether they are a user or not.",
        examples=[["team@example.com"]],
    )
    slack: Slack | None = Field(default=None, description="The channel of Slack that gets a message.")
    branches: Literal["default", "protected", "default_and_protected", "all"] = Field(
        default="default",
        description="The branches whose pipelines count. In Slack, pipelines of tags always do.",
    )
    only_failed: bool = Field(
        default=True, description="Whether only failed pipelines count; `false` adds those that pass."
    )

    @field_validator("email")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value, "it would get each mail more than once", same=str.lower)
        return value

    @property
    def enabled(self) -> bool:
        """Whether anybody is notified."""
        return bool(self.email or self.slack)
