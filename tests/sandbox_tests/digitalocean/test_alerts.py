"""Uptime checks, their alerts and alert policies: what the API accepts, refuses and shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud

OWNER = "sandbox@example.com"
HOOK = {"channel": "#ops", "url": "https://hooks.slack.com/services/T1/B1/x1"}
CHECK = {
    "name": "sign-in",
    "type": "https",
    "target": "https://gitlab.example.com/users/sign_in",
    "regions": ["us_east", "eu_west"],
    "enabled": True,
}
ALERT = {"name": "down", "type": "down", "period": "2m", "notifications": {"email": [OWNER], "slack": [HOOK]}}
POLICY = {
    "type": "v1/insights/droplet/disk_utilization_percent",
    "description": "disk",
    "compare": "GreaterThan",
    "value": 85,
    "window": "5m",
    "entities": [],
    "tags": ["server"],
    "alerts": {"email": [OWNER], "slack": []},
    "enabled": True,
}


def check(cloud: EmulatedCloud, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = cloud.client.uptime.create_check(body=CHECK | changes)["check"]
    return made


def test_a_check_is_created_changed_listed_and_deleted_with_its_alerts(cloud: EmulatedCloud) -> None:
    made = check(cloud)
    assert made == {"id": made["id"], **CHECK}
    alert = cloud.client.uptime.create_alert(made["id"], body=ALERT)["alert"]
    assert alert == {"id": alert["id"], **ALERT}
    changed = cloud.client.uptime.update_check(made["id"], body=CHECK | {"regions": ["se_asia"]})["check"]
    assert changed["regions"] == ["se_asia"]
    louder = ALERT | {"type": "ssl_expiry", "threshold": 14, "comparison": "less_than"}
    assert cloud.client.uptime.update_alert(made["id"], alert["id"], body=louder)["alert"]["threshold"] == 14
    assert [one["id"] for one in cloud.client.uptime.list_alerts(made["id"])["alerts"]] == [alert["id"]]
    assert cloud.client.uptime.list_checks()["meta"]["total"] == 1
    assert cloud.http.delete(f"/v2/uptime/checks/{made['id']}").status_code == 204
    path = f"/v2/uptime/checks/{made['id']}/alerts/{alert['id']}"
    assert cloud.refused("DELETE", path)[:2] == (404, "not_found")
    assert "uptime_alerts" not in cloud.exists()


def test_an_address_that_nobody_has_verified_is_refused_in_the_words_of_the_service(cloud: EmulatedCloud) -> None:
    path = f"/v2/uptime/checks/{check(cloud)['id']}/alerts"
    body = ALERT | {"notifications": {"email": [OWNER, "bob@example.com"], "slack": []}}
    message = "invalid value for field 'notifications.email[1]': invalid email 'bob@example.com'"
    assert cloud.refused("POST", path, body) == (400, "bad_request", message)
    policy = POLICY | {"alerts": {"email": ["bob@example.com"], "slack": []}}
    assert cloud.refused("POST", "/v2/monitoring/alerts", policy)[:2] == (400, "bad_request")
    cloud.control.put("/account", json={"verified_emails": ["Bob@example.com"]}).raise_for_status()
    assert cloud.http.post(path, json=body).status_code == 201


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("target", {"target": "http://gitlab.example.com"}),
        ("target", {"target": "gitlab.example.com"}),
        ("type", {"type": "tcp"}),
        ("regions[0]", {"regions": ["nyc3"]}),
        ("regions", {"regions": []}),
        ("regions", {"regions": None}),
        ("name", {"name": ""}),
    ],
)
def test_a_check_with_a_wrong_field_is_refused_by_its_name(
    cloud: EmulatedCloud, field: str, changes: dict[str, Any]
) -> None:
    status, kind, message = cloud.refused("POST", "/v2/uptime/checks", CHECK | changes)
    assert (status, kind) == (400, "bad_request")
    assert message.startswith(f"invalid value for field '{field}': ")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("period", {"period": "1m"}),
        ("type", {"type": "up"}),
        ("threshold", {"type": "ssl_expiry"}),
        ("comparison", {"type": "latency", "threshold": 300}),
        ("notifications", {"notifications": {"email": [], "slack": []}}),
        ("notifications.slack[0].url", {"notifications": {"email": [], "slack": [{"channel": "#ops"}]}}),
    ],
)
def test_an_alert_with_a_wrong_field_is_refused_by_its_name(
    cloud: EmulatedCloud, field: str, changes: dict[str, Any]
) -> None:
    path = f"/v2/uptime/checks/{check(cloud)['id']}/alerts"
    status, kind, message = cloud.refused("POST", path, ALERT | changes)
    assert (status, kind) == (400, "bad_request")
    assert message.startswith(f"invalid value for field '{field}': ")


def test_a_check_that_has_not_run_yet_is_being_checked(cloud: EmulatedCloud) -> None:
    made = check(cloud, enabled=False)
    assert cloud.client.uptime.get_check_state(made["id"])["state"] == {
        "regions": {"us_east": {"status": "CHECKING"}, "eu_west": {"status": "CHECKING"}}
    }


def test_a_policy_is_created_with_200_changed_listed_and_deleted(cloud: EmulatedCloud) -> None:
    answer = cloud.http.post("/v2/monitoring/alerts", json=POLICY)
    assert answer.status_code == 200
    made = answer.json()["policy"]
    assert made == {"uuid": made["uuid"], **POLICY}
    changed = cloud.client.monitoring.update_alert_policy(made["uuid"], body=POLICY | {"value": 90})["policy"]
    assert changed["value"] == 90
    assert [one["uuid"] for one in cloud.client.monitoring.list_alert_policy()["policies"]] == [made["uuid"]]
    path = f"/v2/monitoring/alerts/{made['uuid']}"
    assert cloud.http.delete(path).status_code == 204
    assert cloud.refused("GET", path)[:2] == (404, "not_found")


def test_a_policy_that_notifies_nobody_fails_as_in_the_real_service(cloud: EmulatedCloud) -> None:
    body = POLICY | {"alerts": {"email": None, "slack": None}}
    assert cloud.refused("POST", "/v2/monitoring/alerts", body) == (500, "server_error", "Server Error")


@pytest.mark.parametrize(
    "changes",
    [{"window": "2m"}, {"compare": "greater_than"}, {"type": "v1/insights/droplet/fans"}, {"entities": ["1"]}],
)
def test_a_policy_with_a_wrong_field_is_refused(cloud: EmulatedCloud, changes: dict[str, Any]) -> None:
    [field] = changes
    status, kind, message = cloud.refused("POST", "/v2/monitoring/alerts", POLICY | changes)
    assert (status, kind) == (400, "bad_request")
    assert message.startswith(f"invalid value for field '{field}")


def test_metrics_that_nothing_here_has_are_not_accepted_silently(cloud: EmulatedCloud) -> None:
    body = POLICY | {"type": "v1/insights/lbaas/droplet_health"}
    assert cloud.refused("POST", "/v2/monitoring/alerts", body)[:2] == (501, "not_implemented")


def test_a_policy_on_a_database_names_a_cluster(cloud: EmulatedCloud) -> None:
    of_databases = POLICY | {"type": "v1/dbaas/alerts/cpu_alerts"}
    assert cloud.http.post("/v2/monitoring/alerts", json=of_databases | {"entities": []}).status_code == 200
    body = of_databases | {"entities": ["9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"]}
    assert cloud.refused("POST", "/v2/monitoring/alerts", body)[0] == 400


def test_a_token_needs_the_scopes_of_checks_and_policies(cloud: EmulatedCloud) -> None:
    cloud.control.put("/account", json={"scopes": ["uptime:read", "monitoring:create"]}).raise_for_status()
    assert cloud.http.get("/v2/uptime/checks").status_code == 200
    assert cloud.http.post("/v2/monitoring/alerts", json=POLICY).status_code == 200
    assert cloud.refused("POST", "/v2/uptime/checks", CHECK)[:2] == (403, "forbidden")
    assert cloud.refused("GET", "/v2/monitoring/alerts")[:2] == (403, "forbidden")


def test_addresses_of_webhooks_do_not_leave_the_account_by_the_control_interface(cloud: EmulatedCloud) -> None:
    cloud.client.uptime.create_alert(check(cloud)["id"], body=ALERT)
    cloud.client.monitoring.create_alert_policy(body=POLICY | {"alerts": {"email": [], "slack": [HOOK]}})
    assert "hooks.slack.com" not in cloud.control.get("/resources").text
