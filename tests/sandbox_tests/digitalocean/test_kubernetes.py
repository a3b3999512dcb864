"""Kubernetes clusters: what the API says and refuses, what machines are asked for, and how pools scale."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.sandbox import versions
from tests.sandbox.digitalocean.state.clusters import PodView
from tests.sandbox_tests.support.emulated_cloud import DROPLET, EmulatedCloud
from tests.sandbox_tests.support.waiting import eventually

POOL = {"name": "base", "size": "s-2vcpu-4gb", "count": 1}
SCALED = {"name": "jobs", "size": "s-2vcpu-4gb", "auto_scale": True, "min_nodes": 0, "max_nodes": 2}
CLUSTER = {"name": "ci", "region": "fra1", "version": "1.36.3-do.0", "ha": False, "node_pools": [POOL]}
CLUSTERS = "/v2/kubernetes/clusters"


def cluster(cloud: EmulatedCloud, **changes: Any) -> dict[str, Any]:
    """A cluster that runs."""
    made = cloud.client.kubernetes.create_cluster(body=CLUSTER | changes)["kubernetes_cluster"]
    return running(cloud, made["id"])


def running(cloud: EmulatedCloud, cluster_id: str) -> dict[str, Any]:
    """The cluster, once it and all its nodes run."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = cloud.client.kubernetes.get_cluster(cluster_id)["kubernetes_cluster"]
        states = {found["status"]["state"], *(node["status"]["state"] for node in nodes(found))}
        return found if states == {"running"} else None

    found = eventually(look)
    assert found
    return found


def nodes(found: dict[str, Any], pool: str | None = None) -> list[dict[str, Any]]:
    """The nodes of a cluster, or of one of its pools."""
    return [node for one in found["node_pools"] for node in one["nodes"] if pool in (None, one["name"])]


def files_of(user_data: str) -> dict[str, str]:
    """The files that a machine is told to write, which nobody else there may read."""
    written = json.loads(user_data.removeprefix("#cloud-config\n"))["write_files"]
    assert {one["permissions"] for one in written} == {"0600"}
    return {one["path"].rpartition("/")[2]: base64.b64decode(one["content"]).decode() for one in written}


def refused(cloud: EmulatedCloud, **changes: Any) -> str:
    """What the API says to a cluster like this."""
    status, kind, message = cloud.refused("POST", CLUSTERS, CLUSTER | changes)
    assert (status, kind) == (422, "unprocessable_entity")
    return message


def count_of(cloud: EmulatedCloud, cluster_id: str, pool: str) -> int:
    """How many nodes a pool has and wants; -1 while the two differ."""
    found = cloud.client.kubernetes.get_cluster(cluster_id)["kubernetes_cluster"]
    wanted = next(one["count"] for one in found["node_pools"] if one["name"] == pool)
    return wanted if len(nodes(found, pool)) == wanted else -1


def test_a_cluster_runs_when_its_control_plane_and_its_nodes_do(cloud: EmulatedCloud) -> None:
    made = cloud.client.kubernetes.create_cluster(body=CLUSTER | {"tags": ["ours"]})["kubernetes_cluster"]
    assert (made["status"]["state"], made["endpoint"], made["ipv4"]) == ("provisioning", "", "")
    found = running(cloud, made["id"])
    assert found["endpoint"] == f"https://{found['id']}.k8s.ondigitalocean.com"
    assert found["tags"] == ["k8s", f"k8s:{found['id']}", "ours"]
    [node] = nodes(found)
    droplet = cloud.client.droplets.get(int(node["droplet_id"]))["droplet"]
    assert (droplet["name"], droplet["size_slug"], droplet["status"]) == (node["name"], "s-2vcpu-4gb", "active")
    assert (droplet["image"]["name"], droplet["image"]["slug"]) == ("do-kubernetes-1.36.3", None)
    assert {"k8s", "k8s:worker", f"k8s:{found['id']}"} <= {*droplet["tags"]}
    # The control plane is a machine, but none of the account's.
    assert len(cloud.backend.machines) == 2
    assert [one["id"] for one in cloud.client.droplets.list()["droplets"]] == [droplet["id"]]


def test_a_node_has_addresses_for_pods_and_the_labels_of_the_service(cloud: EmulatedCloud) -> None:
    found = cluster(cloud, node_pools=[POOL | {"count": 2, "labels": {"team": "a"}}])
    machines = [cloud.backend.machines[int(node["droplet_id"])] for node in nodes(found)]
    assert {machine.pod_cidr for machine in machines} == {"10.244.0.0/25", "10.244.0.128/25"}
    view = cloud.backend.clusters.nodes[nodes(found)[0]["name"]]
    assert view.labels["team"] == "a"
    assert view.labels["doks.digitalocean.com/node-pool"] == "base"
    assert view.labels["doks.digitalocean.com/node-id"] == nodes(found)[0]["id"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Not_A_Name"}, "name must consist of lower case alphanumeric characters or '-'"),
        ({"version": "1.12.1-do.2"}, "invalid version slug"),
        ({"region": "ams2"}, "invalid region"),
        ({"vpc_uuid": "5a4981aa-9653-4bd1-bef5-d6bff52042e4"}, "invalid vpc uuid"),
        ({"cluster_subnet": "10.244.0.0/33"}, "cluster_subnet is not a valid CIDR"),
        ({"cluster_subnet": "8.8.0.0/16"}, "cluster_subnet must be in a private range"),
        ({"cluster_subnet": "10.245.0.0/20"}, "cluster_subnet overlaps with another network"),
        ({"node_pools": []}, "worker_node_pool_specs: at least one node pool is required"),
        ({"node_pools": [POOL | {"size": "s-1vcpu-1gb"}]}, "invalid droplet size"),
        (
            {"node_pools": [POOL | {"name": "p" * 56}]},
            "worker_node_pool_specs[0].pool names cannot be greater than 55 characters",
        ),
        ({"node_pools": [POOL, POOL]}, "worker_node_pool_specs[1].pool names must be unique within a cluster"),
        (
            {"node_pools": [SCALED | {"min_nodes": 3}]},
            "worker_node_pool_specs[0].max nodes must be greater than or equal to min nodes",
        ),
        ({"node_pools": [POOL | {"count": 26}]}, "26 additional nodes but not enough available droplet limit"),
        (
            {"node_pools": [POOL, SCALED | {"max_nodes": 25}]},
            "autoscale desired max nodes exceed limits, 26 additional nodes but not enough available droplet limit",
        ),
        (
            {"control_plane_firewall": {"enabled": True, "allowed_addresses": ["home"]}},
            "control_plane_firewall.allowed_addresses: 'home' is not an address",
        ),
        (
            {"cluster_autoscaler_configuration": {"scale_down_unneeded_time": "soon"}},
            "scale_down_unneeded_time is not a valid duration",
        ),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(cloud: EmulatedCloud, changes: dict[str, Any], message: str) -> None:
    assert refused(cloud, **changes) == f"validation error: {message}"
    assert cloud.client.kubernetes.list_clusters()["kubernetes_clusters"] == []


def test_names_of_clusters_are_unique(cloud: EmulatedCloud) -> None:
    cluster(cloud)
    assert refused(cloud) == "validation error: a cluster with this name already exists"


def test_what_the_emulator_lacks_is_a_gap(cloud: EmulatedCloud) -> None:
    assert cloud.refused("POST", CLUSTERS, CLUSTER | {"sso": {"enabled": True}})[0] == 501
    assert cloud.refused("POST", CLUSTERS, CLUSTER | {"isolated_workers": True})[0] == 501
    cloud.backend.kubernetes_versions = ()
    try:
        status, _, message = cloud.refused("POST", CLUSTERS, CLUSTER)
    finally:
        cloud.backend.kubernetes_versions = ("1.36.3",)
    assert status == 501
    assert "prepare --kubernetes" in message


def test_high_availability_is_the_default_and_stays(cloud: EmulatedCloud) -> None:
    made = cluster(cloud, ha=None)
    assert (made["ha"], made["ipv4"]) == (True, "")
    path = f"{CLUSTERS}/{made['id']}"
    assert cloud.refused("PUT", path, {"name": "ci", "ha": False})[2].endswith("cannot be disabled")


def test_a_kubeconfig_has_a_token_that_expires(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    answer = cloud.http.get(f"{CLUSTERS}/{found['id']}/kubeconfig")
    assert answer.headers["content-type"].startswith("application/yaml")
    kubeconfig = yaml.safe_load(answer.text)
    assert kubeconfig["current-context"] == "do-fra1-ci"
    assert kubeconfig["clusters"][0]["cluster"]["server"] == found["endpoint"]
    token = kubeconfig["users"][0]["user"]["token"]
    credentials = cloud.client.kubernetes.get_credentials(found["id"], expiry_seconds=1)
    assert base64.b64decode(credentials["certificate_authority_data"]).startswith(b"-----BEGIN CERTIFICATE")
    assert review(cloud, token)["user"]["groups"] == ["k8saas:authenticated", "k8saas:owner"]
    assert review(cloud, cloud.token)["authenticated"] is True
    assert review(cloud, "dop_v1_wrong") == {"authenticated": False}
    eventually(lambda: review(cloud, credentials["token"]) == {"authenticated": False})


def review(cloud: EmulatedCloud, token: str) -> dict[str, Any]:
    """What the service says about a token to the control plane of the only cluster."""
    [control_plane] = [one for one in cloud.backend.machines.values() if one.name.startswith("control-plane-")]
    body = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}}
    headers = {"x-peer": control_plane.public_ipv4}
    answer = cloud.metadata.post("/v1/kubernetes/token-review", json=body, headers=headers)
    status: dict[str, Any] = answer.json()["status"]
    return status


def test_a_pool_follows_its_count(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    [pool] = found["node_pools"]
    path = f"{CLUSTERS}/{found['id']}/node_pools/{pool['id']}"
    assert cloud.http.put(path, json={"name": "base", "count": 3}).status_code == 202
    eventually(lambda: count_of(cloud, found["id"], "base") == 3)
    running(cloud, found["id"])
    cloud.http.put(path, json={"name": "base", "count": 1}).raise_for_status()
    eventually(lambda: count_of(cloud, found["id"], "base") == 1)
    assert [*cloud.backend.clusters.removed.values()] == [True, True]
    assert cloud.refused("PUT", path, {"name": "base", "count": 0})[0] == 422
    assert cloud.refused("DELETE", path)[2] == "validation error: a cluster must have at least one node pool"


def test_labels_and_taints_reach_nodes_that_run(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    [pool] = found["node_pools"]
    taint = {"key": "only", "value": "jobs", "effect": "NoSchedule"}
    body = {"name": "base", "count": 1, "labels": {"team": "b"}, "taints": [taint]}
    cloud.client.kubernetes.update_node_pool(found["id"], pool["id"], body=body)
    [view] = cloud.backend.clusters.nodes.values()
    assert (view.labels["team"], view.taints) == ("b", [taint])


@pytest.mark.parametrize(("query", "count", "drained"), [("", 1, True), ("?replace=1&skip_drain=1", 2, False)])
def test_a_node_can_be_taken_away_or_replaced(cloud: EmulatedCloud, query: str, count: int, *, drained: bool) -> None:
    found = cluster(cloud, node_pools=[POOL | {"count": 2}])
    [pool], node = found["node_pools"], nodes(found)[0]
    path = f"{CLUSTERS}/{found['id']}/node_pools/{pool['id']}/nodes/{node['id']}{query}"
    assert cloud.http.delete(path).status_code == 202
    eventually(lambda: cloud.backend.clusters.removed == {node["name"]: drained})
    eventually(lambda: count_of(cloud, found["id"], "base") == count)


def test_a_node_whose_droplet_is_gone_is_replaced(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    [node] = nodes(found)
    cloud.client.droplets.destroy(int(node["droplet_id"]))

    def replaced() -> bool:
        names = [one["name"] for one in nodes(cloud.client.kubernetes.get_cluster(found["id"])["kubernetes_cluster"])]
        return len(names) == 1 and names != [node["name"]]

    eventually(replaced)
    assert node["name"] in cloud.backend.clusters.removed


def test_pods_without_room_make_a_pool_grow_and_idle_nodes_leave_it(cloud: EmulatedCloud) -> None:
    found = cluster(
        cloud,
        node_pools=[POOL, SCALED | {"labels": {"for": "jobs"}}],
        cluster_autoscaler_configuration={"scale_down_unneeded_time": "0s"},
    )
    assert count_of(cloud, found["id"], "jobs") == 0
    # Too large for one node together, and a third that no pool is meant for.
    job = PodView("ci/job-1", cpu=1500, node_selector={"for": "jobs"})
    elsewhere = PodView("ci/other", node_selector={"for": "others"})
    cloud.backend.clusters.pending += [job, job, elsewhere]
    eventually(lambda: len([n for n in cloud.backend.clusters.nodes.values() if n.labels.get("for") == "jobs"]) == 2)
    eventually(lambda: count_of(cloud, found["id"], "jobs") == 0)
    assert count_of(cloud, found["id"], "base") == 1


def test_a_pool_does_not_grow_for_more_processors_than_the_host_has(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, host_processors=1) as cloud:
        found = cluster(cloud, node_pools=[POOL, SCALED | {"labels": {"for": "jobs"}}])
        large, small = (PodView("ci/job", cpu=cpu, node_selector={"for": "jobs"}) for cpu in (1900, 900))
        cloud.backend.clusters.pending += [large, small]
        eventually(lambda: count_of(cloud, found["id"], "jobs") == 1)
        assert len(nodes(running(cloud, found["id"]), "jobs")) == 1


def test_only_pods_that_fit_on_no_node_but_on_a_new_one_make_a_pool_grow(cloud: EmulatedCloud) -> None:
    found = cluster(cloud, node_pools=[POOL, SCALED | {"labels": {"for": "jobs"}}])
    # Two that a scheduler has not seen room for yet, one that no node is large enough for, and one for the pool.
    small, large, job = PodView("ci/small", cpu=900), PodView("ci/large", cpu=1901), PodView("ci/job", cpu=900)
    cloud.backend.clusters.pending += [small, small, large, replace(job, node_selector={"for": "jobs"})]
    eventually(lambda: count_of(cloud, found["id"], "jobs") == 1)
    assert len(nodes(running(cloud, found["id"]), "jobs")) == 1


def test_a_new_node_has_less_for_pods_by_what_every_node_runs(cloud: EmulatedCloud) -> None:
    found = cluster(cloud, node_pools=[POOL, SCALED | {"labels": {"for": "jobs"}}])
    # The second is not on nodes for jobs.
    cloud.backend.clusters.daemons += [PodView("kube-system/agent", cpu=512, tolerations=[{"operator": "Exists"}])]
    cloud.backend.clusters.daemons += [PodView("kube-system/other", cpu=512, node_selector={"for": "others"})]
    large, small = (PodView("ci/job", cpu=cpu, node_selector={"for": "jobs"}) for cpu in (1389, 1388))
    cloud.backend.clusters.pending += [large, small]
    eventually(lambda: count_of(cloud, found["id"], "jobs") == 1)
    assert len(nodes(running(cloud, found["id"]), "jobs")) == 1


def test_every_node_runs_as_much_as_the_service_puts_there(cloud: EmulatedCloud) -> None:
    cluster(cloud)
    [control_plane] = [one for one in cloud.backend.machines.values() if one.name.startswith("control-plane-")]
    addons = files_of(control_plane.user_data)["addons.yaml"]
    [daemons] = [one for one in yaml.safe_load_all(addons) if one["kind"] == "DaemonSet"]
    pod = daemons["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    [container] = pod["containers"]
    # From what every machine brings along.
    assert container["image"] == versions.PAUSE
    assert container["resources"]["requests"] == {"cpu": "512m", "memory": "400Mi"}


def test_a_pod_that_may_not_be_evicted_holds_its_node(cloud: EmulatedCloud) -> None:
    found = cluster(
        cloud,
        node_pools=[POOL, SCALED | {"min_nodes": 1, "labels": {"for": "jobs"}}],
        cluster_autoscaler_configuration={"scale_down_unneeded_time": "0s"},
    )
    held = nodes(found, "jobs")[0]["name"]
    clusters = cloud.backend.clusters
    clusters.nodes[held] = replace(clusters.nodes[held], pods=[PodView("ci/job", cpu=100, safe_to_evict=False)])
    clusters.pending.append(PodView("ci/second", cpu=1900, node_selector={"for": "jobs"}))
    eventually(lambda: len(clusters.nodes) == 3)
    eventually(lambda: count_of(cloud, found["id"], "jobs") == 1)
    assert held in clusters.nodes


def test_a_firewall_of_the_control_plane_lets_only_its_addresses_in(cloud: EmulatedCloud) -> None:
    found = cluster(cloud, control_plane_firewall={"enabled": True, "allowed_addresses": ["192.0.2.10"]})
    [number] = [key for key, one in cloud.backend.machines.items() if one.name.startswith("control-plane-")]
    [rules] = [one for one in cloud.backend.picture.firewalls if one.machine_id == number]
    api = next(rule for rule in rules.inbound if rule.ports == "443")
    assert "192.0.2.10" in api.peers
    assert "0.0.0.0/0" not in api.peers
    droplet = cloud.client.droplets.get(int(nodes(found)[0]["droplet_id"]))["droplet"]
    public = next(one["ip_address"] for one in droplet["networks"]["v4"] if one["type"] == "public")
    assert f"{public}/32" in api.peers


def test_a_cluster_goes_with_all_that_the_service_made_for_it(cloud: EmulatedCloud) -> None:
    found = cluster(cloud, node_pools=[POOL, SCALED | {"min_nodes": 1}])
    vpc = f"/v2/vpcs/{found['vpc_uuid']}"
    members = cloud.client.vpcs.list_members(found["vpc_uuid"])["members"]
    assert f"do:kubernetes:{found['id']}" in {member["urn"] for member in members}
    assert cloud.refused("DELETE", vpc)[0] == 403
    cloud.client.kubernetes.delete_cluster(found["id"])
    eventually(lambda: cloud.http.get(f"{CLUSTERS}/{found['id']}").status_code == 404)
    assert cloud.backend.machines == {}
    assert cloud.client.firewalls.list()["firewalls"] == []
    assert cloud.client.vpcs.list_members(found["vpc_uuid"])["members"] == []


def test_a_restart_in_the_middle_finishes_a_cluster(cloud: EmulatedCloud) -> None:
    cloud.control.put("/transitions", json={"kubernetes_node.create": {"mode": "held"}}).raise_for_status()
    made = cloud.client.kubernetes.create_cluster(body=CLUSTER)["kubernetes_cluster"]
    eventually(lambda: count_of(cloud, made["id"], "base") == 1)
    cloud.restart()
    cloud.control.put("/transitions", json={}).raise_for_status()
    assert len(nodes(running(cloud, made["id"]))) == 1


def test_a_cluster_that_does_not_come_up_says_so(cloud: EmulatedCloud) -> None:
    cloud.backend.clusters.broken = True
    try:
        made = cloud.client.kubernetes.create_cluster(body=CLUSTER)["kubernetes_cluster"]
        path = f"{CLUSTERS}/{made['id']}"
        eventually(lambda: cloud.http.get(path).json()["kubernetes_cluster"]["status"]["state"] == "error")
        cloud.http.delete(path).raise_for_status()
        eventually(lambda: cloud.http.get(path).status_code == 404)
    finally:
        cloud.backend.clusters.broken = False


def test_nodes_count_for_the_limit_of_droplets(cloud: EmulatedCloud) -> None:
    cluster(cloud)
    cloud.control.put("/account", json={"droplet_limit": 1}).raise_for_status()
    assert "droplet limit" in cloud.refused("POST", "/v2/droplets", DROPLET)[2]
    assert refused(cloud, name="second").endswith("1 additional nodes but not enough available droplet limit")


def test_nothing_secret_of_a_cluster_is_shown(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    shown = json.dumps(found) + cloud.control.get("/resources").text
    assert "PRIVATE KEY" not in shown
    assert "dop_v1_" not in shown


def test_tokens_need_a_scope_for_each_request_and_for_the_cluster_itself(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    account = {"tokens": {"dop_v1_reader": ["kubernetes:read"]}}
    cloud.control.put("/account", json=account).raise_for_status()
    reader = {"authorization": "Bearer dop_v1_reader"}
    path = f"{CLUSTERS}/{found['id']}"
    assert cloud.http.get(path, headers=reader).status_code == 200
    assert cloud.http.get(f"{path}/kubeconfig", headers=reader).status_code == 403
    assert cloud.http.delete(path, headers=reader).status_code == 403
    assert review(cloud, "dop_v1_reader") == {"authenticated": False}


def test_options_offer_what_a_cluster_can_be_made_of(cloud: EmulatedCloud) -> None:
    options = cloud.client.kubernetes.list_options()["options"]
    assert options["versions"][0]["slug"] == "1.36.3-do.0"
    assert "s-2vcpu-4gb" in {size["slug"] for size in options["sizes"]}
    assert "s-1vcpu-1gb" not in {size["slug"] for size in options["sizes"]}
    assert "fra1" in {region["slug"] for region in options["regions"]}


def test_a_node_reads_its_own_credentials_from_the_metadata_service_and_no_others(cloud: EmulatedCloud) -> None:
    found = cluster(cloud)
    [node] = nodes(found)
    machine = cloud.backend.machines[int(node["droplet_id"])]
    told = cloud.metadata.get("/metadata/v1/user-data", headers={"x-peer": machine.public_ipv4}).text
    files = files_of(told)
    assert f"providerID: digitalocean://{machine.id}" in files["kubelet.yaml.in"]
    certificate = base64.b64decode(
        yaml.safe_load(files["kubelet.kubeconfig"])["users"][0]["user"]["client-certificate-data"]
    )
    subject = x509.load_pem_x509_certificate(certificate).subject
    assert subject.rfc4514_string() == f"CN=system:node:{node['name']},O=system:nodes"
    assert not {"ca.key", "service-accounts.key", "admin.kubeconfig"} & {*files}
    # The control plane is nobody's droplet.
    [control_plane] = [one for one in cloud.backend.machines.values() if one.name.startswith("control-plane-")]
    headers = {"x-peer": control_plane.public_ipv4}
    assert cloud.metadata.get("/metadata/v1/user-data", headers=headers).status_code == 404
