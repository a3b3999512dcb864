"""Alerts: what DigitalOcean watches from outside, and who is notified."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import pulumi
import pulumi_digitalocean as digitalocean
from pulumi_command import remote

from components.component import Component
from components.lost_answers import ALERT_POLICY, UPTIME_ALERT, UPTIME_CHECK, once
from components.remote import Machine, run_script
from components.rendering import script
from components.settings import Alerts as Settings

#: Longer than an update keeps GitLab from answering, which is about two minutes. Checks run once a minute.
_PERIOD: Final = "5m"
#: Updates renew the token when half of its life is left. Only a stack that nobody updates for months gets here.
_TOKEN_DAYS: Final = 30
#: The archive that the installer of DigitalOcean uses.
_AGENT_PACKAGES: Final = "https://repos.insights.digitalocean.com"

#: How metrics begin in the API.
_OF_DROPLETS, _OF_DATABASES = "v1/insights/droplet", "v1/dbaas/alerts"
#: Longer than a backup or a migration keeps a database busy.
_CPU_PERCENT: Final = 90

#: How the names of groups begin, but for that of the server.
_KIND: Final = re.compile("^(runner|target)-")


@dataclass(frozen=True)
class AlertsArgs:
    """Inputs of `Alerts`. `registry` is the address of the registry, host and port.

    `machines` are those of each group, of which `server` is one; `clusters` are the IDs of the clusters that runners
    have, by the names of these, and `databases` those of managed databases that GitLab uses, by engine. `backup_hours`
    is how old the last backup may be, None without backups; `token_expires` is the date on which the stack's API token
    expires.

    Nothing is checked before everything in `ready` exists: a target that is not there yet would fire an alert.
    """

    prefix: str
    settings: Settings
    url: pulumi.Input[str]
    registry: pulumi.Input[str]
    machines: Mapping[str, Sequence[Machine]]
    clusters: Mapping[str, pulumi.Output[str]]
    databases: Mapping[str, pulumi.Output[str]]
    backup_hours: int | None
    token_expires: pulumi.Input[str]
    ready: Sequence[pulumi.Resource]


@dataclass(frozen=True)
class _Condition:
    """A metric that is above a value for some time."""

    metric: str
    window: str
    value: pulumi.Input[float]


class Alerts(Component):
    """Uptime checks and alert policies.

    Owns a check of the sign-in page and one of the registry, each with an alert that fires when no region gets an
    answer, and an alert for the certificate that both share. On the server, owns a timer that checks what cannot be
    seen from outside: the data volume, the last backup, the stack's token. It also owns a check of the page with the
    result, so that a problem there fires an alert as well. For each group of machines, owns alert policies on disk,
    memory and load, and on each machine DigitalOcean's metrics agent; for the nodes of each cluster, those on disk and
    memory; for managed databases, those on disk, memory and processors. DigitalOcean runs the checks and compares the
    metrics, so an alert needs nothing that could be down together with GitLab.

    The agent is installed over SSH: `monitoring` of an existing droplet cannot be changed, so it would replace it.
    Refuses to own the recipients: DigitalOcean accepts only addresses that members of its team have verified.
    """

    def __init__(self, name: str, args: AlertsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the checks, the agents and the alerts."""
        super().__init__("Alerts", name, opts)
        self._args = args
        url = pulumi.Output.from_input(args.url)
        sign_in = self._check("sign-in", pulumi.Output.concat(url, "/users/sign_in"))
        # Without credentials, /v2/ answers 401; the root of the registry answers 200 as soon as it runs.
        registry = self._check("registry", pulumi.Output.concat("https://", args.registry, "/"))
        self._alert("sign-in-down", sign_in, "GitLab does not answer")
        self._alert("registry-down", registry, "the registry does not answer")
        installed = self._install_health_check()
        health = self._check("health", pulumi.Output.concat(url, "/-/slipway-health"), after=[installed])
        self._alert("unhealthy", health, "the server has a problem: sudo slipway-health on it says which")
        days = args.settings.certificate_days
        self._alert("certificate", sign_in, f"the certificate expires in less than {days} days", days=days)
        for group, machines in args.machines.items():
            self._watch(group, machines)
        for runner, cluster in args.clusters.items():
            self._watch_nodes(runner, cluster)
        for engine, cluster in args.databases.items():
            self._watch_database(engine, cluster)
        self.register_outputs({})

    def _install_health_check(self) -> remote.Command:
        """On the server: the data volume, the last backup and the stack's token, which nobody can see from outside."""
        args = self._args
        [server] = args.machines["server"]
        return run_script(
            self,
            "server-health",
            machine=server,
            file="install-health-check.sh",
            values={
                "BACKUP_HOURS": str(args.backup_hours or ""),
                "DISK_PERCENT": str(args.settings.disk_percent),
                "PROGRAM": script("health/slipway-health"),
                "SERVICE": script("health/slipway-health.service"),
                "TIMER": script("health/slipway-health.timer"),
                "TOKEN_DAYS": str(_TOKEN_DAYS),
                "TOKEN_EXPIRES": args.token_expires,
            },
            timeout_seconds=600,
            depends_on=args.ready,
            delete="systemctl disable --now slipway-health.timer; rm -rf /run/slipway-health /etc/slipway/health.env",
        )

    def _check(
        self, suffix: str, target: pulumi.Input[str], after: Sequence[pulumi.Resource] = ()
    ) -> digitalocean.UptimeCheck:
        return digitalocean.UptimeCheck(
            self.child_name(suffix),
            name=f"{self._args.prefix}-{suffix}",
            type="https",
            target=target,
            regions=list(self._args.settings.regions),
            enabled=True,
            opts=self.child_options(
                depends_on=[*self._args.ready, *after], hooks=once(UPTIME_CHECK, self.child_name(suffix))
            ),
        )

    def _alert(
        self, suffix: str, check: digitalocean.UptimeCheck, what: str, *, days: int | None = None
    ) -> digitalocean.UptimeAlert:
        return digitalocean.UptimeAlert(
            self.child_name(suffix),
            # The name is the subject of the mail.
            name=f"{self._args.prefix}: {what}",
            check_id=check.id,
            type="ssl_expiry" if days is not None else "down_global",
            threshold=days,
            comparison="less_than" if days is not None else None,
            period=_PERIOD,
            notifications=[self._recipients()],
            opts=self.child_options(
                hooks=once(UPTIME_ALERT, self.child_name(suffix)),
                additional_secret_outputs=self._with_webhook("notifications"),
            ),
        )

    def _watch(self, group: str, machines: Sequence[Machine]) -> None:
        """Install the agent on machines of one size, and watch what it reports."""
        settings = self._args.settings
        agents = [self._agent(f"{group}-{number}-agent", machine) for number, machine in enumerate(machines, 1)]
        # A machine knows its droplet as what it is deleted with.
        droplet = cast("digitalocean.Droplet", machines[0].droplet)
        load = droplet.vcpus.apply(lambda cpus: float(cpus * settings.load_per_cpu))
        conditions: list[tuple[str, str, str, pulumi.Input[float]]] = [
            ("disk", "disk_utilization_percent", "5m", float(settings.disk_percent)),
            ("memory", "memory_utilization_percent", "10m", float(settings.memory_percent)),
            ("load", "load_15", "30m", load),
        ]
        words = _KIND.sub(r"\1 ", group)
        for suffix, metric, window, value in conditions:
            self._policy(
                f"{group}-{suffix}",
                f"{suffix} of {words}",
                _Condition(f"{_OF_DROPLETS}/{metric}", window, value),
                depends_on=agents,
                entities=[machine.droplet.id for machine in machines],
            )

    def _watch_nodes(self, runner: str, cluster: pulumi.Output[str]) -> None:
        """Watch the nodes of a cluster by the tag that DigitalOcean gives them, with the agent that it puts there.

        Their load is left out: nodes for jobs are there to be busy.
        """
        settings = self._args.settings
        for suffix, metric, window, value in (
            ("disk", "disk_utilization_percent", "5m", settings.disk_percent),
            ("memory", "memory_utilization_percent", "10m", settings.memory_percent),
        ):
            self._policy(
                f"nodes-{runner}-{suffix}",
                f"{suffix} of a node of runner {runner}",
                _Condition(f"{_OF_DROPLETS}/{metric}", window, float(value)),
                tags=[pulumi.Output.concat("k8s:", cluster)],
            )

    def _watch_database(self, engine: str, cluster: pulumi.Output[str]) -> None:
        """Watch what DigitalOcean measures of a cluster itself: it runs no agent of the stack's."""
        settings = self._args.settings
        for suffix, metric, window, value in (
            ("disk", "disk_utilization_alerts", "5m", settings.disk_percent),
            ("memory", "memory_utilization_alerts", "10m", settings.memory_percent),
            ("cpu", "cpu_alerts", "30m", _CPU_PERCENT),
        ):
            self._policy(
                f"{engine}-{suffix}",
                f"{suffix} of managed {engine}",
                _Condition(f"{_OF_DATABASES}/{metric}", window, float(value)),
                depends_on=self._args.ready,
                entities=[cluster],
            )

    def _policy(
        self,
        suffix: str,
        what: str,
        condition: _Condition,
        depends_on: Sequence[pulumi.Resource] = (),
        **whose: Sequence[pulumi.Input[str]],
    ) -> None:
        name = self.child_name(suffix)
        digitalocean.MonitorAlert(
            name,
            type=condition.metric,
            # The subject of the mail, beside the name of the droplet.
            description=f"{self._args.prefix}: {what}",
            compare="GreaterThan",
            value=condition.value,
            window=condition.window,
            alerts=digitalocean.MonitorAlertAlertsArgs(emails=self._emails, slacks=self._policy_slacks()),
            enabled=True,
            **whose,
            opts=self.child_options(
                depends_on=depends_on,
                hooks=once(ALERT_POLICY, name),
                additional_secret_outputs=self._with_webhook("alerts"),
            ),
        )

    def _agent(self, suffix: str, machine: Machine) -> remote.Command:
        return run_script(
            self,
            suffix,
            machine=machine,
            file="install-metrics-agent.sh",
            libraries=["apt.sh"],
            values={"AGENT_PACKAGES_URL": _AGENT_PACKAGES},
            timeout_seconds=1200,
            delete="apt-get -qq purge --yes do-agent; rm -f /etc/apt/sources.list.d/digitalocean-agent.list",
        )

    @property
    def _emails(self) -> list[str] | None:
        return list(self._args.settings.email) or None

    def _with_webhook(self, output: str) -> list[str]:
        """An output that has the webhook in it, if there is one: the API returns it, and so does the provider."""
        return [output] if self._args.settings.slack else []

    def _webhook(self) -> tuple[str, pulumi.Output[str]] | None:
        slack = self._args.settings.slack
        return (slack.channel, pulumi.Output.secret(slack.url.get_secret_value())) if slack else None

    def _policy_slacks(self) -> list[digitalocean.MonitorAlertAlertsSlackArgs] | None:
        found = self._webhook()
        return [digitalocean.MonitorAlertAlertsSlackArgs(channel=found[0], url=found[1])] if found else None

    def _recipients(self) -> digitalocean.UptimeAlertNotificationArgs:
        found = self._webhook()
        slacks = [digitalocean.UptimeAlertNotificationSlackArgs(channel=found[0], url=found[1])] if found else None
        return digitalocean.UptimeAlertNotificationArgs(emails=self._emails, slacks=slacks)
