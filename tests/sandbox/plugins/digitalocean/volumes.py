"""Volumes and their attachment to droplets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, Kind, PluginError, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import ApiError, act, given, session_of, set_tags

_CREATE = {
    "region": "region",
    "name": "name",
    "size": "size_gigabytes",
    "description": "description",
    "snapshotId": "snapshot_id",
    "initialFilesystemType": "filesystem_type",
    "initialFilesystemLabel": "filesystem_label",
    "tags": "tags",
}


class Volume(Resource):
    """A disk. Grows in place, never shrinks."""

    full_name = "digitalocean:index/volume:Volume"
    autoname = True
    inputs: ClassVar[Fields] = {
        "region": Field(required=True, replace=True),
        "size": Field(Kind.INTEGER, required=True),
        "name": Field(replace=True, normal=str.lower),
        "description": Field(replace=True),
        "snapshotId": Field(replace=True),
        "initialFilesystemType": Field(replace=True, choices=("ext4", "xfs")),
        "initialFilesystemLabel": Field(replace=True),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
    }
    outputs = ("dropletIds", "filesystemLabel", "filesystemType", "volumeUrn")

    def differences(self, old: Properties, new: Properties) -> Iterator[tuple[str, bool]]:
        if isinstance(old.get("size"), int) and isinstance(new.get("size"), int) and new["size"] < old["size"]:
            raise PluginError(f"size: volumes can only be expanded and not shrunk ({old['size']} to {new['size']} GiB)")
        return super().differences(old, new)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        body = given({**inputs, "name": inputs["name"].lower()}, _CREATE)
        volume = session_of(call).post("/v2/volumes", body)["volume"]
        with made(volume["id"], inputs):
            return volume["id"], self._state(session_of(call).get(f"/v2/volumes/{volume['id']}")["volume"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        found = session_of(call).find(f"/v2/volumes/{identifier}")
        if found is None:
            return None
        observed = self._state(found["volume"])
        if not state and observed["filesystemType"]:
            observed["initialFilesystemType"] = observed["filesystemType"]
            observed["initialFilesystemLabel"] = observed["filesystemLabel"]
        return identifier, observed

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        if old.get("size") != inputs["size"]:
            body = {"type": "resize", "size_gigabytes": inputs["size"], "region": inputs["region"]}
            act(call, f"/v2/volumes/{identifier}/actions", body)
        set_tags(call, "volume", identifier, old.get("tags") or [], inputs.get("tags") or [])
        return self._state(session_of(call).get(f"/v2/volumes/{identifier}")["volume"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/volumes/{identifier}")

    def _state(self, volume: Properties) -> Properties:
        return {
            "region": volume["region"]["slug"],
            "size": volume["size_gigabytes"],
            "name": volume["name"],
            "description": volume.get("description") or "",
            "dropletIds": volume.get("droplet_ids") or [],
            "filesystemType": volume.get("filesystem_type") or "",
            "filesystemLabel": volume.get("filesystem_label") or "",
            "tags": volume.get("tags") or [],
            "volumeUrn": f"do:volume:{volume['id']}",
        }


class VolumeAttachment(Resource):
    """A volume on a droplet. Cannot be imported."""

    full_name = "digitalocean:index/volumeAttachment:VolumeAttachment"
    inputs: ClassVar[Fields] = {
        "dropletId": Field(Kind.INTEGER, required=True, replace=True),
        "volumeId": Field(required=True, replace=True),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        droplet, volume = inputs["dropletId"], inputs["volumeId"]
        if self._droplet(call, volume) != droplet:
            act(call, f"/v2/volumes/{volume}/actions", {"type": "attach", "droplet_id": droplet})
        return f"{droplet}-{volume}-{uuid.uuid4().hex}", {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        if not state:
            return super().read(call, identifier, state)
        return (identifier, state) if self._droplet(call, state["volumeId"]) == state["dropletId"] else None

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        if self._droplet(call, state["volumeId"]) != state["dropletId"]:
            return
        try:
            body = {"type": "detach", "droplet_id": state["dropletId"]}
            act(call, f"/v2/volumes/{state['volumeId']}/actions", body)
        except ApiError as error:
            if error.code != 404:
                raise

    def _droplet(self, call: Call, volume: str) -> int | None:
        found = session_of(call).find(f"/v2/volumes/{volume}")
        droplets = (found or {"volume": {}})["volume"].get("droplet_ids") or [None]
        return droplets[0] if droplets[0] is None else int(droplets[0])
