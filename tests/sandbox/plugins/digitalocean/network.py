"""VPCs, firewalls, reserved addresses."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import ClassVar

from tests.sandbox.plugins.base.framework import (
    Call,
    Failure,
    Field,
    Fields,
    Kind,
    PluginError,
    Resource,
    made,
)
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import ApiError, given, session_of, wait_for_action_at


class Vpc(Resource):
    """A private network."""

    full_name = "digitalocean:index/vpc:Vpc"
    autoname = True
    inputs: ClassVar[Fields] = {
        "region": Field(required=True, replace=True),
        "name": Field(),
        "description": Field(),
        "ipRange": Field(replace=True, computed=True),
    }
    outputs = ("createdAt", "default", "ipRange", "vpcUrn")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        names = {"name": "name", "region": "region", "description": "description", "ipRange": "ip_range"}
        vpc = session_of(call).post("/v2/vpcs", given(inputs, names))["vpc"]
        with made(vpc["id"], inputs):
            return vpc["id"], self._state(session_of(call).get(f"/v2/vpcs/{vpc['id']}")["vpc"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/vpcs/{identifier}")
        return found and (identifier, self._state(found["vpc"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        body = {
            "name": inputs["name"],
            "description": inputs.get("description", ""),
            "default": bool(old.get("default")),
        }
        return self._state(session_of(call).put(f"/v2/vpcs/{identifier}", body)["vpc"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        refusals: list[ApiError] = []

        def gone() -> bool:
            try:
                session_of(call).delete(f"/v2/vpcs/{identifier}")
            except ApiError as error:
                # Members leave it some time after they are deleted.
                if error.code not in (403, 409):
                    raise
                refusals.append(error)
                return False
            return True

        try:
            call.wait_until(f"VPC {identifier} to have no members", gone, timeout=120)
        except PluginError as error:
            raise refusals[-1] if refusals and not call.cancelled.is_set() else error from error

    def _state(self, vpc: Properties) -> Properties:
        return {
            "name": vpc["name"],
            "region": vpc["region"],
            "description": vpc.get("description") or "",
            "ipRange": vpc["ip_range"],
            "createdAt": vpc["created_at"],
            "default": vpc["default"],
            "vpcUrn": vpc["urn"],
        }


_PEERS = {
    "Addresses": "addresses",
    "DropletIds": "droplet_ids",
    "KubernetesIds": "kubernetes_ids",
    "LoadBalancerUids": "load_balancer_uids",
    "Tags": "tags",
}


def _rules(side: str) -> Field:
    peers = {
        side + name: Field(Kind.LIST, items=Kind.INTEGER if name == "DropletIds" else Kind.STRING) for name in _PEERS
    }
    fields = {"protocol": Field(required=True, choices=("tcp", "udp", "icmp")), "portRange": Field(), **peers}
    return Field(Kind.LIST, fields=fields, unordered=True)


class Firewall(Resource):
    """Rules for droplets, by ID and by tag. An update replaces them all."""

    full_name = "digitalocean:index/firewall:Firewall"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "dropletIds": Field(Kind.LIST, items=Kind.INTEGER, unordered=True),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "inboundRules": _rules("source"),
        "outboundRules": _rules("destination"),
    }
    outputs = ("createdAt", "pendingChanges", "status")

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if not inputs.get("inboundRules") and not inputs.get("outboundRules"):
            yield Failure("inboundRules", "at least one inbound or outbound rule is needed")
        for direction in ("inboundRules", "outboundRules"):
            rules = inputs.get(direction)
            for place, rule in enumerate(rules if isinstance(rules, list) else []):
                if isinstance(rule, dict) and rule["protocol"] in ("tcp", "udp") and not rule.get("portRange"):
                    yield Failure(f"{direction}[{place}].portRange", f"is needed for protocol {rule['protocol']}")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        firewall = session_of(call).post("/v2/firewalls", self._body(inputs))["firewall"]
        with made(firewall["id"], inputs):
            return firewall["id"], self._state(session_of(call).get(f"/v2/firewalls/{firewall['id']}")["firewall"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/firewalls/{identifier}")
        return found and (identifier, self._state(found["firewall"]))

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del old
        session_of(call).put(f"/v2/firewalls/{identifier}", self._body(inputs))
        return self._state(session_of(call).get(f"/v2/firewalls/{identifier}")["firewall"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/firewalls/{identifier}")

    def _body(self, inputs: Properties) -> Properties:
        return {
            "name": inputs["name"],
            "droplet_ids": inputs.get("dropletIds", []),
            "tags": inputs.get("tags", []),
            "inbound_rules": [_rule_body("source", rule) for rule in inputs.get("inboundRules", [])],
            "outbound_rules": [_rule_body("destination", rule) for rule in inputs.get("outboundRules", [])],
        }

    def _state(self, firewall: Properties) -> Properties:
        pending = firewall.get("pending_changes") or []
        return {
            "name": firewall["name"],
            "dropletIds": firewall.get("droplet_ids") or [],
            "tags": firewall.get("tags") or [],
            "inboundRules": [_rule_state("source", rule) for rule in firewall.get("inbound_rules") or []],
            "outboundRules": [_rule_state("destination", rule) for rule in firewall.get("outbound_rules") or []],
            "createdAt": firewall["created_at"],
            "status": firewall["status"],
            "pendingChanges": [
                {"dropletId": change["droplet_id"], "removing": change["removing"], "status": change["status"]}
                for change in pending
            ],
        }


def _rule_body(side: str, rule: Properties) -> Properties:
    peers = {api: rule[side + name] for name, api in _PEERS.items() if rule.get(side + name)}
    ports = {} if rule["protocol"] == "icmp" else {"ports": rule["portRange"]}
    return {"protocol": rule["protocol"], **ports, f"{side}s": peers}


def _rule_state(side: str, rule: Properties) -> Properties:
    peers = rule.get(f"{side}s") or {}
    state: Properties = {side + name: peers[api] for name, api in _PEERS.items() if peers.get(api)}
    if rule["protocol"] != "icmp":
        # The API says 0 where it was told "all".
        state["portRange"] = "all" if rule["ports"] == "0" else rule["ports"]
    return {"protocol": rule["protocol"], **state}


def _assign(call: Call, address: str, droplet: int) -> None:
    session = session_of(call)

    def idle() -> bool:
        actions = session.get(f"/v2/droplets/{droplet}/actions?per_page=50")["actions"]
        return all(action["status"] != "in-progress" for action in actions)

    # An action that starts after this look makes the API refuse, and the official plugin does not ask again: what else
    # acts on the droplet has to come before or after, by the program's own order.
    call.wait_until(f"droplet {droplet} to have no pending actions", idle)
    _act(call, address, {"type": "assign", "droplet_id": droplet})


def _unassign(call: Call, address: str) -> None:
    try:
        _act(call, address, {"type": "unassign"})
    except ApiError as error:
        # It is assigned to nothing.
        if error.code != 422:
            raise


def _act(call: Call, address: str, body: Properties) -> None:
    path = f"/v2/reserved_ips/{address}/actions"
    action = session_of(call).post(path, body)["action"]
    wait_for_action_at(call, f"{path}/{action['id']}")


def _required(call: Call, address: str) -> None:
    if _find_reserved(call, address) is None:
        raise PluginError(f"reserved IP {address} is not found after it was made")


def _find_reserved(call: Call, address: str) -> Properties | None:
    found: Properties | None = session_of(call).find(f"/v2/reserved_ips/{address}")
    return None if found is None else found["reserved_ip"]


class ReservedIp(Resource):
    """An address that can move between droplets."""

    full_name = "digitalocean:index/reservedIp:ReservedIp"
    inputs: ClassVar[Fields] = {
        "region": Field(required=True, replace=True),
        "dropletId": Field(Kind.INTEGER),
        "ipAddress": Field(computed=True, replace=True),
    }
    outputs = ("ipAddress", "reservedIpUrn")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        address = session_of(call).post("/v2/reserved_ips", {"region": inputs["region"]})["reserved_ip"]["ip"]
        outputs = {"ipAddress": address, "reservedIpUrn": f"do:reservedip:{address}"}
        if inputs.get("dropletId"):
            with made(address, {"region": inputs["region"], **outputs}):
                _assign(call, address, inputs["dropletId"])
        with made(address, inputs | outputs):
            # A 404 here makes the official plugin forget the address.
            _required(call, address)
        return address, outputs

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        reserved = _find_reserved(call, identifier)
        if reserved is None:
            return None
        observed: Properties = {
            "ipAddress": reserved["ip"],
            "region": reserved["region"]["slug"],
            "reservedIpUrn": f"do:reservedip:{reserved['ip']}",
        }
        if state.get("dropletId"):
            # Otherwise the assignment is another resource's affair.
            observed["dropletId"] = (reserved.get("droplet") or {}).get("id")
        return identifier, observed

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        if old.get("dropletId") != inputs.get("dropletId"):
            if inputs.get("dropletId"):
                _assign(call, identifier, inputs["dropletId"])
            else:
                _unassign(call, identifier)
        return {}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        if state.get("dropletId") and _find_reserved(call, identifier):
            _unassign(call, identifier)
        session_of(call).delete(f"/v2/reserved_ips/{identifier}")


class ReservedIpAssignment(Resource):
    """A reserved address on a droplet."""

    full_name = "digitalocean:index/reservedIpAssignment:ReservedIpAssignment"
    inputs: ClassVar[Fields] = {
        "ipAddress": Field(required=True, replace=True),
        "dropletId": Field(Kind.INTEGER, required=True, replace=True),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        _assign(call, inputs["ipAddress"], inputs["dropletId"])
        return self._identifier(inputs["dropletId"], inputs["ipAddress"]), {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        if not state:
            address, _, droplet = identifier.partition(",")
            if not droplet.isdigit():
                raise PluginError("the ID to import must be <reserved address>,<droplet id>")
            state = {"ipAddress": address, "dropletId": int(droplet)}
            identifier = self._identifier(state["dropletId"], address)
        return (identifier, state) if self._holds(call, state) else None

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        if self._holds(call, state):
            _unassign(call, state["ipAddress"])

    def _holds(self, call: Call, state: Properties) -> bool:
        reserved = _find_reserved(call, state["ipAddress"])
        return reserved is not None and (reserved.get("droplet") or {}).get("id") == state["dropletId"]

    def _identifier(self, droplet: int, address: str) -> str:
        return f"{droplet}-{address}-{uuid.uuid4().hex}"
