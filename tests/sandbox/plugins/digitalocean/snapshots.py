"""Snapshots of droplets."""

from __future__ import annotations

from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Field, Fields, PluginError, Resource, made
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import act, session_of


class DropletSnapshot(Resource):
    """The disk of a droplet, as it is when the snapshot is made. Nothing of it can change."""

    full_name = "digitalocean:index/dropletSnapshot:DropletSnapshot"
    autoname = True
    inputs: ClassVar[Fields] = {
        "dropletId": Field(required=True, replace=True),
        "name": Field(replace=True),
    }
    outputs = ("createdAt", "minDiskSize", "regions", "size")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        droplet = inputs["dropletId"]
        before = {one["id"] for one in self._of(call, droplet)}
        act(call, f"/v2/droplets/{droplet}/actions", {"type": "snapshot", "name": inputs["name"]})
        found = [one for one in self._of(call, droplet) if one["id"] not in before and one["name"] == inputs["name"]]
        if not found:
            raise PluginError("Error retrieving Droplet Snapshot: Error, no snapshot found")
        number = str(found[-1]["id"])
        with made(number, inputs):
            return number, self._state(session_of(call).get(f"/v2/snapshots/{number}")["snapshot"])

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        del state
        found = session_of(call).find(f"/v2/snapshots/{identifier}")
        return None if found is None else (identifier, self._state(found["snapshot"]))

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del state
        session_of(call).delete(f"/v2/snapshots/{identifier}", missing_ok=True)

    def _of(self, call: Call, droplet: str) -> list[Properties]:
        return list(session_of(call).every(f"/v2/droplets/{droplet}/snapshots", "snapshots"))

    def _state(self, snapshot: Properties) -> Properties:
        return {
            "name": snapshot["name"],
            "dropletId": snapshot["resource_id"],
            "createdAt": snapshot["created_at"],
            "minDiskSize": snapshot["min_disk_size"],
            "regions": snapshot["regions"],
            "size": snapshot["size_gigabytes"],
        }
