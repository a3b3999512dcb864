"""Objects of a cluster: each is a table of its top-level keys, and what of them cannot be changed."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import (
    Call,
    Field,
    Fields,
    Kind,
    PartlyMadeError,
    PluginError,
    Resource,
)
from tests.sandbox.plugins.base.properties import Properties, has_unknown
from tests.sandbox.plugins.kubernetes.session import Session, identifier_of, session_of

#: Seconds that a rollout, or the end of an object, may take (the official provider's own limit).
PATIENCE = 600


class KubernetesObject(Resource):
    """Any object. Applied by the server, under one name; what the program does not say is the cluster's."""

    group_version: ClassVar[str]
    kind: ClassVar[str]
    namespaced: ClassVar[bool] = True
    #: Paths below the object whose change needs another one.
    fixed: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ()
    #: Of the provider that has this resource, once it is configured: a diff depends on it.
    session: Session | None = None

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        body = self._body(session_of(call), inputs)
        live = session_of(call).apply(body, new=True)
        identifier = identifier_of(live["metadata"])
        state = self._state(body, live)
        try:
            self.wait(call, live)
        except PluginError as error:
            raise PartlyMadeError(identifier, {**inputs, **state}, str(error)) from error
        return identifier, state

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        if not state:
            raise PluginError(f"{self.full_name} cannot be imported with the sandbox's plugin")
        namespace, _, name = identifier.rpartition("/")
        live = session_of(call).get(self.group_version, self.kind, name, namespace or None)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return None
        return identifier, self._state(state, live)

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del identifier, old
        body = self._body(session_of(call), inputs)
        live = session_of(call).apply(body, new=False)
        self.wait(call, live)
        return self._state(body, live)

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        namespace, _, name = identifier.rpartition("/")
        session = session_of(call)
        session.delete(self.group_version, self.kind, name, namespace or None)
        call.wait_until(
            f"the end of {self.kind} {identifier}",
            lambda: session.get(self.group_version, self.kind, name, namespace or None) is None,
            PATIENCE,
        )

    def wait(self, call: Call, live: Properties) -> None:
        """Until it is as it should be. Most objects are at once."""
        del call, live

    def differences(self, old: Properties, new: Properties) -> Iterator[tuple[str, bool]]:
        fixed = ("metadata.name", "metadata.namespace", *self.fixed)
        for name, spec in self.inputs.items():
            if spec.same(old.get(name), new.get(name)):
                continue
            paths = [path for path in fixed if path.partition(".")[0] == name]
            yield name, any(_changed(_at(old, path), _at(new, path)) for path in paths)

    def deletes_before_replacing(self, inputs: Properties) -> bool:
        """A name that the program has chosen is free only once the object before is gone."""
        return bool((inputs.get("metadata") or {}).get("name"))

    def refreshed_inputs(self, old: Properties, state: Properties) -> Properties:
        return {name: _pruned(state[name], value) if name in state else value for name, value in old.items()}

    def _body(self, session: Session, inputs: Properties) -> Properties:
        given = {name: value for name, value in inputs.items() if value is not None}
        metadata = dict(given.get("metadata") or {})
        if self.namespaced:
            metadata.setdefault("namespace", session.namespace)
        return {**given, "apiVersion": self.group_version, "kind": self.kind, "metadata": metadata}

    def _state(self, known: Properties, live: Properties) -> Properties:
        """What the cluster has of what the program has said, and what identifies the object."""
        state = {
            name: _pruned(live.get(name), known[name])
            for name in self.inputs
            if known.get(name) is not None and name in live
        }
        own = {key: live["metadata"][key] for key in ("name", "namespace", "uid") if key in live["metadata"]}
        state["metadata"] = {**state["metadata"], **own}
        return state


def _at(properties: Mapping[str, Any], path: str) -> Any:
    found: Any = properties
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _changed(one: Any, other: Any) -> bool:
    return has_unknown(one) or has_unknown(other) or one != other


def _pruned(live: Any, given: Any) -> Any:
    """Of what the cluster has, what the program has said something about."""
    if isinstance(live, Mapping) and isinstance(given, Mapping):
        return {name: _pruned(live[name], value) for name, value in given.items() if name in live}
    if isinstance(live, list) and isinstance(given, list) and len(live) == len(given):
        return [_pruned(one, other) for one, other in zip(live, given, strict=True)]
    if given in ([], {}) and live is None:
        return given
    return live


def _fields(*names: str) -> Fields:
    """The keys that every object has, and those of one kind."""
    common = {"apiVersion": Field(), "kind": Field(), "metadata": Field(Kind.MAP, required=True)}
    return {**common, **{name: Field(Kind.ANY) for name in names}}


class Namespace(KubernetesObject):
    """A namespace; its end is waited for, with everything in it."""

    full_name = "kubernetes:core/v1:Namespace"
    group_version, kind, namespaced = "v1", "Namespace", False
    inputs: ClassVar[Fields] = _fields("spec")


class ServiceAccount(KubernetesObject):
    """An account of pods."""

    full_name = "kubernetes:core/v1:ServiceAccount"
    group_version, kind = "v1", "ServiceAccount"
    inputs: ClassVar[Fields] = _fields("automountServiceAccountToken", "imagePullSecrets", "secrets")


class _Data(KubernetesObject):
    """Something that holds data: by default the provider replaces it when the data changes."""

    def differences(self, old: Properties, new: Properties) -> Iterator[tuple[str, bool]]:
        mutable = self.session is not None and self.session.mutable[self.kind]
        for name, replace in super().differences(old, new):
            yield name, replace or (name in ("data", "binaryData", "stringData") and not mutable)


class ConfigMap(_Data):
    """Files and values."""

    full_name = "kubernetes:core/v1:ConfigMap"
    group_version, kind = "v1", "ConfigMap"
    inputs: ClassVar[Fields] = _fields("data", "binaryData", "immutable")
    fixed = ("immutable",)


class Secret(_Data):
    """Files and values that are secret."""

    full_name = "kubernetes:core/v1:Secret"
    group_version, kind = "v1", "Secret"
    inputs: ClassVar[Fields] = _fields("data", "stringData", "type", "immutable")
    secret_outputs: ClassVar[frozenset[str]] = frozenset({"data", "stringData"})
    fixed = ("type", "immutable")

    def _state(self, known: Properties, live: Properties) -> Properties:
        state = super()._state(known, live)
        if known.get("stringData"):
            data = live.get("data") or {}
            state["stringData"] = {
                name: base64.b64decode(data[name]).decode() for name in known["stringData"] if name in data
            }
        return state


class Role(KubernetesObject):
    """Rights in one namespace."""

    full_name = "kubernetes:rbac.authorization.k8s.io/v1:Role"
    group_version, kind = "rbac.authorization.k8s.io/v1", "Role"
    inputs: ClassVar[Fields] = _fields("rules")


class RoleBinding(KubernetesObject):
    """Who has a role. The API server refuses another role."""

    full_name = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"
    group_version, kind = "rbac.authorization.k8s.io/v1", "RoleBinding"
    inputs: ClassVar[Fields] = _fields("roleRef", "subjects")
    fixed = ("roleRef",)


class NetworkPolicy(KubernetesObject):
    """Who may connect to whom."""

    full_name = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
    group_version, kind = "networking.k8s.io/v1", "NetworkPolicy"
    inputs: ClassVar[Fields] = _fields("spec")


class Deployment(KubernetesObject):
    """Pods of one kind; waits until they are rolled out."""

    full_name = "kubernetes:apps/v1:Deployment"
    group_version, kind = "apps/v1", "Deployment"
    inputs: ClassVar[Fields] = _fields("spec")
    fixed = ("spec.selector",)

    def wait(self, call: Call, live: Properties) -> None:
        """Until every pod is of the newest kind and available."""
        session, metadata = session_of(call), live["metadata"]
        found: dict[str, Any] = {}

        def is_rolled_out() -> bool:
            there = session.get(self.group_version, self.kind, metadata["name"], metadata["namespace"])
            found.update(there or {})
            status, wanted = found.get("status") or {}, found["spec"]["replicas"]
            return bool(
                status.get("observedGeneration", 0) >= found["metadata"]["generation"]
                and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == wanted
                and status.get("replicas", 0) == wanted
            )

        try:
            call.wait_until(f"Deployment {identifier_of(metadata)}", is_rolled_out, PATIENCE)
        except PluginError as error:
            reasons = "; ".join(_complaints(session, found)) or str(error)
            raise PluginError(
                f'the Kubernetes API server reported that "{identifier_of(metadata)}" failed to fully initialize or '
                f"become live: {reasons}"
            ) from None


def _complaints(session: Session, deployment: Properties) -> Iterator[str]:
    for one in (deployment.get("status") or {}).get("conditions") or []:
        if one["status"] != "True":
            yield f"[{one['reason']}] {one['message']}"
    labels = deployment["spec"]["selector"]["matchLabels"]
    for pod in session.pods(deployment["metadata"]["namespace"], labels):
        for status in pod["status"].get("containerStatuses") or []:
            waiting = status["state"].get("waiting")
            if waiting:
                yield f"containers with unready status: [{status['name']}]: {waiting['reason']}"
