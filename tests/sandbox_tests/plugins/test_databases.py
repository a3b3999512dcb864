"""Managed databases by the plugin `digitalocean`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.plugins.base.framework import PartlyMadeError, PluginError
from tests.sandbox.plugins.digitalocean.databases import GetDatabaseCa
from tests.sandbox.plugins.digitalocean.session import Session
from tests.sandbox.plugins.provider_digitalocean import DigitalOcean
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.pulumi_engine import ResourceDriver

CLUSTER: dict[str, Any] = {
    "name": "gitlab-db",
    "engine": "pg",
    "version": "17",
    "size": "db-s-1vcpu-2gb",
    "region": "nyc3",
    "nodeCount": 1,
    "tags": ["a"],
    "maintenanceWindows": [{"day": "sunday", "hour": "03:00:00"}],
}


@pytest.fixture
def driver(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> ResourceDriver:
    monkeypatch.setenv("SSL_CERT_FILE", str(cloud.ca_certificate))
    return ResourceDriver(DigitalOcean(), Session({"token": cloud.token, "apiEndpoint": cloud.url}))


def test_a_cluster_is_created_read_grown_and_deleted(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    identifier, state = driver.create("DatabaseCluster", **CLUSTER)
    there = cloud.get(f"/v2/databases/{identifier}")["database"]
    assert (there["status"], there["maintenance_window"]["day"]) == ("online", "sunday")
    assert state["privateHost"] == there["private_connection"]["host"]
    assert state["password"] == there["connection"]["password"]
    _, observed = driver.read("DatabaseCluster", identifier, state)
    wanted = driver.checked("DatabaseCluster", CLUSTER)
    assert dict(driver.resource("DatabaseCluster").differences(observed, wanted)) == {}
    state = driver.update("DatabaseCluster", identifier, state, size="db-s-2vcpu-4gb", tags=["b"])
    assert (state["size"], state["tags"]) == ("db-s-2vcpu-4gb", ["b"])
    driver.delete("DatabaseCluster", identifier, state)
    assert driver.read("DatabaseCluster", identifier, state) is None
    driver.delete("DatabaseCluster", identifier, state)


def test_another_engine_or_network_is_another_cluster_and_another_version_or_region_is_not(
    driver: ResourceDriver,
) -> None:
    old = driver.checked("DatabaseCluster", CLUSTER | {"privateNetworkUuid": "a"})
    new = old | {"version": "18", "privateNetworkUuid": "b", "size": "db-s-2vcpu-4gb", "nodeCount": 2, "region": "fra1"}
    changed = dict(driver.resource("DatabaseCluster").differences(old, new))
    assert [name for name, replaces in changed.items() if replaces] == ["privateNetworkUuid"]
    assert changed.keys() == {"version", "region", "privateNetworkUuid", "size", "nodeCount"}
    assert dict(driver.resource("DatabaseCluster").differences(old, old | {"engine": "valkey"})) == {"engine": True}


def test_an_upgrade_is_asked_of_the_service(driver: ResourceDriver) -> None:
    identifier, state = driver.create("DatabaseCluster", **CLUSTER)
    with pytest.raises(PluginError, match="upgrades of databases"):
        driver.update("DatabaseCluster", identifier, state, version="18")


def test_a_cluster_that_does_not_come_online_is_kept_in_the_state(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    cloud.hold("database.create")
    with pytest.raises(PartlyMadeError, match="to be online"):
        driver.create("DatabaseCluster", timeout=0.5, **CLUSTER)
    cloud.hold()


def test_what_is_in_a_cluster_is_created_and_deleted_with_it(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    cluster, _ = driver.create("DatabaseCluster", **CLUSTER)
    rules = [{"type": "tag", "value": "gitlab"}, {"type": "ip_addr", "value": "192.0.2.1"}]
    for kind, inputs in (
        ("DatabaseUser", {"name": "gitlab"}),
        ("DatabaseDb", {"name": "gitlabhq_production"}),
        ("DatabaseFirewall", {"rules": rules}),
    ):
        identifier, state = driver.create(kind, clusterId=cluster, **inputs)
        _, observed = driver.read(kind, identifier, state)
        wanted = driver.checked(kind, {"clusterId": cluster, **inputs})
        assert dict(driver.resource(kind).differences(observed, wanted)) == {}
        driver.delete(kind, identifier, state)
        assert driver.read(kind, identifier, state) is None
        driver.delete(kind, identifier, state)
    assert cloud.get(f"/v2/databases/{cluster}/firewall") == {"rules": []}


def test_a_valkey_has_its_policy_and_the_authority_is_a_certificate(
    cloud: EmulatedCloud, driver: ResourceDriver
) -> None:
    del cloud
    inputs = CLUSTER | {"engine": "valkey", "version": "8", "evictionPolicy": "allkeys_lru"}
    identifier, state = driver.create("DatabaseCluster", **inputs)
    assert state["evictionPolicy"] == "allkeys_lru"
    certificate = GetDatabaseCa().invoke(driver.call(), {"clusterId": identifier})["certificate"]
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")
