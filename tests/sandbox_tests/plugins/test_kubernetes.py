"""Clusters and node pools of the plugin for DigitalOcean, against the emulated API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sandbox.plugins.base.framework import PartlyMadeError, PluginError
from tests.sandbox.plugins.digitalocean.kubernetes import GetKubernetesCluster, GetKubernetesVersions
from tests.sandbox.plugins.digitalocean.session import Session
from tests.sandbox.plugins.provider_digitalocean import DigitalOcean
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.pulumi_engine import Engine, ResourceDriver
from tests.sandbox_tests.support.waiting import eventually

CLUSTER: dict[str, Any] = {
    "name": "ci",
    "region": "fra1",
    "version": "1.36.3-do.0",
    "nodePool": {"name": "base", "size": "s-2vcpu-4gb", "nodeCount": 1},
    "clusterAutoscalerConfigurations": [{"scaleDownUnneededTime": "10m0s"}],
}
POOL: dict[str, Any] = {
    "name": "jobs",
    "size": "s-2vcpu-4gb",
    "autoScale": True,
    "minNodes": 0,
    "maxNodes": 2,
    "labels": {"for": "jobs"},
    "taints": [{"key": "jobs", "value": "true", "effect": "NoSchedule"}],
}


@pytest.fixture
def driver(cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> ResourceDriver:
    monkeypatch.setenv("SSL_CERT_FILE", str(cloud.ca_certificate))
    return ResourceDriver(DigitalOcean(), Session({"token": cloud.token, "apiEndpoint": cloud.url}))


def differences(driver: ResourceDriver, kind: str, old: dict[str, Any], wanted: dict[str, Any]) -> dict[str, bool]:
    return dict(driver.resource(kind).differences(old, driver.checked(kind, wanted)))


def drift(driver: ResourceDriver, kind: str, observed: dict[str, Any], wanted: dict[str, Any]) -> dict[str, bool]:
    """What the next update would change after a refresh."""
    refreshed = driver.resource(kind).refreshed_inputs(driver.checked(kind, wanted), observed)
    return differences(driver, kind, refreshed, wanted)


def gone(cloud: EmulatedCloud, identifier: str) -> bool:
    return cloud.http.get(f"/v2/kubernetes/clusters/{identifier}").status_code == 404


def test_a_cluster_is_created_read_changed_and_deleted(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    identifier, state = driver.create("KubernetesCluster", **CLUSTER, tags=["ours"])
    assert (state["status"], state["ha"], state["surgeUpgrade"]) == ("running", False, True)
    assert state["endpoint"] == f"https://{identifier}.k8s.ondigitalocean.com"
    assert state["nodePool"]["nodes"][0]["status"] == "running"
    _, observed = driver.read("KubernetesCluster", identifier, state)
    assert drift(driver, "KubernetesCluster", observed, CLUSTER | {"tags": ["ours"]}) == {}
    pool = CLUSTER["nodePool"] | {"nodeCount": 2}
    changed = driver.update("KubernetesCluster", identifier, state, nodePool=pool, tags=[])
    assert (changed["nodePool"]["actualNodeCount"], changed["tags"]) == (2, [])
    driver.delete("KubernetesCluster", identifier, changed | {"destroyAllAssociatedResources": True})
    driver.delete("KubernetesCluster", identifier, changed)
    eventually(lambda: gone(cloud, identifier))
    assert driver.read("KubernetesCluster", identifier, changed) is None
    driver.delete("KubernetesCluster", identifier, changed)


def test_a_kubeconfig_stays_until_its_token_has_expired(driver: ResourceDriver) -> None:
    identifier, state = driver.create("KubernetesCluster", **CLUSTER)
    [first] = state["kubeConfigs"]
    content = yaml.safe_load(first["rawConfig"])
    assert content["users"][0]["user"]["token"] == first["token"]
    assert content["clusters"][0]["cluster"]["server"] == first["host"] == state["endpoint"]
    _, observed = driver.read("KubernetesCluster", identifier, state)
    assert observed["kubeConfigs"] == [first]
    expired = state | {"kubeConfigs": [first | {"expiresAt": "2020-01-01T00:00:00Z"}]}
    _, observed = driver.read("KubernetesCluster", identifier, expired)
    assert observed["kubeConfigs"][0]["token"] != first["token"]
    assert "kubeConfigs" in driver.resource("KubernetesCluster").secret_outputs


def test_what_needs_another_cluster_replaces_it(driver: ResourceDriver) -> None:
    old = driver.checked("KubernetesCluster", CLUSTER)
    larger = CLUSTER["nodePool"] | {"size": "s-4vcpu-8gb"}
    for change in ({"region": "nyc3"}, {"version": "1.35.7-do.0"}, {"ha": True}, {"nodePool": larger}):
        assert [*differences(driver, "KubernetesCluster", old, CLUSTER | change).values()] == [True]
    for harmless in ({"version": "1.37.0-do.0"}, {"name": "other"}, {"tags": ["a"]}):
        assert [*differences(driver, "KubernetesCluster", old, CLUSTER | harmless).values()] == [False]


def test_a_cluster_that_does_not_come_up_is_not_in_the_state(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    cloud.hold("kubernetes.create")
    with pytest.raises(PluginError, match=r"timeout after 0\.5 s while waiting for Kubernetes cluster") as failure:
        driver.create("KubernetesCluster", timeout=0.5, **CLUSTER)
    assert not isinstance(failure.value, PartlyMadeError)
    cloud.hold()


def test_a_pool_is_created_read_changed_imported_and_deleted(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    cluster, _ = driver.create("KubernetesCluster", **CLUSTER)
    wanted = POOL | {"clusterId": cluster}
    identifier, state = driver.create("KubernetesNodePool", **wanted)
    assert (state["actualNodeCount"], state["nodes"]) == (0, [])
    _, observed = driver.read("KubernetesNodePool", identifier, state)
    assert drift(driver, "KubernetesNodePool", observed, wanted) == {}
    imported = driver.read("KubernetesNodePool", identifier)[1]
    assert imported["clusterId"] == cluster
    changed = driver.update("KubernetesNodePool", identifier, state, minNodes=1, labels={})
    assert (changed["actualNodeCount"], changed["labels"], changed["tags"]) == (1, None, [])
    driver.delete("KubernetesNodePool", identifier, changed)
    assert driver.read("KubernetesNodePool", identifier, changed) is None
    driver.delete("KubernetesNodePool", identifier, changed)
    assert len(cloud.get(f"/v2/kubernetes/clusters/{cluster}/node_pools")["node_pools"]) == 1


def test_the_first_pool_of_a_cluster_is_imported_with_it(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    pools = [{"name": "base", "size": "s-2vcpu-4gb", "count": 1}]
    body = {"name": "byhand", "region": "fra1", "version": "1.36.3-do.0", "ha": False, "node_pools": pools}
    made = cloud.http.post("/v2/kubernetes/clusters", json=body).raise_for_status().json()["kubernetes_cluster"]
    _, state = driver.read("KubernetesCluster", made["id"])
    assert state["nodePool"]["name"] == "base"
    assert state["nodePool"]["tags"] == []
    with pytest.raises(PluginError, match="has the default node pool tag set"):
        driver.read("KubernetesNodePool", state["nodePool"]["id"])


def test_what_the_api_refuses_is_told_in_its_words(driver: ResourceDriver) -> None:
    with pytest.raises(PluginError, match="422 validation error: invalid version slug"):
        driver.create("KubernetesCluster", **CLUSTER | {"version": "1.12.1-do.2"})
    assert driver.failures("KubernetesNodePool", POOL | {"clusterId": "a", "taints": [{"key": "a"}]})


def test_versions_and_clusters_can_be_asked_for(driver: ResourceDriver) -> None:
    versions = GetKubernetesVersions().invoke(driver.call(), {"versionPrefix": "1.36."})
    assert (versions["latestVersion"], versions["validVersions"]) == ("1.36.3-do.0", ["1.36.3-do.0"])
    with pytest.raises(PluginError, match="No Kubernetes versions"):
        GetKubernetesVersions().invoke(driver.call(), {"versionPrefix": "1.12"})
    identifier, _ = driver.create("KubernetesCluster", **CLUSTER)
    found = GetKubernetesCluster().invoke(driver.call(), {"name": "ci"})
    assert (found["id"], found["nodePools"][0]["name"]) == (identifier, "base")
    with pytest.raises(PluginError, match="Unable to find cluster with name: other"):
        GetKubernetesCluster().invoke(driver.call(), {"name": "other"})


def test_the_engine_creates_refreshes_changes_and_destroys_a_cluster(cloud: EmulatedCloud, tmp_path: Path) -> None:
    settings = {"token": cloud.token, "endpoint": cloud.url, "most": 2}
    # The first network of a region could not be deleted again.
    cloud.client.vpcs.create(body={"name": "first", "region": "fra1"})
    engine = Engine(tmp_path, "cluster", settings, {"SSL_CERT_FILE": str(cloud.ca_certificate)})
    engine.up()
    outputs = engine.outputs()
    assert outputs["endpoint"].endswith(".k8s.ondigitalocean.com")
    token = yaml.safe_load(outputs["kubeconfig"])["users"][0]["user"]["token"]
    assert token not in engine.run("stack", "export")
    assert "5 unchanged" in engine.run("refresh", "--yes", "--skip-preview")
    assert engine.changes() == {"same": 5}
    engine.configure({"most": 3})
    assert engine.changes() == {"same": 4, "update": 1}
    engine.up()
    # The network can only go once the cluster has left it, which takes longer than the answer to its deletion.
    engine.destroy()
    assert set(cloud.exists()) <= {"tags"}
