"""Managed databases: clusters, their databases, users and trusted sources, and the authority that signs for them."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Function, Kind, PluginError, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import given, segment, session_of, set_tags

_CREATE = {
    "name": "name",
    "engine": "engine",
    "version": "version",
    "size": "size",
    "region": "region",
    "nodeCount": "num_nodes",
    "tags": "tags",
    "privateNetworkUuid": "private_network_uuid",
    "projectId": "project_id",
}
_WINDOW: Fields = {"day": Field(required=True), "hour": Field(required=True)}


class DatabaseCluster(Resource):
    """A cluster of PostgreSQL or Valkey. Its size, version, region, window and tags change in place."""

    full_name = "digitalocean:index/databaseCluster:DatabaseCluster"
    autoname = True
    inputs: ClassVar[Fields] = {
        "engine": Field(required=True, replace=True),
        "version": Field(computed=True),
        "nodeCount": Field(Kind.INTEGER, required=True),
        "region": Field(required=True),
        "size": Field(required=True),
        "name": Field(replace=True),
        "evictionPolicy": Field(),
        "maintenanceWindows": Field(Kind.LIST, fields=_WINDOW),
        "privateNetworkUuid": Field(computed=True, replace=True),
        "projectId": Field(computed=True),
        "storageSizeMib": Field(computed=True),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
    }
    outputs = ("clusterUrn", "database", "host", "password", "port", "privateHost", "privateUri", "uri", "user")
    secret_outputs = frozenset({"password", "uri", "privateUri"})

    def differences(self, old: Properties, new: Properties) -> Iterator[tuple[str, bool]]:
        if old.get("projectId") and new.get("projectId") and old["projectId"] != new["projectId"]:
            raise PluginError("projectId: the sandbox's plugin cannot move a database to another project")
        return super().differences(old, new)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        body = given(inputs, _CREATE)
        if inputs.get("storageSizeMib"):
            body["storage_size_mib"] = int(inputs["storageSizeMib"])
        session = session_of(call)
        identifier = session.post("/v2/databases", body)["database"]["id"]
        with made(identifier, inputs):
            self._wait(call, identifier)
            self._set(call, identifier, {}, inputs)
            return identifier, self._state(call, session.get(f"/v2/databases/{identifier}")["database"])

    def _wait(self, call: Call, identifier: str) -> None:
        def online() -> bool:
            found = session_of(call).find(f"/v2/databases/{identifier}")
            return bool(found and found["database"]["status"] == "online")

        call.wait_until(f"database cluster {identifier} to be online", online, timeout=1800)

    def _set(self, call: Call, identifier: str, old: Properties, new: Properties) -> None:
        session = session_of(call)
        if (windows := new.get("maintenanceWindows")) and windows != old.get("maintenanceWindows"):
            body = {"day": windows[0]["day"], "hour": windows[0]["hour"]}
            session.put(f"/v2/databases/{identifier}/maintenance", body)
        if (policy := new.get("evictionPolicy")) and policy != old.get("evictionPolicy"):
            session.put(f"/v2/databases/{identifier}/eviction_policy", {"eviction_policy": policy})

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/databases/{identifier}")
        return (identifier, self._state(call, found["database"])) if found else None

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        session = session_of(call)
        if any(inputs.get(name) and old.get(name) != inputs[name] for name in ("size", "nodeCount", "storageSizeMib")):
            body = {"size": inputs["size"], "num_nodes": inputs["nodeCount"]}
            if inputs.get("storageSizeMib") and inputs["storageSizeMib"] != old.get("storageSizeMib"):
                body["storage_size_mib"] = int(inputs["storageSizeMib"])
            session.put(f"/v2/databases/{identifier}/resize", body)
            self._wait(call, identifier)
        if inputs["region"] != old["region"]:
            session.put(f"/v2/databases/{identifier}/migrate", {"region": inputs["region"]})
            self._wait(call, identifier)
        if inputs.get("version") and inputs["version"] != old.get("version"):
            session.put(f"/v2/databases/{identifier}/upgrade", {"version": inputs["version"]})
            self._wait(call, identifier)
        self._set(call, identifier, old, inputs)
        set_tags(call, "database", identifier, old.get("tags") or [], inputs.get("tags") or [])
        return self._state(call, session.get(f"/v2/databases/{identifier}")["database"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/databases/{identifier}", missing_ok=True)

    def _state(self, call: Call, cluster: Properties) -> Properties:
        window, public, private = cluster["maintenance_window"], cluster["connection"], cluster["private_connection"]
        state = {
            "engine": cluster["engine"],
            "version": cluster["version"],
            "nodeCount": cluster["num_nodes"],
            "region": cluster["region"],
            "size": cluster["size"],
            "name": cluster["name"],
            "maintenanceWindows": [{"day": window["day"], "hour": window["hour"]}],
            "privateNetworkUuid": cluster["private_network_uuid"],
            "projectId": cluster["project_id"],
            "storageSizeMib": str(cluster["storage_size_mib"]),
            "tags": cluster["tags"] or [],
            "clusterUrn": f"do:dbaas:{cluster['id']}",
            "database": public["database"],
            "host": public["host"],
            "password": public["password"],
            "port": public["port"],
            "privateHost": private["host"],
            "privateUri": private["uri"],
            "uri": public["uri"],
            "user": public["user"],
        }
        if cluster["engine"] == "valkey" and cluster["status"] != "creating":
            policy = session_of(call).get(f"/v2/databases/{cluster['id']}/eviction_policy")
            state["evictionPolicy"] = policy["eviction_policy"]
        return state


def _imported(identifier: str) -> tuple[str, str]:
    """Cluster and name of what is imported as `cluster,name`."""
    cluster, comma, name = identifier.partition(",")
    if not comma:
        raise PluginError("must use the ID of the source database cluster and the name joined with a comma")
    return cluster, name


class DatabaseDb(Resource):
    """A database inside a cluster. Deleting it deletes what is in it."""

    full_name = "digitalocean:index/databaseDb:DatabaseDb"
    autoname = True
    inputs: ClassVar[Fields] = {"clusterId": Field(required=True, replace=True), "name": Field(replace=True)}

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        cluster = inputs["clusterId"]
        name = session_of(call).post(f"/v2/databases/{cluster}/dbs", {"name": inputs["name"]})["db"]["name"]
        return f"{cluster}/database/{name}", {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        cluster, name = (state["clusterId"], state["name"]) if state else _imported(identifier)
        found = session_of(call).find(f"/v2/databases/{cluster}/dbs/{segment(name)}")
        return (f"{cluster}/database/{name}", {"clusterId": cluster, "name": name}) if found else None

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        path = f"/v2/databases/{state['clusterId']}/dbs/{segment(state['name'])}"
        session_of(call).delete(path, missing_ok=True)


class DatabaseUser(Resource):
    """A user of a cluster, whose password the service makes up."""

    full_name = "digitalocean:index/databaseUser:DatabaseUser"
    autoname = True
    inputs: ClassVar[Fields] = {"clusterId": Field(required=True, replace=True), "name": Field(replace=True)}
    outputs = ("password", "role")
    secret_outputs = frozenset({"password"})

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        cluster = inputs["clusterId"]
        user = session_of(call).post(f"/v2/databases/{cluster}/users", {"name": inputs["name"]})["user"]
        return f"{cluster}/user/{user['name']}", self._state(cluster, user)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        cluster, name = (state["clusterId"], state["name"]) if state else _imported(identifier)
        found = session_of(call).find(f"/v2/databases/{cluster}/users/{segment(name)}")
        return (f"{cluster}/user/{name}", self._state(cluster, found["user"])) if found else None

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        path = f"/v2/databases/{state['clusterId']}/users/{segment(state['name'])}"
        session_of(call).delete(path, missing_ok=True)

    def _state(self, cluster: str, user: Properties) -> Properties:
        return {
            "clusterId": cluster,
            "name": user["name"],
            "role": user["role"],
            "password": user.get("password") or "",
        }


_RULE: Fields = {
    "type": Field(required=True, choices=("droplet", "k8s", "ip_addr", "tag", "app")),
    "value": Field(required=True),
    "uuid": Field(computed=True),
    "createdAt": Field(computed=True),
}


class DatabaseFirewall(Resource):
    """Who may reach a cluster. Deleting it leaves the cluster open to everybody, as with the official plugin."""

    full_name = "digitalocean:index/databaseFirewall:DatabaseFirewall"
    inputs: ClassVar[Fields] = {
        "clusterId": Field(required=True, replace=True),
        "rules": Field(
            Kind.LIST,
            required=True,
            fields=_RULE,
            normal=lambda rules: sorted([rule["type"], rule["value"]] for rule in rules),
        ),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        self._put(call, inputs["clusterId"], inputs["rules"])
        found = self._read(call, inputs["clusterId"])
        return f"{inputs['clusterId']}-{uuid.uuid4().hex}", found or {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        found = self._read(call, state["clusterId"] if state else identifier)
        return (identifier, found) if found else None

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del identifier, old
        self._put(call, inputs["clusterId"], inputs["rules"])
        return self._read(call, inputs["clusterId"]) or {}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        if session_of(call).find(f"/v2/databases/{state['clusterId']}"):
            self._put(call, state["clusterId"], [])

    def _put(self, call: Call, cluster: str, rules: list[Properties]) -> None:
        body = {"rules": [{"type": rule["type"], "value": rule["value"]} for rule in rules]}
        session_of(call).put(f"/v2/databases/{cluster}/firewall", body)

    def _read(self, call: Call, cluster: str) -> Properties | None:
        found = session_of(call).find(f"/v2/databases/{cluster}/firewall")
        if not found or not found["rules"]:
            return None
        rules = [
            {"type": rule["type"], "value": rule["value"], "uuid": rule["uuid"], "createdAt": rule["created_at"]}
            for rule in found["rules"]
        ]
        return {"clusterId": cluster, "rules": rules}


class GetDatabaseCa(Function):
    """The certificate of the authority that signs for a cluster."""

    full_name = "digitalocean:index/getDatabaseCa:getDatabaseCa"
    inputs: ClassVar[Fields] = {"clusterId": Field(required=True)}

    def invoke(self, call: Call, inputs: Properties) -> Properties:
        found = session_of(call).get(f"/v2/databases/{segment(inputs['clusterId'])}/ca")
        certificate = base64.b64decode(found["ca"]["certificate"]).decode()
        return {"id": inputs["clusterId"], "clusterId": inputs["clusterId"], "certificate": certificate}
