"""A Kubernetes cluster of the sandbox is one: real programs on machines, behind DigitalOcean's API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.sandbox.layout import API_HOST, WORKSTATION
from tests.scale.clusters import BOOT, CLUSTERS, SOON, Cluster, account, eventually

POOLS = [
    {"name": "base", "size": "s-2vcpu-4gb", "count": 1},
    {
        "name": "jobs",
        "size": "s-2vcpu-4gb",
        "auto_scale": True,
        "min_nodes": 0,
        "max_nodes": 2,
        "labels": {"for": "jobs"},
        "taints": [{"key": "jobs", "value": "true", "effect": "NoSchedule"}],
    },
]
CLUSTER = {
    "name": "scale",
    "region": "fra1",
    "version": "1.36.3-do.0",
    "ha": False,
    "node_pools": POOLS,
    "cluster_autoscaler_configuration": {"scale_down_unneeded_time": "3s"},
}
JOB = {
    "nodeSelector": {"for": "jobs"},
    "tolerations": [{"key": "jobs", "operator": "Exists"}],
    "terminationGracePeriodSeconds": 0,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that runs, and is gone afterwards with all that the service made for it."""
    with account() as http:
        made = http.post(CLUSTERS, json=CLUSTER).raise_for_status().json()["kubernetes_cluster"]
        found = Cluster(http, made["id"], tmp_path_factory.mktemp("cluster"))
        eventually(lambda: found.show()["status"]["state"] == "running", BOOT)
        found.sign_in()
        yield found
        http.delete(found.path).raise_for_status()
        eventually(lambda: http.get(found.path).status_code == 404, BOOT)
        assert http.get("/v2/droplets", params={"tag_name": f"k8s:{found.id}"}).json()["droplets"] == []


def test_the_kubeconfig_leads_to_a_cluster_of_the_version_that_was_asked_for(cluster: Cluster) -> None:
    versions = json.loads(cluster.run("version", "--output=json"))
    assert versions["serverVersion"]["gitVersion"] == "v1.36.3"
    [pool] = [one for one in cluster.show()["node_pools"] if one["name"] == "base"]
    [node] = pool["nodes"]
    labels = json.loads(cluster.run("get", "node", node["name"], "--output=jsonpath={.metadata.labels}"))
    assert labels["doks.digitalocean.com/node-pool"] == "base"
    provider = cluster.run("get", "node", node["name"], "--output=jsonpath={.spec.providerID}")
    assert provider == f"digitalocean://{node['droplet_id']}"


def test_a_token_that_has_expired_is_refused_by_the_cluster(cluster: Cluster) -> None:
    cluster.sign_in(seconds=1)
    try:
        eventually(lambda: "Unauthorized" in cluster.kubectl("get", "nodes").stderr, SOON)
    finally:
        cluster.sign_in()


def test_a_pod_has_dns_and_reaches_the_world_and_the_metadata_service(cluster: Cluster) -> None:
    cluster.pod("probe")
    cluster.ready("probe")
    assert cluster.run("exec", "probe", "--", "getent", "hosts", "kubernetes.default").startswith("10.245.0.1 ")
    assert cluster.connects("probe", API_HOST, 443)
    # As on the real service, nothing but a network policy stands between a pod and the credentials of its node.
    assert cluster.connects("probe", "169.254.169.254", 80)


def test_a_network_policy_is_enforced(cluster: Cluster) -> None:
    outside = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "closed"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "probe"}},
            "policyTypes": ["Egress"],
            "egress": [{"to": [outside]}],
        },
    }
    cluster.run("apply", "--filename=-", stdin=json.dumps(policy))
    eventually(lambda: not cluster.connects("probe", "169.254.169.254", 80), SOON)
    assert cluster.connects("probe", API_HOST, 443)
    cluster.run("delete", "networkpolicy", "closed")


def test_a_firewall_of_the_control_plane_stops_all_but_its_addresses_and_the_nodes(cluster: Cluster) -> None:
    def close(*allowed: str, enabled: bool) -> None:
        firewall = {"enabled": enabled, "allowed_addresses": allowed}
        body = {"name": CLUSTER["name"], "control_plane_firewall": firewall}
        cluster.http.put(cluster.path, json=body).raise_for_status()

    probe = ("get", "nodes", "--request-timeout=2s")
    try:
        close("198.51.100.7", enabled=True)
        eventually(lambda: cluster.kubectl(*probe).returncode != 0, SOON)
        close("198.51.100.7", str(WORKSTATION.ip), enabled=True)
        eventually(lambda: cluster.kubectl(*probe).returncode == 0, SOON)
        [node] = cluster.nodes()
        assert cluster.run("get", "node", node, "--no-headers").split()[1] == "Ready"
    finally:
        close(enabled=False)


def test_a_pod_without_room_gets_a_node_that_goes_when_it_is_idle(cluster: Cluster) -> None:
    assert len(cluster.nodes()) == 1
    cluster.pod("job", **JOB)
    cluster.ready("job")
    node = cluster.node_of("job")
    assert node.startswith("jobs-")
    # A node is ready when its services are: kube-proxy's rules once got lost while kube-router wrote its own.
    assert cluster.run("exec", "job", "--", "getent", "hosts", "kubernetes.default").startswith("10.245.0.1 ")
    address = cluster.run("get", "pod", "job", "--output=jsonpath={.status.podIP}")
    assert (
        cluster.run("exec", "probe", "--", "bash", "-c", f"exec 3<>/dev/tcp/{address}/1 || echo refused") == "refused"
    )
    cluster.run("delete", "pod", "job")
    eventually(lambda: cluster.nodes() == [cluster.node_of("probe")], SOON)


def test_a_node_that_is_killed_under_a_job_is_replaced(cluster: Cluster) -> None:
    cluster.pod("victim", **JOB)
    cluster.ready("victim")
    node = cluster.node_of("victim")
    [droplet] = [
        node_of_pool["droplet_id"]
        for pool in cluster.show()["node_pools"]
        for node_of_pool in pool["nodes"]
        if node_of_pool["name"] == node
    ]
    cluster.http.delete(f"/v2/droplets/{droplet}").raise_for_status()
    eventually(lambda: node not in cluster.nodes(), BOOT)
    # A pod without a controller goes with its node: nobody makes it again.
    eventually(lambda: "NotFound" in cluster.kubectl("get", "pod", "victim").stderr, BOOT)
    eventually(lambda: len(cluster.nodes()) == 1, BOOT)
