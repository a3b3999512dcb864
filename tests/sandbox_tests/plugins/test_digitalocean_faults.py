"""What the provider `digitalocean` does about faults of the API: it asks again, and forgets nothing that it made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.plugins.base.framework import PartlyMadeError, PluginError
from tests.sandbox.plugins.digitalocean.session import Session
from tests.sandbox.plugins.provider_digitalocean import DigitalOcean
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud, public_key
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver

VOLUME: dict[str, Any] = {"region": "nyc3", "size": 10, "name": "data"}
RULE = {"protocol": "icmp", "sourceAddresses": ["0.0.0.0/0"]}
#: A resource of each kind whose answer is read back, with the path of that.
READ_BACK: dict[str, tuple[dict[str, Any], str]] = {
    "SshKey": ({"name": "me", "publicKey": public_key()}, "/v2/account/keys/*"),
    "Vpc": ({"name": "net", "region": "nyc3", "ipRange": "10.20.0.0/20"}, "/v2/vpcs/*"),
    "Volume": (VOLUME, "/v2/volumes/*"),
    "Firewall": ({"name": "wall", "inboundRules": [RULE]}, "/v2/firewalls/*"),
    "Domain": ({"name": "example.com"}, "/v2/domains/*"),
    "Project": ({"name": "all"}, "/v2/projects/*"),
    "ReservedIp": ({"region": "nyc3"}, "/v2/reserved_ips/*"),
    "Droplet": (
        {"name": "web", "image": "debian-13-x64", "size": "s-1vcpu-1gb", "region": "nyc3"},
        "/v2/droplets/*",
    ),
}


@pytest.fixture
def driver(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> ResourceDriver:
    monkeypatch.setenv("SSL_CERT_FILE", str(cloud.ca_certificate))
    session = Session({"token": cloud.token, "apiEndpoint": cloud.url, "httpRetryWaitMin": 0.01})
    return ResourceDriver(DigitalOcean(), session)


def sent(cloud: EmulatedCloud, method: str) -> list[str]:
    return [path for one, path in cloud.requests() if one == method]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": 1},
        {"status": 503, "retry_after": 1},
        {"status": 500, "count": 4},
        {"status": 502, "page": True},
        {"drop": True},
        {"delay": 0.2},
    ],
    ids=["429", "503", "500 four times", "error page", "no answer", "slow"],
)
def test_a_create_is_repeated_after_trouble(
    cloud: EmulatedCloud, driver: ResourceDriver, fault: dict[str, Any]
) -> None:
    cloud.add_fault({"method": "POST", "path": "/v2/volumes", **fault})
    driver.create("Volume", **VOLUME)
    assert len(cloud.exists()["volumes"]) == 1
    assert cloud.control.get("/faults").json() == []


def test_what_the_answer_says_is_waited_for(
    cloud: EmulatedCloud, driver: ResourceDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tests.sandbox.plugins.digitalocean.session.time.sleep", waits.append)
    for fault in ({"status": 429, "retry_after": 40}, {"status": 503}, {"status": 500, "retry_after": 40}):
        cloud.add_fault({"path": "/v2/vpcs", **fault})
    driver.create("Vpc", name="net", region="nyc3", ipRange="10.20.0.0/20")
    assert waits == [40, 0.02, 0.04]


def test_after_the_last_repetition_and_for_what_is_refused_the_error_is_reported(
    cloud: EmulatedCloud, driver: ResourceDriver
) -> None:
    for status, times in ((500, 5), (501, 1), (422, 1)):
        cloud.add_fault({"method": "POST", "path": "/v2/volumes", "status": status, "count": times})
        with pytest.raises(PluginError, match=f"POST /v2/volumes: {status} injected fault"):
            driver.create("Volume", **VOLUME)
        assert cloud.control.get("/faults").json() == []
    assert "volumes" not in cloud.exists()


def test_a_create_whose_answer_was_lost_is_repeated_as_well(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    lost = {"method": "POST", "drop": True, "after": True}
    cloud.add_fault({"path": "/v2/volumes", **lost})
    with pytest.raises(PluginError, match="POST /v2/volumes: 409"):
        driver.create("Volume", **VOLUME)
    # Nothing is unique about these: there are two, and only one is known.
    cloud.add_fault({"path": "/v2/droplets", **lost})
    driver.create("Droplet", **READ_BACK["Droplet"][0])
    assert len(cloud.exists()["droplets"]) == 2


@pytest.mark.parametrize("kind", READ_BACK)
def test_what_was_made_and_cannot_be_read_back_is_recorded_and_completed_by_the_next_update(
    cloud: EmulatedCloud, driver: ResourceDriver, kind: str
) -> None:
    inputs, path = READ_BACK[kind]
    cloud.add_fault({"method": "GET", "path": path, "status": 500, "count": 5})
    with pytest.raises(PartlyMadeError) as failure:
        driver.create(kind, **inputs)
    state = driver.update(kind, failure.value.identifier, failure.value.outputs)
    found = driver.read(kind, failure.value.identifier, state)
    assert found is not None
    assert {name: state.get(name) for name in found[1]} == found[1]
