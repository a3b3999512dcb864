"""The pod that the kubernetes executor makes of a configuration and a job."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.runner.program.images import ImageError, PolicyError
from tests.sandbox.runner.program.payload import Payload
from tests.sandbox.runner.program.pods import PodPlan, check

IMAGE = "docker:29.8.1-cli"


def plan(settings: dict[str, Any], **job: Any) -> PodPlan:
    """The plan of a job with these settings below `[runners.kubernetes]`."""
    runner = {"token": "glrt-AbC_defghijklmno", "executor": "kubernetes", "kubernetes": settings}
    body = {"id": 7, "token": "glcbt-1", "job_info": {"project_id": 3, "project_full_path": "root/hello"}}
    payload = Payload({**body, "image": {"name": IMAGE}, **job})
    variables = payload.variables(runner, 0, "/builds", "")
    return PodPlan(runner, payload, variables, "/builds/root/hello.tmp", 0, "pull-secret")


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in pod["spec"]["containers"] if one["name"] == name)
    return found


def test_a_job_has_a_build_container_a_helper_and_one_for_each_service() -> None:
    services = [{"name": "docker:29.8.1-dind", "alias": "docker", "command": ["--registry-mirror=https://m"]}]
    pod = plan({}, services=services).manifest()
    assert [one["name"] for one in pod["spec"]["containers"]] == ["build", "helper", "svc-0"]
    assert container(pod, "helper")["image"].endswith("gitlab-runner-helper:x86_64-v19.3.0")
    assert container(pod, "svc-0")["args"] == ["--registry-mirror=https://m"]
    # The containers of a pod share one network: a service is reached by its names, at this very pod.
    assert pod["spec"]["hostAliases"] == [{"ip": "127.0.0.1", "hostnames": ["docker"]}]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["metadata"]["name"].startswith("runner-abc-defgh-project-3-concurrent-0-")


def test_only_services_are_privileged_if_the_configuration_says_so() -> None:
    settings = {"privileged": False, "service_container_security_context": {"privileged": True}}
    pod = plan(settings, services=[{"name": "docker:dind"}]).manifest()
    privileged = {one["name"]: one["securityContext"]["privileged"] for one in pod["spec"]["containers"]}
    assert privileged == {"build": False, "helper": False, "svc-0": True}
    # As the real program does, unless it is added.
    assert container(pod, "build")["securityContext"]["capabilities"] == {"add": [], "drop": ["NET_RAW"]}


def test_what_is_said_of_all_containers_is_in_the_pod_and_what_is_said_of_one_is_there() -> None:
    settings = {
        "pod_security_context": {"run_as_user": 7, "seccomp_profile": {"type": "RuntimeDefault"}},
        "build_container_security_context": {"seccomp_profile": {"type": "Unconfined"}},
    }
    pod = plan(settings).manifest()
    assert pod["spec"]["securityContext"] == {"runAsUser": 7, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container(pod, "build")["securityContext"]["seccompProfile"] == {"type": "Unconfined"}
    assert "seccompProfile" not in container(pod, "helper")["securityContext"]
    assert "securityContext" not in plan({}).manifest()["spec"]


def test_requests_and_limits_are_those_of_each_kind_of_container() -> None:
    settings = {"cpu_request": "500m", "memory_limit": "1Gi", "helper_memory_limit": "64Mi", "service_cpu_limit": "2"}
    pod = plan(settings, services=[{"name": "redis"}]).manifest()
    assert container(pod, "build")["resources"] == {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}
    assert container(pod, "helper")["resources"] == {"limits": {"memory": "64Mi"}}
    assert container(pod, "svc-0")["resources"] == {"limits": {"cpu": "2"}}


def test_a_pod_can_ask_for_what_all_its_containers_share() -> None:
    settings = {"pod_cpu_request": "500m", "pod_memory_request": "1Gi", "pod_memory_limit": "1Gi"}
    pod = plan(settings).manifest()
    assert pod["spec"]["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    assert "resources" not in container(pod, "build")
    assert "resources" not in plan({}).manifest()["spec"]


def test_a_pod_can_have_a_disruption_budget_that_is_its_own_and_goes_with_it() -> None:
    made = plan({"pod_disruption_budget": True})
    metadata = made.manifest()["metadata"]
    assert made.budget(metadata["name"], "u-1") == {
        "metadata": {
            "name": f"{metadata['name']}-pdb",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": "u-1"}],
        },
        "spec": {"minAvailable": 1, "selector": {"matchLabels": metadata["labels"]}},
    }
    assert metadata["name"].startswith(metadata["labels"]["job.runner.gitlab.com/pod"])
    assert plan({}).budget(metadata["name"], "u-1") is None


def test_where_a_pod_may_run_and_what_it_may_do_is_what_the_configuration_says() -> None:
    settings = {
        "node_selector": {"jobs": "true"},
        "node_tolerations": {"jobs=true": "NoSchedule", "only-key": "", "empty=": "NoExecute"},
        "pod_annotations": {"note": "of $CI_PROJECT_DIR"},
        "service_account": "job",
        "automount_service_account_token": False,
    }
    pod = plan(settings).manifest()
    assert pod["spec"]["nodeSelector"] == {"jobs": "true"}
    assert pod["spec"]["tolerations"] == [
        {"key": "jobs", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
        {"key": "only-key", "operator": "Exists"},
        {"key": "empty", "operator": "Equal", "value": "", "effect": "NoExecute"},
    ]
    assert pod["metadata"]["annotations"]["note"] == "of /builds/root/hello"
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["automountServiceAccountToken"]) == ("job", False)
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull-secret"}]


def test_volumes_are_in_every_container() -> None:
    entries = [
        {"name": "files", "mount_path": "/etc/a.conf", "sub_path": "a.conf", "read_only": True},
        {"name": "authority", "mount_path": "/etc/certs.d", "items": {"ca": "gitlab.example.com:5555/ca.crt"}},
    ]
    memory = {"name": "certs", "mount_path": "/certs/client", "medium": "Memory"}
    pod = plan({"volumes": {"config_map": entries, "empty_dir": [memory]}}).manifest()
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    assert volumes["certs"]["emptyDir"] == {"medium": "Memory"}
    assert volumes["authority"]["configMap"]["items"] == [{"key": "ca", "path": "gitlab.example.com:5555/ca.crt"}]
    for one in pod["spec"]["containers"]:
        mounts = {mount["mountPath"]: mount for mount in one["volumeMounts"]}
        assert mounts["/etc/a.conf"]["subPath"] == "a.conf"
        assert {"/builds", "/certs/client", "/etc/certs.d"} <= mounts.keys()


def test_a_volume_is_named_like_its_entry_so_that_the_api_server_refuses_two_of_one_name() -> None:
    """The real program does not tell apart what is mounted twice, nor kinds of volumes."""
    entries = {
        "empty_dir": [{"name": "files", "mount_path": "/empty"}],
        "config_map": [{"name": "files", "mount_path": "/a"}, {"name": "files", "mount_path": "/b"}],
        "secret": [{"name": "files", "mount_path": "/secret"}],
    }
    pod = plan({"volumes": entries}).manifest()
    assert [one["name"] for one in pod["spec"]["volumes"]] == [*["files"] * 4, "repo", "scripts", "logs"]


def test_pull_policies_are_those_of_the_job_as_far_as_the_runner_allows_them() -> None:
    settings = {"pull_policy": ["always"], "allowed_pull_policies": ["always", "if-not-present"]}
    asked = {"name": IMAGE, "pull_policy": ["if-not-present"]}
    assert container(plan(settings).manifest(), "build")["imagePullPolicy"] == "Always"
    assert container(plan(settings, image=asked).manifest(), "build")["imagePullPolicy"] == "IfNotPresent"
    with pytest.raises(PolicyError, match=r"pull_policy \(\[if-not-present\]\) defined in GitLab pipeline config"):
        plan({**settings, "allowed_pull_policies": ["always"]}, image=asked).manifest()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"namespace_per_job": True}, "kubernetes.namespace_per_job"),
        ({"build_container_security_context": {"selinux_type": "x"}}, "build_container_security_context.selinux_type"),
        ({"pod_security_context": {"selinux_type": "x"}}, "pod_security_context.selinux_type"),
        ({"volumes": {"pvc": []}}, "kubernetes.volumes.pvc"),
    ],
)
def test_a_setting_that_this_stand_in_does_not_know_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ImageError, match=named):
        check(settings)
