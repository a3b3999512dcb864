"""Uptime checks, alert policies, and what has fired because of them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from tests.sandbox.digitalocean.models.base import Record


class SlackChannel(BaseModel):
    """A channel of a chat, reached by a webhook whose address is the permission to write to it."""

    channel: str
    url: str = Field(repr=False)


class Notifications(BaseModel):
    """Who is notified."""

    email: list[str]
    slack: list[SlackChannel]


class Outage(BaseModel):
    """A time in which a target did not answer a region. `ended_at` is None as long as it lasts."""

    region: str
    started_at: str
    ended_at: str | None = None


class UptimeCheck(Record):
    """A target that is requested from several regions, once a minute."""

    kind: ClassVar[str] = "uptime_check"
    id: str
    name: str
    type: Literal["ping", "http", "https"]
    target: str
    regions: list[str]
    enabled: bool

    @property
    def key(self) -> str:
        return self.id


class UptimeAlert(Record):
    """A condition on what a check observes."""

    kind: ClassVar[str] = "uptime_alert"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"notifications"})
    id: str
    check_id: str
    name: str
    type: Literal["latency", "down", "down_global", "ssl_expiry"]
    threshold: int | None
    comparison: str | None
    notifications: Notifications
    period: str

    @property
    def key(self) -> str:
        return self.id


class AlertPolicy(Record):
    """A condition on a metric of droplets: of those in `entities`, of those with a tag, or, without either, of all."""

    kind: ClassVar[str] = "alert_policy"
    secret_fields: ClassVar[frozenset[str]] = frozenset({"alerts"})
    uuid: str
    type: str
    description: str
    compare: Literal["GreaterThan", "LessThan"]
    value: float
    window: str
    entities: list[str]
    tags: list[str]
    alerts: Notifications
    enabled: bool

    @property
    def key(self) -> str:
        return self.uuid


class CheckState(Record):
    """What a check has observed: by region, `UP` or `DOWN` and since when."""

    kind: ClassVar[str] = "check_state"
    check_id: str
    regions: dict[str, tuple[str, str]] = Field(default_factory=dict)
    previous_outage: Outage | None = None

    @property
    def key(self) -> str:
        return self.check_id


class Incident(Record):
    """A condition that is the case since then (seconds since 1970), and whether its alert has fired."""

    kind: ClassVar[str] = "incident"
    alert: str
    subject: str
    since: float
    fired: bool = False

    @property
    def key(self) -> str:
        return f"{self.alert} {self.subject}"


class Mail(Record):
    """A mail that the service has sent."""

    kind: ClassVar[str] = "mail"
    id: int
    to: str
    subject: str
    sent_at: str

    @property
    def key(self) -> str:
        return str(self.id)


class SlackMessage(Record):
    """A message that somebody has sent to a webhook of Slack."""

    kind: ClassVar[str] = "slack_message"
    id: int
    channel: str
    text: str
    sent_at: str

    @property
    def key(self) -> str:
        return str(self.id)
