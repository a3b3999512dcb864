"""What fires alerts: targets are requested, metrics are compared, and people are notified when it begins and ends.

A round a minute, as the real service makes them. How long a minute takes is part of the configuration: a test does not
wait for five of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from tests.sandbox.digitalocean.models import (
    AlertPolicy,
    CheckState,
    Droplet,
    Incident,
    Mail,
    Notifications,
    Outage,
    UptimeAlert,
    UptimeCheck,
    now,
)
from tests.sandbox.digitalocean.state.cloud import Cloud
from tests.sandbox.digitalocean.state.rounds import Rounds

log = logging.getLogger(__name__)

#: What agents report counts as long as this, in minutes: a machine that is off has no metrics.
_FRESH = 3
_MINUTES = {"2m": 2, "3m": 3, "5m": 5, "10m": 10, "15m": 15, "30m": 30, "1h": 60}


@dataclass(frozen=True)
class Observation:
    """What one request of a target has shown. `certificate_days` are left until it expires; None without TLS."""

    is_up: bool
    milliseconds: float = 0
    certificate_days: float | None = None


Probe = Callable[[UptimeCheck], Awaitable[Observation]]
#: Calls a webhook with a channel and a text.
Post = Callable[[str, str, str], Awaitable[None]]


@dataclass(frozen=True)
class _Condition:
    """One alert for one subject, and whether it is the case."""

    alert: str
    title: str
    subject: str
    holds: bool
    minutes: int
    notifications: Notifications


class Watch(Rounds):
    """The checks of one account. What has fired stays so until the next start."""

    def __init__(self, cloud: Cloud, probe: Probe, post: Post) -> None:
        super().__init__(cloud.config.minute_seconds)
        self._cloud, self._probe, self._post = cloud, probe, post
        self._store = cloud.store
        self._minute = cloud.config.minute_seconds

    async def round(self) -> None:
        """Request every target and look at every metric, once."""
        checks = [check for check in self._store.all(UptimeCheck) if check.enabled]
        observed = await asyncio.gather(*(self._probe(check) for check in checks))
        for check, seen in zip(checks, observed, strict=True):
            # The check may have been deleted, or changed, while it was made.
            if current := self._store.get(UptimeCheck, check.id):
                self._note(current, seen)
                for alert in self._store.where(UptimeAlert, check_id=check.id):
                    await self._judge(_of_check(current, alert, seen))
        for policy in self._store.all(AlertPolicy):
            for condition in self._of_policy(policy):
                await self._judge(condition)

    def _note(self, check: UptimeCheck, seen: Observation) -> None:
        """Keep what `/state` shows. All regions see the same: the sandbox has one outside."""
        state = self._store.get(CheckState, check.id) or CheckState(check_id=check.id)
        status = "UP" if seen.is_up else "DOWN"
        for region in check.regions:
            before = state.regions.get(region)
            if before and before[0] == status:
                continue
            state.regions[region] = (status, now())
            if before and seen.is_up:
                state.previous_outage = Outage(region=region, started_at=before[1], ended_at=now())
        self._store.put(state)

    def _of_policy(self, policy: AlertPolicy) -> Iterator[_Condition]:
        if policy.type.startswith("v1/dbaas/"):
            return
        for droplet in self._store.all(Droplet):
            watched = str(droplet.id) in policy.entities or not {*policy.tags}.isdisjoint(droplet.tags)
            if not policy.enabled or not (watched or not (policy.entities or policy.tags)):
                continue
            found = self._cloud.metrics.get(droplet.id)
            if found is None or time.monotonic() - found.at > _FRESH * self._minute:
                # Without data the service neither fires an alert nor ends one.
                continue
            value = found.values[policy.type.rpartition("/")[2]]
            holds = value > policy.value if policy.compare == "GreaterThan" else value < policy.value
            minutes = _MINUTES[policy.window]
            yield _Condition(policy.uuid, policy.description, droplet.name, holds, minutes, policy.alerts)

    async def _judge(self, condition: _Condition) -> None:
        """Fire what has lasted long enough, and end what is over."""
        key = f"{condition.alert} {condition.subject}"
        incident = self._store.get(Incident, key)
        if not condition.holds:
            if incident is not None:
                self._store.delete(incident)
                if incident.fired:
                    await self._notify(condition, "resolved")
            return
        incident = incident or Incident(alert=condition.alert, subject=condition.subject, since=time.time())
        if not incident.fired and time.time() - incident.since >= condition.minutes * self._minute:
            incident.fired = True
            await self._notify(condition, "triggered")
        self._store.put(incident)

    async def _notify(self, condition: _Condition, what: str) -> None:
        text = f"{what}: {condition.title} ({condition.subject})"
        for address in condition.notifications.email:
            self._store.put(Mail(id=self._store.next_number("mail", 1), to=address, subject=text, sent_at=now()))
        for channel in condition.notifications.slack:
            try:
                await self._post(channel.url, channel.channel, text)
            except OSError as error:
                # Nobody hears of an alert whose webhook is wrong. The message has no address in it.
                log.warning("a webhook could not be called: %s", type(error).__name__)


def _of_check(check: UptimeCheck, alert: UptimeAlert, seen: Observation) -> _Condition:
    if alert.type in ("down", "down_global"):
        holds = not seen.is_up
    else:
        value = seen.milliseconds if alert.type == "latency" else seen.certificate_days
        limit = alert.threshold or 0
        holds = value is not None and (value > limit if alert.comparison == "greater_than" else value < limit)
    return _Condition(alert.id, alert.name, check.target, holds, _MINUTES[alert.period], alert.notifications)
