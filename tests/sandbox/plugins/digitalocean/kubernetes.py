"""Kubernetes clusters, each with its first node pool."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Function, Kind, PluginError, Resource
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.node_pools import (
    CLUSTERS,
    DEFAULT_POOL,
    PATIENCE,
    POOL_FIELDS,
    change_body,
    own_tags,
    pool_body,
    pool_state,
    wait_for_pool,
)
from tests.sandbox.plugins.digitalocean.session import given, session_of

_SCALING = {
    "scaleDownUtilizationThreshold": "scale_down_utilization_threshold",
    "scaleDownUnneededTime": "scale_down_unneeded_time",
    "expanders": "expanders",
}


def _is_older(old: Any, new: Any) -> bool:
    """A cluster is only ever upgraded: an older version needs a new one."""
    numbers = [[int(number) for number in re.findall(r"\d+", str(version))] for version in (new, old)]
    return numbers[0] < numbers[1]


def _is_another_size(old: Any, new: Any) -> bool:
    sizes = [pool.get("size") if isinstance(pool, Mapping) else None for pool in (old, new)]
    return sizes[0] != sizes[1]


def _credentials(call: Call, cluster: Properties, seconds: int) -> list[Properties]:
    """A kubeconfig with its parts, as the official plugin makes it of the credentials."""
    path = f"{CLUSTERS}/{cluster['id']}/credentials?expiry_seconds={seconds}"
    found = session_of(call).get(path)
    name = f"do-{cluster['region']}-{cluster['name']}"
    authority = found["certificate_authority_data"]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"certificate-authority-data": authority, "server": found["server"]}},
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
        "users": [{"name": f"{name}-admin", "user": {"token": found["token"]}}],
    }
    return [
        {
            # JSON is YAML as well.
            "rawConfig": json.dumps(content),
            "host": found["server"],
            "clusterCaCertificate": authority,
            "token": found["token"],
            "expiresAt": found["expires_at"],
            "clientKey": "",
            "clientCertificate": "",
        }
    ]


def _kube_configs(call: Call, cluster: Properties, state: Properties) -> list[Properties]:
    """Those of the state for as long as their token is valid."""
    known = state.get("kubeConfigs") or []
    if known and dt.datetime.fromisoformat(known[0]["expiresAt"]) > dt.datetime.now(dt.UTC):
        return list(known)
    return _credentials(call, cluster, state.get("kubeconfigExpireSeconds") or 0)


class KubernetesCluster(Resource):
    """A cluster with its first pool."""

    full_name = "digitalocean:index/kubernetesCluster:KubernetesCluster"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "region": Field(required=True, replace=True, normal=str.lower),
        "version": Field(required=True, replace=_is_older),
        "vpcUuid": Field(replace=True, computed=True),
        "clusterSubnet": Field(replace=True, computed=True),
        "serviceSubnet": Field(replace=True, computed=True),
        "nodePool": Field(Kind.MAP, required=True, replace=_is_another_size, unordered=True, fields=POOL_FIELDS),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "ha": Field(Kind.BOOLEAN, default=False, replace=True),
        "autoUpgrade": Field(Kind.BOOLEAN, computed=True),
        "surgeUpgrade": Field(Kind.BOOLEAN, default=True),
        "destroyAllAssociatedResources": Field(Kind.BOOLEAN, default=False),
        "kubeconfigExpireSeconds": Field(Kind.INTEGER),
        "maintenancePolicy": Field(
            Kind.MAP,
            computed=True,
            fields={"day": Field(computed=True), "startTime": Field(computed=True), "duration": Field(computed=True)},
        ),
        "controlPlaneFirewall": Field(
            Kind.MAP,
            computed=True,
            fields={
                "enabled": Field(Kind.BOOLEAN, required=True),
                "allowedAddresses": Field(Kind.LIST, items=Kind.STRING, required=True),
            },
        ),
        "clusterAutoscalerConfigurations": Field(
            Kind.LIST,
            computed=True,
            fields={
                "scaleDownUtilizationThreshold": Field(Kind.NUMBER),
                "scaleDownUnneededTime": Field(),
                "expanders": Field(Kind.LIST, items=Kind.STRING),
            },
        ),
    }
    outputs = ("clusterUrn", "createdAt", "endpoint", "ipv4Address", "kubeConfigs", "status", "updatedAt")
    secret_outputs = frozenset({"kubeConfigs"})

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Make it and wait. As with the official plugin, one that does not come up is not in the state."""
        body = self._body(inputs) | {
            "region": inputs["region"].lower(),
            "version": inputs["version"],
            "ha": inputs["ha"],
            "node_pools": [pool_body(inputs["nodePool"], DEFAULT_POOL)],
            **given(
                inputs,
                {"vpcUuid": "vpc_uuid", "clusterSubnet": "cluster_subnet", "serviceSubnet": "service_subnet"},
            ),
        }
        identifier = session_of(call).post(CLUSTERS, body)["kubernetes_cluster"]["id"]
        self._wait(call, identifier)
        return identifier, self._state(call, self._get(call, identifier), inputs)

    def _get(self, call: Call, identifier: str) -> Properties:
        found: Properties = session_of(call).get(f"{CLUSTERS}/{identifier}")["kubernetes_cluster"]
        return found

    def _wait(self, call: Call, identifier: str) -> None:
        def runs() -> bool:
            status = self._get(call, identifier)["status"]
            if status["state"] == "error":
                raise PluginError(f"Error creating Kubernetes cluster: {status.get('message', '')}")
            return bool(status["state"] == "running")

        call.wait_until(f"Kubernetes cluster {identifier} to run", runs, timeout=PATIENCE)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        found = session_of(call).find(f"{CLUSTERS}/{identifier}")
        if found is None:
            return None
        cluster = found["kubernetes_cluster"]
        if not state:
            self._adopt(call, cluster)
            cluster = self._get(call, identifier)
        return identifier, self._state(call, cluster, state)

    def _adopt(self, call: Call, cluster: Properties) -> None:
        """Mark the only pool of a cluster that is imported."""
        marked = [pool for pool in cluster["node_pools"] if DEFAULT_POOL in pool["tags"]]
        if len(marked) == 1:
            return
        if marked or len(cluster["node_pools"]) > 1:
            raise PluginError(
                "Cluster contains multiple node pools. Manually add the "
                f"`{DEFAULT_POOL}` tag to the pool that should be used as the default. Additional pools must be "
                "imported separately as 'digitalocean_kubernetes_node_pool' resources."
            )
        [pool] = cluster["node_pools"]
        body = {"name": pool["name"], "tags": [*pool["tags"], DEFAULT_POOL]}
        session_of(call).put(f"{CLUSTERS}/{cluster['id']}/node_pools/{pool['id']}", body)

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        session, path = session_of(call), f"{CLUSTERS}/{identifier}"
        session.put(path, self._body(inputs))
        before = old.get("nodePool") or {}
        pool_id = before.get("id") or self._first_pool(self._get(call, identifier))["id"]
        session.put(f"{path}/node_pools/{pool_id}", change_body(inputs["nodePool"], DEFAULT_POOL))
        wait_for_pool(call, identifier, pool_id)
        if old.get("version") != inputs["version"]:
            session.post(f"{path}/upgrade", {"version": inputs["version"]})
        return self._state(call, self._get(call, identifier), old | inputs)

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        """Ask for its end, without waiting for it, as the official plugin does."""
        path = f"{CLUSTERS}/{identifier}"
        if state.get("destroyAllAssociatedResources"):
            path += "/destroy_with_associated_resources/dangerous"
        session_of(call).delete(path, missing_ok=True)

    def _body(self, inputs: Properties) -> Properties:
        """What can be said of a cluster at first and later."""
        body: Properties = {
            "name": inputs["name"],
            "tags": inputs.get("tags") or [],
            "surge_upgrade": inputs["surgeUpgrade"],
            **given(inputs, {"autoUpgrade": "auto_upgrade"}),
        }
        if policy := inputs.get("maintenancePolicy"):
            body["maintenance_policy"] = given(policy, {"day": "day", "startTime": "start_time"})
        if firewall := inputs.get("controlPlaneFirewall"):
            names = {"enabled": "enabled", "allowedAddresses": "allowed_addresses"}
            body["control_plane_firewall"] = given(firewall, names)
        if scaling := inputs.get("clusterAutoscalerConfigurations"):
            body["cluster_autoscaler_configuration"] = given(scaling[0], _SCALING)
        return body

    def _first_pool(self, cluster: Properties) -> Properties:
        for pool in cluster["node_pools"]:
            if DEFAULT_POOL in pool["tags"]:
                return dict(pool)
        raise PluginError(f"cluster {cluster['name']}: no node pool has the tag {DEFAULT_POOL}")

    def _state(self, call: Call, cluster: Properties, known: Properties) -> Properties:
        policy, firewall = cluster["maintenance_policy"], cluster["control_plane_firewall"]
        pool = self._first_pool(cluster)
        scaling = cluster["cluster_autoscaler_configuration"]
        return {
            "name": cluster["name"],
            "region": cluster["region"],
            "version": cluster["version"],
            "vpcUuid": cluster["vpc_uuid"],
            "clusterSubnet": cluster["cluster_subnet"],
            "serviceSubnet": cluster["service_subnet"],
            "nodePool": pool_state(pool) | {"id": pool["id"]},
            "tags": own_tags(cluster["tags"]),
            "ha": cluster["ha"],
            "autoUpgrade": cluster["auto_upgrade"],
            "surgeUpgrade": cluster["surge_upgrade"],
            "maintenancePolicy": {
                "day": policy["day"],
                "startTime": policy["start_time"],
                "duration": policy["duration"],
            },
            "controlPlaneFirewall": {
                "enabled": firewall["enabled"],
                "allowedAddresses": firewall["allowed_addresses"],
            },
            **self._scaling_state(scaling, known),
            "clusterUrn": f"do:kubernetes:{cluster['id']}",
            "createdAt": cluster["created_at"],
            "updatedAt": cluster["updated_at"],
            "endpoint": cluster["endpoint"],
            "ipv4Address": cluster["ipv4"],
            "status": cluster["status"]["state"],
            "kubeConfigs": _kube_configs(call, cluster, known),
        }

    def _scaling_state(self, scaling: Properties, known: Properties) -> Properties:
        """As much of it as the program gives: the rest are defaults of the service."""
        wanted = known.get("clusterAutoscalerConfigurations")
        if not wanted:
            return {}
        return {"clusterAutoscalerConfigurations": [{name: scaling[_SCALING[name]] for name in wanted[0]}]}


class GetKubernetesVersions(Function):
    """The versions that are offered, the newest first."""

    full_name = "digitalocean:index/getKubernetesVersions:getKubernetesVersions"
    inputs: ClassVar[Fields] = {"versionPrefix": Field()}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        options = session_of(call).get("/v2/kubernetes/options")["options"]
        prefix = inputs.get("versionPrefix") or ""
        fitting = [one["slug"] for one in options["versions"] if one["slug"].startswith(prefix)]
        fitting.sort(key=lambda slug: [int(number) for number in re.findall(r"\d+", slug)], reverse=True)
        if not fitting:
            raise PluginError(f"No Kubernetes versions were found for the prefix {prefix!r}")
        return {
            "id": f"kubernetes-versions-{prefix}",
            "validVersions": fitting,
            "latestVersion": fitting[0],
            **inputs,
        }


class GetKubernetesCluster(Function):
    """A cluster by its name."""

    full_name = "digitalocean:index/getKubernetesCluster:getKubernetesCluster"
    inputs: ClassVar[Fields] = {"name": Field(required=True), "kubeconfigExpireSeconds": Field(Kind.INTEGER)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        for cluster in session_of(call).every(CLUSTERS, "kubernetes_clusters"):
            if cluster["name"] == inputs["name"]:
                return self._answer(call, cluster, inputs)
        raise PluginError(f"Unable to find cluster with name: {inputs['name']}")

    def _answer(self, call: Call, cluster: Properties, inputs: Properties) -> Properties:
        policy = cluster["maintenance_policy"]
        return {
            **inputs,
            "id": cluster["id"],
            "urn": f"do:kubernetes:{cluster['id']}",
            "region": cluster["region"],
            "version": cluster["version"],
            "vpcUuid": cluster["vpc_uuid"],
            "clusterSubnet": cluster["cluster_subnet"],
            "serviceSubnet": cluster["service_subnet"],
            "nodePools": [pool_state(pool) | {"id": pool["id"]} for pool in cluster["node_pools"]],
            "tags": own_tags(cluster["tags"]),
            "ha": cluster["ha"],
            "autoUpgrade": cluster["auto_upgrade"],
            "surgeUpgrade": cluster["surge_upgrade"],
            "maintenancePolicies": [
                {"day": policy["day"], "startTime": policy["start_time"], "duration": policy["duration"]}
            ],
            "createdAt": cluster["created_at"],
            "updatedAt": cluster["updated_at"],
            "endpoint": cluster["endpoint"],
            "ipv4Address": cluster["ipv4"],
            "status": cluster["status"]["state"],
            "kubeConfigs": _credentials(call, cluster, inputs.get("kubeconfigExpireSeconds") or 0),
        }
