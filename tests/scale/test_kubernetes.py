"""A Kubernetes cluster of the sandbox is one: real programs on machines, behind DigitalOcean's API."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tenacity

from tests.sandbox.layout import API_HOST, WORKSTATION, current

CLUSTERS = "/v2/kubernetes/clusters"
#: Seconds for something that boots a machine, and for something that a cluster does by itself.
BOOT, SOON = 240, 60
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


def eventually(probe: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so. The API takes 250 requests a minute."""
    asking = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda found: not found),
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_fixed(0.5),
    )
    asking(probe)


class Cluster:
    """A cluster, by its API and by kubectl with the kubeconfig that the API gives."""

    def __init__(self, http: httpx.Client, cluster_id: str, folder: Path) -> None:
        self.http, self.id = http, cluster_id
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.touch(mode=0o600)
        self._kubectl = current().cache / "kubernetes" / "programs" / "kubectl"

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"{CLUSTERS}/{self.id}"

    def show(self) -> dict[str, Any]:
        """What the API says of it."""
        found: dict[str, Any] = self.http.get(self.path).raise_for_status().json()["kubernetes_cluster"]
        return found

    def sign_in(self, seconds: int = 0) -> None:
        """Get a kubeconfig that is valid for so long."""
        answer = self.http.get(f"{self.path}/kubeconfig", params={"expiry_seconds": seconds}).raise_for_status()
        self._kubeconfig.write_text(answer.text)

    def kubectl(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, which may fail."""
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
        command = [str(self._kubectl), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, input=stdin)

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl, which must not fail."""
        done = self.kubectl(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def pod(self, name: str, **spec: Any) -> None:
        """Start a pod that waits, in the image of the sandbox's Docker Hub."""
        container: dict[str, Any] = {"name": "main", "image": "debian:13-slim", "command": ["sleep", "3600"]}
        container["resources"] = {"requests": {"cpu": "100m"}}
        content = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
        }
        self.run("apply", "--filename=-", stdin=json.dumps(content))

    def ready(self, name: str) -> None:
        """Wait until a pod runs."""
        self.run("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={BOOT}s")

    def node_of(self, name: str) -> str:
        """The node that a pod is on."""
        return self.run("get", "pod", name, "--output=jsonpath={.spec.nodeName}")

    def connects(self, pod: str, address: str, port: int) -> bool:
        """Whether a pod reaches an address."""
        probe = f"exec 3<>/dev/tcp/{address}/{port}"
        return self.kubectl("exec", pod, "--", "timeout", "5", "bash", "-c", probe).returncode == 0

    def nodes(self) -> list[str]:
        """The nodes that the cluster has."""
        return self.run("get", "nodes", "--output=jsonpath={.items[*].metadata.name}").split()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that runs, and is gone afterwards with all that the service made for it."""
    headers = {"Authorization": f"Bearer {current().token_file.read_text().strip()}"}
    with httpx.Client(base_url=f"https://{API_HOST}", headers=headers, timeout=30) as http:
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
