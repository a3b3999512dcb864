"""Snapshots of droplets, as the official client sees them."""

from __future__ import annotations

from typing import Any

from tests.sandbox_tests.support.emulated_cloud import DROPLET, EmulatedCloud
from tests.sandbox_tests.support.waiting import eventually


def snapshot_of(cloud: EmulatedCloud, number: int, name: str = "golden") -> dict[str, Any]:
    body = {"type": "snapshot", "name": name}
    cloud.completed(cloud.client.droplet_actions.post(number, body=body)["action"])
    return next(one for one in cloud.client.droplets.list_snapshots(number)["snapshots"] if one["name"] == name)


def test_a_snapshot_is_listed_once_it_is_made(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    cloud.hold("droplet.snapshot")
    action = cloud.client.droplet_actions.post(number, body={"type": "snapshot", "name": "golden"})["action"]
    assert cloud.client.snapshots.list()["snapshots"] == []
    assert cloud.client.droplets.get(number)["droplet"]["locked"] is True
    cloud.hold()
    cloud.completed(action)
    [found] = cloud.client.snapshots.list(resource_type="droplet")["snapshots"]
    assert (found["name"], found["resource_id"], found["regions"]) == ("golden", str(number), ["nyc3"])
    assert found["min_disk_size"] == 25
    assert cloud.client.droplets.get(number)["droplet"]["snapshot_ids"] == [int(found["id"])]
    assert cloud.http.get("/v2/snapshots?resource_type=volume").json()["snapshots"] == []


def test_a_snapshot_is_an_image_of_the_account_and_has_no_slug(cloud: EmulatedCloud) -> None:
    made = snapshot_of(cloud, cloud.droplet()["id"])
    [image] = cloud.client.images.list(private=True)["images"]
    assert (image["id"], image["slug"], image["public"], image["type"]) == (made["id"], None, False, "snapshot")
    assert image["distribution"] == "Debian"
    assert made["id"] not in {one["id"] for one in cloud.http.get("/v2/images?type=distribution").json()["images"]}
    renamed = cloud.client.images.update(made["id"], body={"name": "silver"})["image"]
    assert renamed["name"] == cloud.client.images.get(made["id"])["image"]["name"] == "silver"


def test_droplets_start_from_a_snapshot_by_its_number_alone(cloud: EmulatedCloud) -> None:
    made = snapshot_of(cloud, cloud.droplet(size="s-1vcpu-2gb")["id"])
    machine = cloud.droplet(image=made["id"], size="s-1vcpu-2gb")
    assert (machine["image"]["id"], machine["image"]["slug"]) == (made["id"], None)
    assert cloud.backend.machines[machine["id"]].image == str(made["id"])
    for wrong in (
        DROPLET | {"image": "golden"},
        DROPLET | {"image": made["id"], "region": "fra1", "size": "s-1vcpu-2gb"},
    ):
        assert cloud.refused("POST", "/v2/droplets", wrong)[2] == "You specified an invalid image for Droplet creation."
    small = cloud.refused("POST", "/v2/droplets", DROPLET | {"image": made["id"], "size": "s-1vcpu-1gb"})
    assert "smaller disk" in small[2]


def test_a_snapshot_that_was_deleted_is_gone_and_its_droplets_stay(cloud: EmulatedCloud) -> None:
    made = snapshot_of(cloud, cloud.droplet()["id"])
    machine = cloud.droplet(image=made["id"])
    assert cloud.http.delete(f"/v2/snapshots/{made['id']}").status_code == 204
    eventually(lambda: not cloud.backend.snapshots)
    assert cloud.refused("GET", f"/v2/snapshots/{made['id']}")[:2] == (404, "not_found")
    assert cloud.refused("DELETE", f"/v2/images/{made['id']}")[0] == 404
    assert cloud.client.images.list(private=True)["images"] == []
    assert cloud.client.droplets.get(machine["id"])["droplet"]["image"]["status"] == "deleted"
    assert cloud.refused("POST", "/v2/droplets", DROPLET | {"image": made["id"]})[0] == 422
