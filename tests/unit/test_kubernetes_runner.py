"""A runner on Kubernetes: what is declared, what jobs may do there, and what is refused at preview."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from components import api, lost_answers
from components.rendering import script
from components.settings import SettingsError
from tests.certificates import provided, root
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import KUBERNETES, ROOT, RecordingEngine, run_program

NAME = "delivery-docker-builder"
CLUSTER = f"{NAME}-kubernetes-cluster"


def on_kubernetes(runner: dict[str, Any] | None = None, **settings: Any) -> RecordingEngine:
    """The program with one project, whose runner has a cluster."""
    return delivered(runner={"kind": "kubernetes", **(runner or {})}, **settings)


def errors(runner: dict[str, Any] | None = None, engine: RecordingEngine | None = None, **settings: Any) -> list[str]:
    """What is refused."""
    with pytest.raises(SettingsError) as caught:
        on_kubernetes(runner, engine=engine, **settings)
    return caught.value.errors


def configuration(engine: RecordingEngine) -> Any:
    """The manager's config.toml."""
    return tomllib.loads(engine.named(f"{NAME}-configuration").inputs["stringData"]["config.toml"])


def kubernetes_of(engine: RecordingEngine) -> dict[str, Any]:
    """The table `[runners.kubernetes]`."""
    [runner] = configuration(engine)["runners"]
    assert runner["executor"] == "kubernetes"
    found: dict[str, Any] = runner["kubernetes"]
    return found


def deployed(**more: Any) -> dict[str, dict[str, Any]]:
    """A state in which the cluster is."""
    urn = (
        "urn:pulumi:test::slipway::slipway:index:Delivery$slipway:index:KubernetesRunner$slipway:index:KubernetesCluster"
        f"$digitalocean:index/kubernetesCluster:KubernetesCluster::{CLUSTER}"
    )
    return {urn: {"name": "slipway-test-docker-builder", "version": "1.35.2-do.0", "ha": False, **more}}


def test_a_cluster_has_a_node_that_stays_and_a_pool_that_shrinks_to_none() -> None:
    engine = on_kubernetes({"size": "s-4vcpu-8gb", "cluster": {"maxNodes": 7}})
    cluster = engine.named(CLUSTER).inputs
    assert cluster["nodePool"] == {
        "name": "slipway-test-docker-builder-manager",
        "size": "s-1vcpu-2gb",
        "nodeCount": 1,
        "autoScale": False,
    }
    assert (cluster["name"], cluster["version"], cluster["ha"]) == ("slipway-test-docker-builder", "1.36.3-do.0", False)
    pool = engine.named(f"{NAME}-kubernetes-jobs").inputs
    assert (pool["autoScale"], pool["minNodes"], pool["maxNodes"], pool["size"]) == (True, 0, 7, "s-4vcpu-8gb")
    # Nothing but jobs runs there, and so nothing keeps a node.
    [taint] = pool["taints"]
    assert taint == {"key": "slipway-jobs", "value": "true", "effect": "NoSchedule"}
    kubernetes = kubernetes_of(engine)
    assert kubernetes["node_selector"] == pool["labels"] == {"slipway-jobs": "true"}
    assert kubernetes["node_tolerations"] == {"slipway-jobs=true": "NoSchedule"}
    assert kubernetes["pod_annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert not engine.of_type(":Droplet")[1:], "no machine but the server"


def test_everything_in_the_cluster_is_deleted_with_it_and_has_its_provider() -> None:
    inside = [one for one in on_kubernetes().custom if one.type.startswith("kubernetes:")]
    assert len(inside) >= 10
    for one in inside:
        assert one.deleted_with == CLUSTER, one.name
        assert f"::{NAME}-kubernetes-kubernetes::" in one.request.provider, one.name


def test_no_credential_of_the_cluster_is_in_what_its_provider_is_given() -> None:
    """So that none can expire in the state: clients run a program that asks for one."""
    kubeconfig = json.loads(on_kubernetes().named(f"{NAME}-kubernetes-kubernetes").inputs["kubeconfig"])
    assert "dop_v1" not in json.dumps(kubeconfig)
    [user] = kubeconfig["users"]
    assert user["user"].keys() == {"exec"}
    assert user["user"]["exec"]["args"] == ["-c", script("kubernetes/credential.py"), f"id-of-{CLUSTER}"]
    [cluster] = kubeconfig["clusters"]
    assert cluster["cluster"] == {
        "server": "https://example.k8s.ondigitalocean.com",
        "certificate-authority-data": "Q0E=",
    }


def test_jobs_are_pods_that_may_do_nothing_in_the_cluster() -> None:
    engine = on_kubernetes()
    kubernetes = kubernetes_of(engine)
    assert kubernetes["automount_service_account_token"] is False
    assert engine.named(f"{NAME}-account-job").inputs["automountServiceAccountToken"] is False
    [subject] = engine.named(f"{NAME}-role-binding").inputs["subjects"]
    assert (subject["name"], subject["namespace"]) == ("manager", "gitlab-runner")
    assert not engine.of_type(":ClusterRole") + engine.of_type(":ClusterRoleBinding")


def test_the_manager_has_rights_in_the_namespace_of_jobs_alone_and_none_on_its_node() -> None:
    engine = on_kubernetes()
    role = engine.named(f"{NAME}-role").inputs
    assert role["metadata"]["namespace"] == kubernetes_of(engine)["namespace"] == "gitlab-runner-jobs"
    assert {name for rule in role["rules"] for name in rule["resources"]} == {
        *("pods", "pods/attach", "pods/exec", "pods/log", "secrets", "serviceaccounts", "services", "events")
    }
    assert "*" not in json.dumps(role["rules"])
    namespace = engine.named(f"{NAME}-namespace-gitlab-runner").inputs["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    pod = engine.named(f"{NAME}-manager").inputs["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_jobs_reach_the_internet_and_neither_metadata_nor_api_server_nor_private_networks_nor_each_other() -> None:
    spec = on_kubernetes().named(f"{NAME}-policy-jobs").inputs["spec"]
    assert spec["podSelector"] == {}
    assert "ingress" not in spec, "none is allowed"
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    dns, internet = spec["egress"]
    assert {one["port"] for one in dns["ports"]} == {53}
    [block] = internet["to"]
    assert block["ipBlock"]["cidr"] == "0.0.0.0/0"
    forbidden = {"169.254.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "203.0.113.99/32"}
    assert set(block["ipBlock"]["except"]) == forbidden


def test_with_docker_only_the_engine_beside_a_job_is_privileged() -> None:
    kubernetes = kubernetes_of(on_kubernetes())
    assert kubernetes["privileged"] is False
    assert kubernetes["service_container_security_context"] == {"privileged": True}
    assert "build_container_security_context" not in kubernetes
    mounts = {one["mount_path"]: one for one in kubernetes["volumes"]["empty_dir"]}
    assert mounts["/certs/client"]["medium"] == "Memory"
    assert kubernetes["service_memory_limit"] == "1Gi"


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_system_calls_are_filtered_in_every_container_but_the_one_that_builds_with_buildah(builder: str) -> None:
    """Kubernetes itself filters none. It never filters those of a privileged container."""
    kubernetes = kubernetes_of(on_kubernetes({"builder": builder}))
    assert kubernetes["pod_security_context"] == {"seccomp_profile": {"type": "RuntimeDefault"}}
    filtered = [name for name, own in kubernetes.items() if "seccomp_profile" in (own if isinstance(own, dict) else ())]
    exceptions = ["build_container_security_context"] if builder == "buildah" else []
    assert filtered == ["pod_security_context", *exceptions]


def test_caches_are_in_a_space_of_the_runner_that_forgets_and_only_the_manager_has_its_key() -> None:
    engine = on_kubernetes({"cluster": {"cacheDays": 14}})
    bucket = engine.named(f"{NAME}-cache-bucket").inputs
    assert (bucket["region"], bucket["acl"], bucket["forceDestroy"]) == ("nyc3", "private", True)
    assert bucket["name"].startswith("slipway-test-cache-")
    assert {"id": "expire", "enabled": True, "expiration": {"days": 14}} in bucket["lifecycleRules"]
    key = engine.named(f"{NAME}-cache-key").inputs
    assert key["name"] == "slipway-test-cache-docker-builder"
    assert key["grants"] == [{"bucket": bucket["name"], "permission": "readwrite"}]
    [runner] = configuration(engine)["runners"]
    assert runner["cache"] == {
        "Type": "s3",
        "s3": {
            "ServerAddress": "nyc3.digitaloceanspaces.com",
            "BucketName": bucket["name"],
            "BucketLocation": "nyc3",
            "AccessKey": f"DO-{NAME}-cache-key",
            "SecretKey": f"secret-{NAME}-cache-key",
        },
    }
    assert engine.exports["monthly_cost"]["items"]["Spaces subscription, shared by all Spaces of the account"] == 5.0
    secret = f"secret-{NAME}-cache-key"
    holders = [one.name for one in engine.custom if secret in json.dumps(one.inputs, default=str)]
    assert holders == [f"{NAME}-configuration"]


def test_without_the_setting_there_is_no_space_for_caches() -> None:
    engine = on_kubernetes()
    assert not [one.name for one in engine.registrations if one.name.startswith(f"{NAME}-cache")]
    assert "cache" not in configuration(engine)["runners"][0]


def test_caches_need_a_region_with_spaces_and_keys_of_their_names() -> None:
    lines = errors({"cluster": {"cacheDays": 14}}, region="nyc1", registry={"storage": "filesystem"})
    words = "runners[0].cluster.cacheDays: needs a Space in the region of the cluster, and nyc1 offers none"
    assert [line for line in lines if line.startswith(words)]
    keys = [{"name": "slipway-test-cache-docker-builder", "access_key": "DO1"}]
    engine = RecordingEngine(listed={"/v2/spaces/keys": keys})
    [line] = errors({"cluster": {"cacheDays": 14}}, engine=engine)
    assert "a Spaces key slipway-test-cache-docker-builder (DO1)" in line


def test_with_buildah_nothing_is_privileged() -> None:
    kubernetes = kubernetes_of(on_kubernetes({"builder": "buildah", "cluster": {"jobMemory": "2Gi", "jobCpu": "1"}}))
    assert kubernetes["privileged"] is False
    assert "service_container_security_context" not in kubernetes
    context = kubernetes["build_container_security_context"]
    assert {key: one["type"] for key, one in context.items()} == {
        "seccomp_profile": "Unconfined",
        "app_armor_profile": "Unconfined",
    }
    assert (kubernetes["memory_limit"], kubernetes["cpu_request"]) == ("2Gi", "1")


def test_an_update_lets_the_jobs_of_the_manager_before_it_end() -> None:
    engine = on_kubernetes()
    spec = engine.named(f"{NAME}-manager").inputs["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 3600
    digest = spec["template"]["metadata"]["annotations"]["slipway/configuration"]
    other = on_kubernetes({"concurrency": 9}).named(f"{NAME}-manager").inputs["spec"]["template"]["metadata"]
    assert other["annotations"]["slipway/configuration"] != digest
    assert configuration(on_kubernetes({"concurrency": 20}))["concurrent"] == 20


def test_a_job_whose_node_is_lost_is_run_again() -> None:
    retry = {"max": 2, "when": ["runner_system_failure"]}
    assert pipeline(on_kubernetes())["default"]["retry"] == retry
    assert pipeline(on_kubernetes({"builder": "buildah"}))["default"]["retry"] == retry
    assert "retry" not in pipeline(delivered())["default"]


def test_a_private_authority_is_trusted_by_the_manager_and_by_both_builders() -> None:
    certificate = {**provided(), "caCertificate": root()}
    for builder in ("docker", "buildah"):
        engine = on_kubernetes({"builder": builder}, certificate=certificate)
        [runner] = configuration(engine)["runners"]
        assert runner["tls-ca-file"] == "/etc/gitlab-runner/authority.crt"
        files = engine.named(f"{NAME}-builder-files").inputs["data"]
        assert files["authority.crt"] == certificate["caCertificate"]
        mounts = {one["mount_path"]: one for one in runner["kubernetes"]["volumes"]["config_map"]}
        # A colon, which the path has, is forbidden in the path of a mount.
        assert mounts["/etc/docker/certs.d"]["items"] == {"authority.crt": "gitlab.example.test:5555/ca.crt"}


def test_a_stack_without_such_a_runner_neither_loads_the_sdk_nor_asks_what_there_is() -> None:
    program = (
        "import sys; from tests.unit.delivered import delivered; from unittest import mock\n"
        "engine = delivered()\n"
        "assert 'pulumi_kubernetes' not in sys.modules\n"
        "assert not [one for one in engine.registrations if 'kubernetes' in one.type]\n"
    )
    environment = {"DIGITALOCEAN_TOKEN": "none", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    engine = RecordingEngine(listed={"/v2/kubernetes/options": api.RefusedError("not to be asked", 500)})
    run_program(engine=engine)


def test_a_cluster_keeps_its_patch_and_is_upgraded_by_minor_release() -> None:
    assert on_kubernetes(engine=RecordingEngine(known=deployed())).named(CLUSTER).inputs["version"] == "1.35.2-do.0"
    same = on_kubernetes({"cluster": {"version": "1.35"}}, engine=RecordingEngine(known=deployed()))
    assert same.named(CLUSTER).inputs["version"] == "1.35.2-do.0"
    newer = on_kubernetes({"cluster": {"version": "1.36"}}, engine=RecordingEngine(known=deployed()))
    assert newer.named(CLUSTER).inputs["version"] == "1.36.3-do.0"
    first = on_kubernetes({"cluster": {"version": "1.35"}})
    assert first.named(CLUSTER).inputs["version"] == "1.35.6-do.1"


@pytest.mark.parametrize(
    ("runner", "known", "beginning"),
    [
        (
            {"cluster": {"version": "1.30"}},
            {},
            "runners[0].cluster.version: DigitalOcean does not offer Kubernetes",
        ),
        ({"cluster": {"version": "1.34"}}, deployed(), "runners[0].cluster.version: 1.34 is older than 1.35"),
        (
            {"cluster": {"version": "1.36"}},
            deployed(version="1.34.1-do.0"),
            "runners[0].cluster.version: the cluster has 1.34, and is upgraded by one release at a time",
        ),
        ({"size": "s-1vcpu-1gb"}, {}, "runners[0].size: s-1vcpu-1gb is not a size of nodes"),
        (
            {"cluster": {"managerSize": "s-8vcpu-16gb"}},
            {},
            "runners[0].cluster.managerSize: s-8vcpu-16gb is not",
        ),
        ({"cluster": {"jobMemory": "4Gi"}}, {}, "runners[0].cluster.jobMemory: 4Gi fits on no node"),
        ({"cluster": {"jobCpu": "2"}}, {}, "runners[0].cluster.jobCpu: 2 fits on no node"),
        ({}, deployed(ha=True), "runners[0].cluster.highAvailability: the cluster has it"),
    ],
)
def test_what_the_cluster_cannot_be_is_refused_at_preview(
    runner: dict[str, Any], known: dict[str, Any], beginning: str
) -> None:
    found = errors(runner, RecordingEngine(known=known))
    assert [line for line in found if line.startswith(beginning)], found


def test_a_region_without_kubernetes_is_refused() -> None:
    offer = {**KUBERNETES, "regions": [{"slug": "fra1"}]}
    [line] = errors(engine=RecordingEngine(listed={"/v2/kubernetes/options": offer}))
    assert line.startswith("runners[0].kind: DigitalOcean has no Kubernetes in nyc3; the cluster could not be created.")


def test_a_cluster_of_the_same_name_that_is_not_the_stacks_is_refused() -> None:
    listed = {"/v2/kubernetes/clusters": [{"id": "c9", "name": "slipway-test-docker-builder"}]}
    [line] = errors(engine=RecordingEngine(listed=listed))
    assert line.startswith("runners[0].name: the account has a cluster slipway-test-docker-builder (ID c9)")
    assert line.endswith("make recover STACK=test takes over its data and deletes the rest")
    assert on_kubernetes(engine=RecordingEngine(listed=listed, known=deployed())).named(CLUSTER)


def test_a_cluster_of_the_same_name_that_is_being_deleted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider does not wait for the end of a cluster, and DigitalOcean refuses a second one of its name."""
    cluster = {"id": "c9", "name": "slipway-test-docker-builder", "status": {"state": "deleting"}}
    engine = on_kubernetes(engine=RecordingEngine(listed={"/v2/kubernetes/clusters": [cluster]}))
    free, note = engine.named(CLUSTER).request.hooks.before_create
    assert (free, note) == (f"{CLUSTER}-name-is-free", f"{CLUSTER}-before-create")
    listed = [[cluster], [cluster, {**cluster, "name": "another"}], [{**cluster, "name": "another"}]]
    monkeypatch.setattr(lost_answers, "_POLL", 0)
    monkeypatch.setattr(api, "every", lambda *_: iter(listed.pop(0)))
    lost_answers.wait_for_the_name({"name": cluster["name"]})
    assert listed == []


def test_another_size_of_the_node_that_is_always_there_is_refused_because_the_cluster_would_be_replaced() -> None:
    known = RecordingEngine(known=deployed(nodePool={"size": "s-1vcpu-2gb"}))
    [line] = errors({"cluster": {"managerSize": "s-2vcpu-4gb"}}, engine=known)
    assert line.startswith(
        "runners[0].cluster.managerSize: the cluster has a node of the size s-1vcpu-2gb, which cannot"
    )
    again = RecordingEngine(known=deployed(nodePool={"size": "s-2vcpu-4gb"}))
    assert on_kubernetes({"cluster": {"managerSize": "s-2vcpu-4gb"}}, engine=again).named(CLUSTER)


def test_a_network_with_a_cluster_has_more_time_to_become_empty() -> None:
    def patience(engine: RecordingEngine) -> str:
        return str(engine.named("network-vpc").request.customTimeouts.delete)

    assert patience(on_kubernetes()) == "15m"
    assert patience(delivered()) == ""


def test_a_token_that_may_not_read_clusters_is_named() -> None:
    refusal = api.RefusedError("403", 403)
    [line] = errors(engine=RecordingEngine(listed={"/v2/kubernetes/options": refusal}))
    assert line.startswith("DIGITALOCEAN_TOKEN: may not read Kubernetes clusters (403)")


def test_an_account_without_room_for_the_nodes_is_told_so() -> None:
    droplets = [{"name": f"other-{n}", "tags": [], "size": "s-1vcpu-1gb", "priceMonthly": 6.0} for n in range(23)]
    engine = RecordingEngine(answers={"getDroplets": {"droplets": droplets}})
    found = errors({"cluster": {"minNodes": 2}}, engine)
    assert [line for line in found if line.startswith("runners[0]: needs 3 nodes, and the account has 23 droplets")]


def test_without_the_package_it_is_said_which_one_and_how_to_install_it() -> None:
    with mock.patch("importlib.util.find_spec", return_value=None):
        [line] = errors()
    assert "needs the package pulumi-kubernetes" in line
    assert "requirements-kubernetes.txt" in line
    assert (ROOT / "requirements-kubernetes.txt").exists()


@pytest.mark.parametrize(
    ("runner", "key"),
    [
        ({"kind": "kubernetes", "count": 2}, "count"),
        ({"kind": "kubernetes", "keepLayers": True}, "keepLayers"),
        ({"kind": "kubernetes", "dockerHubCache": False}, "dockerHubCache"),
        ({"kind": "kubernetes", "image": "debian-13-x64"}, "image"),
        ({"cluster": {"maxNodes": 2}}, "cluster"),
    ],
)
def test_a_setting_of_the_other_kind_of_runner_is_refused(runner: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        delivered(runner=runner)
    [line] = caught.value.errors
    assert line.startswith(f"runners[0].{key}: is a setting of a runner whose kind is ")


def test_jobs_of_a_cluster_cannot_deploy_over_the_private_network() -> None:
    place = {"name": "production", "droplet": {}, "healthCheck": {"path": "/", "port": 3000}}
    with pytest.raises(SettingsError) as caught:
        delivered({"deploy": [place]}, {"kind": "kubernetes"})
    assert [line for line in caught.value.errors if line.startswith("projects[0].deploy: has a droplet")]


def test_a_stack_pays_for_the_node_that_stays_and_is_told_what_the_others_cost() -> None:
    items = on_kubernetes({"cluster": {"minNodes": 1, "highAvailability": True}}).exports["monthly_cost"]["items"]
    assert items["runner docker-builder, manager, s-1vcpu-2gb"] == 12.0
    assert items["runner docker-builder, 1 x s-2vcpu-4gb (at most 3, each 24.00 while it is there)"] == 24.0
    assert items["runner docker-builder, control plane with high availability"] == 40.0


def test_the_program_that_asks_for_the_credential_prints_it_in_the_form_of_kubernetes(tmp_path: Path) -> None:
    answer = tmp_path / "v2/kubernetes/clusters/c1/credentials"
    answer.parent.mkdir(parents=True)
    answer.write_text(json.dumps({"token": "the-token", "expires_at": "2026-01-01T00:00:00Z", "server": "https://x"}))
    program = script("kubernetes/credential.py").replace("?expiry_seconds={SECONDS}", "")
    environment = {"DIGITALOCEAN_TOKEN": "t", "DIGITALOCEAN_API_URL": tmp_path.as_uri(), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program, "c1"], env=environment, capture_output=True, text=True, check=True
    )
    found = yaml.safe_load(done.stdout)
    assert (found["apiVersion"], found["kind"]) == ("client.authentication.k8s.io/v1", "ExecCredential")
    assert found["status"] == {"token": "the-token", "expirationTimestamp": "2026-01-01T00:00:00Z"}
    gone = subprocess.run(
        [sys.executable, "-c", program, "c2"], env=environment, capture_output=True, text=True, check=False
    )
    assert gone.returncode == 1
    assert gone.stderr.startswith("DigitalOcean does not answer the request for the credentials of the cluster c2")
