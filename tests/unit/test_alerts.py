"""Who is notified of what: the checks and alerts that the program declares, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from components.settings import SettingsError, load
from tests.unit.delivered import delivered
from tests.unit.engine import ENVELOPE, RecordingEngine, as_config, run_program
from tests.unit.test_account import RUNNERS

HOOK = "https://hooks.slack.com/services/T0123/B0123/abcDEF123"
SLACK = {"channel": "#ops", "url": HOOK}
CHECKS = "uptime checks, 3 x 1.00"


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """The program with both kinds of recipients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run_program(alerts={"email": ["ops@example.test"], "slack": SLACK}, **RUNNERS)


def refused(value: Any, *, encrypted: bool = True) -> list[str]:
    config = as_config({"domain": "example.test", "adminCidrs": ["192.0.2.10/32"], "alerts": value})
    with pytest.raises(SettingsError) as caught:
        load("slipway", "test", config, ["slipway:alerts"] if encrypted else [], {"DIGITALOCEAN_TOKEN": "x"})
    return caught.value.errors


def test_without_recipients_nothing_is_watched_and_nothing_costs_more() -> None:
    plain = run_program()
    assert [one.name for one in plain.registrations if "alert" in one.name or "ptime" in one.type] == []
    assert CHECKS not in plain.exports["monthly_cost"]["items"]


def test_the_sign_in_page_and_the_registry_are_requested_from_the_regions(engine: RecordingEngine) -> None:
    checks = {one.inputs["name"]: one.inputs for one in engine.of_type(":UptimeCheck")}
    assert {name: one["target"] for name, one in checks.items()} == {
        "slipway-test-sign-in": "https://gitlab.example.test/users/sign_in",
        "slipway-test-registry": "https://gitlab.example.test:5555/",
        "slipway-test-health": "https://gitlab.example.test/-/slipway-health",
    }
    assert {(one["type"], tuple(one["regions"])) for one in checks.values()} == {("https", ("us_east", "eu_west"))}


def test_nothing_is_checked_before_the_public_can_reach_it(engine: RecordingEngine) -> None:
    for check in engine.of_type(":UptimeCheck"):
        assert {"public-access-firewall", "registry-login"} <= check.depends_on
    # Its page is the result of the server's own checks.
    assert "alerts-server-health" in engine.named("alerts-health").depends_on


def test_each_condition_notifies_everybody(engine: RecordingEngine) -> None:
    alerts = {one.name: one.inputs for one in engine.of_type(":UptimeAlert")}
    assert {name: (one["type"], one.get("threshold")) for name, one in alerts.items()} == {
        "alerts-sign-in-down": ("down_global", None),
        "alerts-registry-down": ("down_global", None),
        "alerts-unhealthy": ("down_global", None),
        "alerts-certificate": ("ssl_expiry", 14),
    }
    assert alerts["alerts-certificate"]["comparison"] == "less_than"
    for one in alerts.values():
        [notified] = one["notifications"]
        assert notified["emails"] == ["ops@example.test"]
        assert [slack["channel"] for slack in notified["slacks"]] == ["#ops"]


def test_the_webhook_is_a_secret_wherever_it_is_sent(engine: RecordingEngine) -> None:
    for one in engine.registrations:
        text = str(one.request.object)
        assert HOOK not in text or ENVELOPE in text, one.name
    assert HOOK not in str(engine.exports)
    for kind, output in ((":UptimeAlert", "notifications"), (":MonitorAlert", "alerts")):
        assert all(list(one.request.additionalSecretOutputs) == [output] for one in engine.of_type(kind))


def test_every_machine_has_an_agent_and_is_watched_by_disk_memory_and_load(engine: RecordingEngine) -> None:
    agents = {one.name for one in engine.registrations if one.name.endswith("-agent")}
    assert agents == {"alerts-server-1-agent", *(f"alerts-runner-a-{number}-agent" for number in (1, 2, 3))}
    policies = {one.name: one for one in engine.of_type(":MonitorAlert")}
    assert {name: (one.inputs["value"], one.inputs["window"]) for name, one in policies.items()} == {
        "alerts-server-disk": (85, "5m"),
        "alerts-server-memory": (90, "10m"),
        "alerts-server-load": (12, "30m"),
        "alerts-runner-a-disk": (85, "5m"),
        "alerts-runner-a-memory": (90, "10m"),
        "alerts-runner-a-load": (12, "30m"),
    }
    for name, one in policies.items():
        assert len(one.inputs["entities"]) == (1 if "server" in name else 3)
        assert {agent for agent in agents if agent.startswith(name.rpartition("-")[0])} <= one.depends_on
        assert one.inputs["alerts"]["emails"] == ["ops@example.test"]


def test_the_nodes_of_a_cluster_are_watched_by_the_tag_that_digitalocean_gives_them() -> None:
    """They come and go, so no policy can name them. They are there to be busy, so their load says nothing."""
    engine = delivered(runner={"kind": "kubernetes"}, alerts={"email": ["ops@example.test"]})
    policies = {one.name: one.inputs for one in engine.of_type(":MonitorAlert") if "nodes" in one.name}
    assert sorted(policies) == ["alerts-nodes-docker-builder-disk", "alerts-nodes-docker-builder-memory"]
    for policy in policies.values():
        assert policy["tags"] == ["k8s:id-of-delivery-docker-builder-kubernetes-cluster"]
        assert "entities" not in policy
        assert policy["description"].endswith(" of a node of runner docker-builder")
    assert not [one for one in engine.registrations if one.name.startswith("alerts-runner-docker-builder")]


def test_turning_alerts_on_changes_no_droplet(engine: RecordingEngine) -> None:
    plain = run_program(**RUNNERS)
    for one in plain.of_type(":Droplet"):
        assert engine.named(one.name).inputs == one.inputs
        assert "monitoring" not in one.inputs


def test_a_machine_without_alerts_loses_its_agent(engine: RecordingEngine) -> None:
    step = engine.named("alerts-server-1-agent").inputs
    assert "purge --yes do-agent" in step["delete"]


def test_the_server_checks_its_backups_only_if_there_are_any(engine: RecordingEngine) -> None:
    assert "BACKUP_HOURS=''" in engine.script("alerts-server-health")
    made = run_program(alerts={"email": ["ops@example.test"]}, backup={"enabled": True, "maxAgeHours": 30})
    assert "BACKUP_HOURS=30" in made.script("alerts-server-health")
    assert "backup-machine" in made.named("alerts-server-health").depends_on


def test_only_with_alerts_is_there_a_page_about_the_servers_health(engine: RecordingEngine) -> None:
    assert "location = /-/slipway-health" in engine.script("gitlab-configuration")
    assert "slipway-health" not in run_program().script("gitlab-configuration")


def test_one_kind_of_recipient_is_enough() -> None:
    for alerts in ({"email": ["ops@example.test"]}, {"slack": SLACK}):
        found = run_program(alerts=alerts).of_type(":UptimeAlert")
        assert {next(iter(one.inputs["notifications"][0])) for one in found} == {f"{next(iter(alerts))}s"}


def test_checks_are_a_part_of_the_cost(engine: RecordingEngine) -> None:
    assert engine.exports["monthly_cost"]["items"][CHECKS] == 3.0


def test_a_preview_warns_of_a_recipient_that_the_account_may_not_have_verified() -> None:
    known, other = {"email": ["OPS@example.test"]}, {"email": ["ops@example.test", "team@example.test"]}
    assert run_program(alerts=known, dry_run=True).messages == []
    [warning] = run_program(alerts=other, dry_run=True).messages
    assert warning.startswith("alerts.email: team@example.test is not the address of this token's owner")
    assert run_program(alerts=other).messages == []


def test_conditions_without_a_recipient_are_refused() -> None:
    [error] = refused({"certificateDays": 7})
    assert error.startswith("alerts: has neither email nor slack; nobody would be notified. ")


def test_a_webhook_in_plain_text_is_refused_without_being_shown() -> None:
    [error] = refused({"slack": SLACK}, encrypted=False)
    assert error.startswith("alerts.slack.url: is in plain text in the stack file; ")
    assert HOOK not in error


def test_lines_of_gitlab_rb_that_would_take_the_page_away_are_refused() -> None:
    lines = "gitlab_rails['nginx']['custom_gitlab_server_config'] = 'location /x { return 404; }'"
    with pytest.raises(SettingsError) as caught:
        run_program(alerts={"email": ["ops@example.test"]}, gitlab={"extraConfiguration": lines})
    [error] = caught.value.errors
    assert error.startswith("gitlab.extraConfiguration: sets custom_gitlab_server_config, where alerts has its page")


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.slack.com/services/T0/B0/x",
        "https://hooks.slack.com/services/T0/B0",
        "https://hooks.slack.com.example.test/services/T0/B0/x",
        "https://hooks.slack.com/services/T0/B0/x?y=z",
        "https://example.slack.com/archives/C0123",
        "https://[x",
        "#ops",
    ],
)
def test_what_is_no_webhook_is_refused_without_being_shown(url: str) -> None:
    [error] = refused({"slack": {"channel": "#ops", "url": url}})
    assert error.startswith("alerts.slack.url: is not the address of an incoming webhook; ")
    assert url not in error
