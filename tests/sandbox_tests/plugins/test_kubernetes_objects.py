"""Resources of the kubernetes plugin, on a cluster that is a table. tests/scale has a real one."""

from __future__ import annotations

import copy
import json
import threading
from typing import Any

import pytest

from tests.sandbox.plugins.base.framework import Call, PartlyMadeError, PluginError
from tests.sandbox.plugins.base.properties import UNKNOWN, Properties
from tests.sandbox.plugins.kubernetes.session import Session
from tests.sandbox.plugins.provider_kubernetes import Kubernetes


class Table(Session):
    """Objects by kind and name. As a cluster does, it fills in what nobody has said."""

    def __init__(self, **settings: Any) -> None:
        super().__init__({"kubeconfig": "{}", **settings})
        self.objects: dict[tuple[str, str | None, str], Properties] = {}
        self.is_rolled_out = True

    def get(self, version: str, kind: str, name: str, namespace: str | None) -> Any | None:
        del version
        found = self.objects.get((kind, namespace, name))
        return copy.deepcopy(found)

    def apply(self, body: Properties, *, new: bool) -> Any:
        metadata = body["metadata"]
        key = (body["kind"], metadata.get("namespace"), metadata["name"])
        if new and key in self.objects:
            raise PluginError(f'{body["kind"].lower()}s "{metadata["name"]}" already exists')
        made = copy.deepcopy(body)
        made["metadata"] |= {
            "uid": "u1",
            "generation": 1,
            "labels": metadata.get("labels", {"added": "by the cluster"}),
        }
        if body["kind"] == "Deployment":
            ready = 1 if self.is_rolled_out else 0
            counts = {"updatedReplicas": 1, "availableReplicas": ready, "replicas": 1}
            reason = {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "none"}
            made["status"] = {"observedGeneration": 1, **counts, "conditions": [] if ready else [reason]}
        self.objects[key] = made
        return copy.deepcopy(made)

    def delete(self, version: str, kind: str, name: str, namespace: str | None) -> None:
        del version
        self.objects.pop((kind, namespace, name), None)

    def pods(self, namespace: str, labels: dict[str, str]) -> list[Any]:
        del namespace, labels
        waiting = {"waiting": {"reason": "ImagePullBackOff"}}
        return [{"status": {"containerStatuses": [{"name": "manager", "state": waiting}]}}]


def resource(kind: str, session: Session) -> Any:
    """A type by its kind, of a provider with this session."""
    found = next(one for one in Kubernetes.resources if one.kind == kind)
    found.session = session
    return found


def call(session: Session, timeout: float = 0) -> Call:
    return Call(session, "", "it", threading.Event(), lambda _severity, _message: None, timeout)


def differences(kind: str, old: Properties, new: Properties, **settings: Any) -> dict[str, bool]:
    """What differs, and whether that needs another object."""
    return dict(resource(kind, Table(**settings)).differences(old, new))


def test_an_object_is_created_read_back_without_a_difference_and_deleted_twice() -> None:
    session = Table()
    role = resource("Role", session)
    inputs = {
        "metadata": {"name": "manager", "namespace": "jobs"},
        "rules": [{"resources": ["pods"], "verbs": ["get"]}],
    }
    identifier, state = role.create(call(session), inputs)
    assert identifier == "jobs/manager"
    assert state["metadata"] == {"name": "manager", "namespace": "jobs", "uid": "u1"}
    _, read = role.read(call(session), identifier, state)
    # What the cluster has added is nobody's change.
    assert role.refreshed_inputs(inputs, read) == inputs
    with pytest.raises(PluginError, match="already exists"):
        role.create(call(session), inputs)
    role.delete(call(session), identifier, state)
    role.delete(call(session), identifier, state)
    assert role.read(call(session), identifier, state) is None


def test_what_somebody_changed_in_the_cluster_is_found() -> None:
    session = Table()
    policy = resource("NetworkPolicy", session)
    inputs = {"metadata": {"name": "closed", "namespace": "jobs"}, "spec": {"policyTypes": ["Ingress"]}}
    identifier, state = policy.create(call(session), inputs)
    session.objects["NetworkPolicy", "jobs", "closed"]["spec"]["policyTypes"] = ["Egress"]
    _, read = policy.read(call(session), identifier, state)
    assert policy.refreshed_inputs(inputs, read)["spec"] == {"policyTypes": ["Egress"]}


def test_data_of_a_secret_is_secret_and_its_change_is_a_replacement_unless_the_provider_says_otherwise() -> None:
    old = {"metadata": {"name": "s"}, "stringData": {"key": "1"}}
    new = {**old, "stringData": {"key": "2"}}
    assert differences("Secret", old, new) == {"stringData": True}
    assert differences("Secret", old, new, enableSecretMutable=True) == {"stringData": False}
    assert differences("Secret", old, new, enableConfigMapMutable=True) == {"stringData": True}
    secret = resource("Secret", Table())
    assert secret.secret_outputs == {"data", "stringData"}
    # Its name is taken until it is gone.
    assert secret.deletes_before_replacing(new)
    assert not secret.deletes_before_replacing({"metadata": {}})


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("Namespace", {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}),
        ("RoleBinding", {"roleRef": {"name": "a"}}, {"roleRef": {"name": "b"}}),
        ("Deployment", {"spec": {"selector": {"a": "1"}}}, {"spec": {"selector": {"a": "2"}}}),
    ],
)
def test_what_the_api_does_not_change_needs_another_object(kind: str, old: Properties, new: Properties) -> None:
    assert list(differences(kind, old, new).values()) == [True]
    assert list(differences(kind, old, old).values()) == []


def test_a_deployment_that_is_not_rolled_out_is_recorded_and_says_why() -> None:
    session = Table()
    session.is_rolled_out = False
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "manager"}}}
    inputs = {"metadata": {"name": "manager", "namespace": "a"}, "spec": spec}
    with pytest.raises(PartlyMadeError) as caught:
        resource("Deployment", session).create(call(session, timeout=0.2), inputs)
    assert caught.value.identifier == "a/manager"
    assert "[MinimumReplicasUnavailable] none; containers with unready status: [manager]: ImagePullBackOff" in str(
        caught.value
    )


def test_a_cluster_that_is_not_there_yet_is_an_error_only_where_it_is_needed() -> None:
    session = Kubernetes().configure({"kubeconfig": UNKNOWN})
    with pytest.raises(PluginError, match="configured Kubernetes cluster is unreachable"):
        resource("Role", session).read(call(session), "a/b", {"metadata": {"name": "b"}})


def test_a_cluster_that_does_not_answer_is_named_as_unreachable() -> None:
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    kubeconfig = {"clusters": [cluster], "users": [{"name": "u", "user": {}}], "contexts": [context]}
    session = Session({"kubeconfig": json.dumps({**kubeconfig, "current-context": "x", "apiVersion": "v1"})})
    with pytest.raises(PluginError, match="configured Kubernetes cluster is unreachable"):
        session.get("v1", "Namespace", "a", None)
