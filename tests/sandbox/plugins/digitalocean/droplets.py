"""Droplets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, ClassVar

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
from tests.sandbox.plugins.digitalocean.session import Session, act, given, session_of, set_tags

_BACKUP_POLICY = {"plan": Field(choices=("daily", "weekly")), "weekday": Field(), "hour": Field(Kind.INTEGER)}
_CREATE = {
    "name": "name",
    "region": "region",
    "size": "size",
    "userData": "user_data",
    "backups": "backups",
    "backupPolicy": "backup_policy",
    "ipv6": "ipv6",
    "monitoring": "monitoring",
    "vpcUuid": "vpc_uuid",
    "dropletAgent": "with_droplet_agent",
    "publicNetworking": "public_networking",
    "tags": "tags",
    "volumeIds": "volumes",
}


def _switched_off(old: Any, new: Any) -> bool:
    return bool(old) and not new


class Droplet(Resource):
    """A machine. Ready when it is active and unlocked; resizing switches it off and on again."""

    full_name = "digitalocean:index/droplet:Droplet"
    autoname = True
    inputs: ClassVar[Fields] = {
        "image": Field(required=True, replace=True),
        "size": Field(required=True),
        "name": Field(),
        "region": Field(replace=True, computed=True),
        "sshKeys": Field(Kind.LIST, items=Kind.STRING, replace=True, unordered=True),
        "userData": Field(replace=True),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "monitoring": Field(Kind.BOOLEAN, default=False, replace=True),
        "ipv6": Field(Kind.BOOLEAN, default=False, replace=_switched_off),
        "backups": Field(Kind.BOOLEAN, default=False),
        "backupPolicy": Field(Kind.MAP, fields=_BACKUP_POLICY),
        "dropletAgent": Field(Kind.BOOLEAN, replace=True),
        "gracefulShutdown": Field(Kind.BOOLEAN, default=False),
        "publicNetworking": Field(Kind.BOOLEAN, replace=True, computed=True),
        "resizeDisk": Field(Kind.BOOLEAN, default=True),
        "volumeIds": Field(Kind.LIST, items=Kind.STRING, unordered=True, computed=True),
        "vpcUuid": Field(replace=True, computed=True),
    }
    outputs = (
        "createdAt",
        "disk",
        "dropletUrn",
        "ipv4Address",
        "ipv4AddressPrivate",
        "ipv6Address",
        "locked",
        "memory",
        "priceHourly",
        "priceMonthly",
        "privateNetworking",
        "publicNetworking",
        "region",
        "status",
        "vcpus",
        "volumeIds",
        "vpcUuid",
    )

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if inputs.get("backupPolicy") and inputs["backups"] is False:
            yield Failure("backupPolicy", "can only be set when backups are enabled")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        body = given(inputs, _CREATE)
        body["image"] = _number_or_name(inputs["image"])
        body["ssh_keys"] = [_number_or_name(key) for key in inputs.get("sshKeys", [])]
        droplet = session_of(call).post("/v2/droplets", body)["droplet"]
        identifier = str(droplet["id"])
        with made(identifier, inputs | droplet_state(droplet)):
            call.wait_until(f"droplet {identifier} to become active", lambda: _ready(call, identifier), timeout=3600)
            return identifier, droplet_state(_get(call, identifier)) | _hashed(inputs)

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        found = session_of(call).find(f"/v2/droplets/{identifier}")
        if found is None:
            return None
        droplet = found["droplet"]
        observed = droplet_state(droplet)
        if not state:
            # Later the image may be named otherwise, or be gone, without a change of the machine.
            observed["image"] = droplet["image"].get("slug") or str(droplet["image"]["id"])
            observed |= {"gracefulShutdown": False, "resizeDisk": True}
        return identifier, observed

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        path = f"/v2/droplets/{identifier}/actions"
        if old.get("size") != inputs["size"]:
            _resize(call, identifier, inputs)
        if old.get("name") != inputs["name"]:
            act(call, path, {"type": "rename", "name": inputs["name"]})
        self._update_backups(call, path, old, inputs)
        if inputs["ipv6"] and not old.get("ipv6"):
            act(call, path, {"type": "enable_ipv6"})
        set_tags(call, "droplet", identifier, old.get("tags") or [], inputs.get("tags") or [])
        if inputs.get("volumeIds") is not None:
            _move_volumes(call, identifier, old.get("volumeIds") or [], inputs["volumeIds"])
        return droplet_state(_get(call, identifier)) | _hashed(inputs)

    def _update_backups(self, call: Call, path: str, old: Properties, inputs: Properties) -> None:
        policy = {"backup_policy": inputs["backupPolicy"]} if inputs.get("backupPolicy") else {}
        if inputs["backups"] != bool(old.get("backups")):
            kind = "enable_backups" if inputs["backups"] else "disable_backups"
            act(call, path, {"type": kind, **(policy if inputs["backups"] else {})})
        elif policy and old.get("backupPolicy") != inputs["backupPolicy"]:
            act(call, path, {"type": "change_backup_policy", **policy})

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        session = session_of(call)
        path = f"/v2/droplets/{identifier}"
        call.wait_until(f"droplet {identifier} to be unlocked", lambda: not _locked(session, path), timeout=300)
        found = session.find(path)
        if found is None:
            # The official plugin waits for the lock of a droplet that is not there, and fails with these words.
            raise PluginError(
                f"Error waiting for droplet to be unlocked for destroy ({identifier}): unexpected state 'Not Found', "
                "wanted target 'false'. last error: %!s(<nil>)"
            )
        if state.get("gracefulShutdown"):
            session.post(f"{path}/actions", {"type": "shutdown"})
            call.wait_until(f"droplet {identifier} to be off", lambda: _status(call, identifier) == "off")
        _move_volumes(call, identifier, found["droplet"].get("volume_ids") or [], [])
        session.delete(path, missing_ok=True)
        call.wait_until(f"droplet {identifier} to be gone", lambda: session.find(path) is None, timeout=300)


def _hashed(inputs: Properties) -> Properties:
    """User data as an output: its hash, as the official plugin has it. As an input it is kept as it is."""
    data = inputs.get("userData")
    return {} if data is None else {"userData": hashlib.sha1(data.encode(), usedforsecurity=False).hexdigest()}


def _number_or_name(value: str) -> int | str:
    return int(value) if value.isdigit() else value


def _get(call: Call, identifier: str) -> Properties:
    droplet: Properties = session_of(call).get(f"/v2/droplets/{identifier}")["droplet"]
    return droplet


def _status(call: Call, identifier: str) -> str:
    return str(_get(call, identifier)["status"])


def _ready(call: Call, identifier: str) -> bool:
    # Not found: the machine is so new that not every part of the service knows it.
    found = session_of(call).find(f"/v2/droplets/{identifier}")
    return found is not None and found["droplet"]["status"] == "active" and not found["droplet"]["locked"]


def _locked(session: Session, path: str) -> bool:
    found = session.find(path)
    return found is not None and bool(found["droplet"]["locked"])


def _resize(call: Call, identifier: str, inputs: Properties) -> None:
    path = f"/v2/droplets/{identifier}/actions"
    if _status(call, identifier) != "off":
        act(call, path, {"type": "power_off"})
        call.wait_until(f"droplet {identifier} to be off", lambda: _status(call, identifier) == "off")
    try:
        act(call, path, {"type": "resize", "size": inputs["size"], "disk": inputs["resizeDisk"]})
    finally:
        act(call, path, {"type": "power_on"})
    call.wait_until(f"droplet {identifier} to become active", lambda: _ready(call, identifier))


def _move_volumes(call: Call, identifier: str, old: list[str], new: list[str]) -> None:
    for kind, volumes in (("detach", set(old) - set(new)), ("attach", set(new) - set(old))):
        for volume in sorted(volumes):
            act(call, f"/v2/volumes/{volume}/actions", {"type": kind, "droplet_id": int(identifier)})


def _address(networks: list[Properties], kind: str) -> str | None:
    return next((str(network["ip_address"]) for network in networks if network["type"] == kind), None)


def droplet_state(droplet: Properties) -> Properties:
    """A droplet's outputs, as its resource and the functions about droplets have them."""
    networks = droplet.get("networks") or {}
    v4, v6 = networks.get("v4") or [], networks.get("v6") or []
    features = droplet.get("features") or []
    size = droplet.get("size") or {}
    return {
        "name": droplet["name"],
        "size": droplet.get("size_slug") or size.get("slug"),
        "region": droplet["region"]["slug"],
        "status": droplet["status"],
        "locked": droplet["locked"],
        "createdAt": droplet["created_at"],
        "disk": droplet["disk"],
        "memory": droplet["memory"],
        "vcpus": droplet["vcpus"],
        "priceHourly": size.get("price_hourly"),
        "priceMonthly": size.get("price_monthly"),
        "backups": "backups" in features,
        "ipv6": "ipv6" in features,
        "monitoring": "monitoring" in features,
        "privateNetworking": "private_networking" in features,
        "publicNetworking": _address(v4, "public") is not None,
        "ipv4Address": _address(v4, "public") or "",
        "ipv4AddressPrivate": _address(v4, "private") or "",
        "ipv6Address": (_address(v6, "public") or "").lower(),
        "dropletUrn": f"do:droplet:{droplet['id']}",
        "tags": droplet.get("tags") or [],
        "volumeIds": droplet.get("volume_ids") or [],
        "vpcUuid": droplet.get("vpc_uuid"),
    }
