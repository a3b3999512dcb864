"""What goes wrong on a server, and what people are notified of by mail and in Slack."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pydo

from tests.e2e.control import Control
from tests.sandbox.cloud import mail
from tests.sandbox.layout import MAIL_HOST
from tools.clients import Outputs
from tools.pipelines import until

#: The settings without their secrets: the mail server's password, and the webhook.
SMTP: Final[dict[str, Any]] = {
    "address": MAIL_HOST,
    "userName": mail.USER,
    "from": "gitlab@failed.test",
    "testRecipient": "ops@failed.test",
}
#: DigitalOcean accepts the address of the account. The host's disk may be rather full.
ALERTS: Final[dict[str, Any]] = {
    "email": ["sandbox@example.com"],
    "slack": {"channel": "#ops"},
    "diskPercent": 97,
    "pipelines": {"email": ["team@failed.test"], "slack": {"channel": "#team"}},
}
WEBHOOK: Final = "https://hooks.slack.com/services/T1/B1/x1"
#: What is left of a full data volume, so that GitLab continues to work.
_LEFT_BYTES: Final = 100 * 2**20
_FILLER: Final = "/mnt/gitlab/filler"


def await_quiet(control: Control, *titles: str) -> None:
    """Wait until every target is seen to answer, and what these alerts have fired has ended."""
    uptime = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"]).uptime

    def is_quiet() -> bool:
        checks = [one["id"] for one in uptime.list_checks()["checks"]]
        regions = [uptime.get_check_state(check)["state"]["regions"] for check in checks]
        seen = [region["status"] for one in regions for region in one.values()]
        return bool(seen) and {*seen} == {"UP"} and not any("triggered" in _last(control, title) for title in titles)

    until(is_quiet, "every target to answer", 60)


def await_notice(control: Control, what: str, *titles: str) -> None:
    """Wait until the last that people got of each alert, by mail and in Slack, is `triggered` or `resolved`.

    Raises:
        CheckError: they did not get that within a minute.
    """
    until(
        lambda: all(_last(control, title) == [what, what] for title in titles),
        f"{what}: {', '.join(titles)}",
        60,
    )


def _last(control: Control, title: str) -> list[str]:
    """The last that people got of an alert by mail, and the last in Slack."""
    sent = control.notifications()
    texts = [[one["subject"] for one in sent["mail"]], [one["text"] for one in sent["slack"]]]
    found = [[what for what, _, rest in (text.partition(": ") for text in one) if title in rest] for one in texts]
    return [whats[-1] for whats in found if whats]


@contextmanager
def stopped_gitlab(outputs: Outputs) -> Iterator[None]:
    """Stop GitLab, with its registry, until the end of the block."""
    outputs.ssh("sudo gitlab-ctl stop", timeout=120)
    try:
        yield
    finally:
        outputs.ssh("sudo gitlab-ctl start", timeout=120)


@contextmanager
def full_disks(outputs: Outputs) -> Iterator[None]:
    """Fill the data volume, and report that the root disk is full, until the end of the block.

    The server checks itself every five minutes; here it does at once.
    """
    script = shlex.quote((Path(__file__).parent / "files/report-full-disk.sh").read_text())
    size = f"$(($(df --output=avail --block-size=1 /mnt/gitlab | tail -n 1) - {_LEFT_BYTES}))"
    check = "systemctl start slipway-health || true"
    _as_root(outputs, f"fallocate --length {size} {_FILLER}; {check}")
    _as_root(outputs, f"systemctl stop do-agent; systemd-run --quiet --unit=full-disk bash -c {script}")
    try:
        yield
    finally:
        _as_root(outputs, f"systemctl stop full-disk; systemctl start do-agent; rm {_FILLER}; {check}")


def _as_root(outputs: Outputs, command: str) -> None:
    outputs.ssh(f"sudo bash -euc {shlex.quote(command)}")
