"""Alerts fire, notify people by mail and in Slack, and say when it is over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from tests.sandbox.digitalocean.models import UptimeCheck
from tests.sandbox.digitalocean.probe import Outside
from tests.sandbox_tests.digitalocean.test_alerts import CHECK, OWNER, POLICY
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.waiting import eventually

HEALTHY = {
    "load_1": 0.5,
    "load_5": 0.5,
    "load_15": 0.5,
    "memory_utilization_percent": 40,
    "disk_utilization_percent": 50,
}


class _Page(BaseHTTPRequestHandler):
    """A page that answers with a status that can be changed."""

    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a page that answers 200; its status is `_Page.status`."""
    monkeypatch.setattr(_Page, "status", 200)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def mails(cloud: EmulatedCloud) -> list[str]:
    return [mail["subject"] for mail in cloud.control.get("/notifications").json()["mail"]]


def messages(cloud: EmulatedCloud) -> list[dict[str, str]]:
    found: list[dict[str, str]] = cloud.control.get("/notifications").json()["slack"]
    return found


def watched(cloud: EmulatedCloud, target: str, **changes: Any) -> dict[str, Any]:
    """A check of the target with an alert that notifies everybody."""
    kind = target.partition(":")[0]
    body = CHECK | {"target": target, "type": kind}
    made: dict[str, Any] = cloud.client.uptime.create_check(body=body)["check"]
    channel = {"channel": "#ops", "url": cloud.webhook}
    alert = {"name": "page", "type": "down_global", "period": "2m"} | changes
    notifications = {"email": [OWNER], "slack": [channel]}
    cloud.client.uptime.create_alert(made["id"], body=alert | {"notifications": notifications})
    return made


def statuses(cloud: EmulatedCloud, check: dict[str, Any]) -> set[str]:
    state = cloud.client.uptime.get_check_state(check["id"])["state"]
    return {region["status"] for region in state["regions"].values()}


def report(cloud: EmulatedCloud, droplet: dict[str, Any], **changes: float) -> None:
    """What the agent on a machine would report."""
    [address] = [one["ip_address"] for one in droplet["networks"]["v4"] if one["type"] == "public"]
    metrics = HEALTHY | changes
    cloud.metadata.post("/v1/metrics", json=metrics, headers={"x-peer": address}).raise_for_status()


def test_a_page_that_stops_and_comes_back_is_reported_twice_by_mail_and_in_slack(
    cloud: EmulatedCloud, page: str
) -> None:
    check = watched(cloud, page)
    eventually(lambda: statuses(cloud, check) == {"UP"})
    assert mails(cloud) == []
    _Page.status = 502
    triggered, resolved = f"triggered: page ({page})", f"resolved: page ({page})"
    eventually(lambda: mails(cloud) == [triggered])
    assert statuses(cloud, check) == {"DOWN"}
    _Page.status = 200
    eventually(lambda: mails(cloud) == [triggered, resolved])
    found = messages(cloud)
    assert [(one["channel"], one["text"]) for one in found] == [("#ops", triggered), ("#ops", resolved)]
    outage = cloud.client.uptime.get_check_state(check["id"])["state"]["previous_outage"]
    assert outage["ended_at"] >= outage["started_at"]


def test_an_outage_that_is_shorter_than_the_period_is_nobodys_business(cloud: EmulatedCloud, page: str) -> None:
    check = watched(cloud, page, period="1h")
    _Page.status = 502
    eventually(lambda: statuses(cloud, check) == {"DOWN"})
    _Page.status = 200
    eventually(lambda: statuses(cloud, check) == {"UP"})
    assert mails(cloud) == []


def test_a_certificate_that_expires_soon_is_reported(cloud: EmulatedCloud) -> None:
    origin = cloud.webhook.partition("/services/")[0]
    # In the tests, certificates are valid for centuries.
    watched(cloud, f"{origin}/", type="ssl_expiry", comparison="less_than", threshold=1_000_000)
    eventually(lambda: mails(cloud) == [f"triggered: page ({origin}/)"])


def test_a_certificate_that_nobody_outside_trusts_makes_a_target_down(cloud: EmulatedCloud) -> None:
    body: dict[str, Any] = CHECK | {"id": "1", "target": f"{cloud.url}/v2/account"}
    # Both are refused by the API, one of them before it is asked.
    assert asyncio.run(Outside(str(cloud.ca_certificate)).probe(UptimeCheck(**body))).certificate_days is not None
    assert asyncio.run(Outside().probe(UptimeCheck(**body))).certificate_days is None


def test_a_target_that_does_not_exist_is_down(cloud: EmulatedCloud) -> None:
    check = watched(cloud, "https://127.0.0.1:1/")
    eventually(lambda: statuses(cloud, check) == {"DOWN"})


def test_a_deleted_alert_says_nothing_of_its_end(cloud: EmulatedCloud, page: str) -> None:
    check = watched(cloud, page)
    _Page.status = 500
    eventually(lambda: mails(cloud) != [])
    cloud.http.delete(f"/v2/uptime/checks/{check['id']}").raise_for_status()
    _Page.status = 200
    other = watched(cloud, page)
    eventually(lambda: statuses(cloud, other) == {"UP"})
    assert [mail for mail in mails(cloud) if mail.startswith("resolved")] == []


def test_a_disk_that_fills_is_reported_by_the_machine_and_so_is_its_end(cloud: EmulatedCloud) -> None:
    droplet = cloud.droplet(tags=["server"])
    other = cloud.droplet(name="web-2", tags=["other"])
    cloud.client.monitoring.create_alert_policy(body=POLICY)

    def reported(*expected: str, disk: float) -> bool:
        # A machine reports again and again; what it has reported once is soon forgotten.
        report(cloud, droplet, disk_utilization_percent=disk)
        report(cloud, other, disk_utilization_percent=99)
        return mails(cloud) == list(expected)

    eventually(lambda: reported("triggered: disk (web-1)", disk=90))
    eventually(lambda: reported("triggered: disk (web-1)", "resolved: disk (web-1)", disk=60))


def test_a_machine_without_an_agent_has_no_metrics_and_fires_nothing(cloud: EmulatedCloud, page: str) -> None:
    cloud.droplet(tags=["server"])
    cloud.client.monitoring.create_alert_policy(body=POLICY | {"compare": "LessThan", "value": 100})
    check = watched(cloud, page)
    _Page.status = 500
    eventually(lambda: statuses(cloud, check) == {"DOWN"})
    eventually(lambda: mails(cloud) == [f"triggered: page ({page})"])


def test_only_machines_of_the_account_report_metrics(cloud: EmulatedCloud) -> None:
    answer = cloud.metadata.post("/v1/metrics", json=HEALTHY, headers={"x-peer": "203.0.113.250"})
    assert answer.status_code == 404


def test_what_has_fired_is_not_repeated_after_a_restart(cloud: EmulatedCloud, page: str) -> None:
    watched(cloud, page)
    _Page.status = 500
    eventually(lambda: len(mails(cloud)) == 1)
    cloud.restart()
    _Page.status = 200
    eventually(lambda: [mail.partition(":")[0] for mail in mails(cloud)] == ["triggered", "resolved"])
