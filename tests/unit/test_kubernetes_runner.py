"""A runner on Kubernetes: what is declared, and what jobs may do there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from components.rendering import script
from tests.certificates import provided, root
from tests.unit.delivered import delivered, pipeline
from tests.unit.engine import RecordingEngine
from tests.unit.on_kubernetes import CLUSTER, NAME, certificate, configuration, errors, kubernetes_of, on_kubernetes


def test_a_cluster_has_a_node_that_stays_and_a_pool_that_shrinks_to_none() -> None:
    engine = on_kubernetes({"size": "s-4vcpu-8gb", "cluster": {"maxNodes": 7}})
    cluster = engine.named(CLUSTER).inputs
    assert cluster["nodePool"] == {
        "name": "slipway-test-docker-builder-manager",
        "size": "s-2vcpu-4gb",
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
    engine = on_kubernetes()
    kubeconfig = json.loads(engine.named(f"{NAME}-kubernetes-kubernetes").inputs["kubeconfig"])
    # DigitalOcean's resource has one of its own, which is encrypted.
    assert list(engine.named(CLUSTER).request.additionalSecretOutputs) == ["kubeConfigs"]
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
    of_core = ("pods", "pods/attach", "pods/exec", "pods/log", "secrets", "serviceaccounts", "services", "events")
    assert {(group, name) for rule in role["rules"] for group in rule["apiGroups"] for name in rule["resources"]} == {
        *(("", name) for name in of_core),
        ("policy", "poddisruptionbudgets"),
    }
    assert "*" not in json.dumps(role["rules"])
    namespace = engine.named(f"{NAME}-namespace-gitlab-runner").inputs["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    pod = engine.named(f"{NAME}-manager").inputs["spec"]["template"]["spec"]
    [container] = pod["containers"]
    # DigitalOcean's own pods leave it little.
    assert container["resources"]["requests"] == {"cpu": "10m", "memory": "64Mi"}
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


@pytest.mark.parametrize("builder", ["docker", "buildah"])
def test_a_job_is_promised_the_same_however_many_services_it_has(builder: str) -> None:
    """So it is promised as a whole: what a container requests is for each one, of which a job may have many or few."""
    kubernetes = kubernetes_of(on_kubernetes({"builder": builder, "cluster": {"jobCpu": "750m", "jobMemory": "2Gi"}}))
    amounts = {key: value for key, value in kubernetes.items() if key.endswith(("_request", "_limit"))}
    assert amounts == {"pod_cpu_request": "750m", "pod_memory_request": "2Gi", "pod_memory_limit": "2Gi"}


def test_a_node_is_not_drained_under_a_job() -> None:
    """The manager makes the budget, for which it needs a right (above)."""
    assert kubernetes_of(on_kubernetes())["pod_disruption_budget"] is True


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
    kubernetes = kubernetes_of(on_kubernetes({"builder": "buildah"}))
    assert kubernetes["privileged"] is False
    assert "service_container_security_context" not in kubernetes
    context = kubernetes["build_container_security_context"]
    assert {key: one["type"] for key, one in context.items()} == {
        "seccomp_profile": "Unconfined",
        "app_armor_profile": "Unconfined",
    }


def test_an_update_lets_the_jobs_of_the_manager_before_it_end() -> None:
    engine = on_kubernetes()
    spec = engine.named(f"{NAME}-manager").inputs["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 3600
    digest = spec["template"]["metadata"]["annotations"]["slipway/configuration"]
    other = on_kubernetes({"concurrency": 9}).named(f"{NAME}-manager").inputs["spec"]["template"]["metadata"]
    assert other["annotations"]["slipway/configuration"] != digest
    assert configuration(on_kubernetes({"concurrency": 20}))["concurrent"] == 20


def test_a_job_whose_node_or_manager_is_lost_is_run_again() -> None:
    retry = {"max": 2, "when": ["runner_system_failure", "stuck_or_timeout_failure"]}
    assert pipeline(on_kubernetes())["default"]["retry"] == retry
    assert pipeline(on_kubernetes({"builder": "buildah"}))["default"]["retry"] == retry
    assert "retry" not in pipeline(delivered())["default"]


@pytest.mark.parametrize("builder", ["docker", "buildah"])
@pytest.mark.parametrize("is_private", [False, True])
def test_every_volume_of_a_job_has_a_name_of_its_own_and_every_file_of_a_builder_is_there(
    builder: str, *, is_private: bool
) -> None:
    """GitLab Runner names a volume like the ConfigMap or the empty folder in it, and Kubernetes refuses two alike."""
    engine = on_kubernetes({"builder": builder}, **({"certificate": certificate()} if is_private else {}))
    volumes = kubernetes_of(engine)["volumes"]
    names = [one["name"] for kind in volumes.values() for one in kind]
    # The last three are the runner's own.
    assert len({*names, "repo", "scripts", "logs"}) == len(names) + 3, names
    maps = {one.inputs["metadata"]["name"]: one.inputs["data"] for one in engine.of_type(":ConfigMap")}
    mounted = volumes.get("config_map", [])
    assert maps.keys() == {one["name"] for one in mounted}
    for one in mounted:
        keys = one.get("items", {one.get("sub_path"): ""})
        assert keys.keys() == maps[one["name"]].keys(), one


def test_a_private_authority_is_trusted_by_the_manager_and_by_both_builders() -> None:
    for builder in ("docker", "buildah"):
        engine = on_kubernetes({"builder": builder}, certificate=certificate())
        [runner] = configuration(engine)["runners"]
        assert runner["tls-ca-file"] == "/etc/gitlab-runner/authority.crt"
        mounts = {one["mount_path"]: one for one in runner["kubernetes"]["volumes"]["config_map"]}
        # A colon, which the path has, is forbidden in the path of a mount.
        assert mounts["/etc/docker/certs.d"]["items"] == {"authority.crt": "gitlab.example.test:5555/ca.crt"}
        for one in engine.of_type(":ConfigMap"):
            assert one.inputs["data"].get("authority.crt", root()) == root()


def test_a_manager_starts_again_when_it_has_to_trust_another_authority() -> None:
    def digest(**settings: Any) -> str:
        template = on_kubernetes(**settings).named(f"{NAME}-manager").inputs["spec"]["template"]
        return str(template["metadata"]["annotations"]["slipway/configuration"])

    other = trustme.CA()
    replaced = {**provided(issuer=other), "caCertificate": other.cert_pem.bytes().decode()}
    assert digest(certificate=certificate()) == digest(certificate=certificate())
    assert digest(certificate=certificate()) != digest(certificate=replaced)


def test_a_network_with_a_cluster_has_more_time_to_become_empty() -> None:
    def patience(engine: RecordingEngine) -> str:
        return str(engine.named("network-vpc").request.customTimeouts.delete)

    assert patience(on_kubernetes()) == "15m"
    assert patience(delivered()) == ""


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
