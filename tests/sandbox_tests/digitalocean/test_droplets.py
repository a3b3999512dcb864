"""Droplets, their actions and volumes, as the official client sees them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.digitalocean.models import catalog
from tests.sandbox_tests.support.emulated_cloud import DROPLET, EmulatedCloud, public_key
from tests.sandbox_tests.support.waiting import eventually


def act(cloud: EmulatedCloud, number: int, **body: Any) -> dict[str, Any]:
    action: dict[str, Any] = cloud.client.droplet_actions.post(number, body=body)["action"]
    return action


def test_a_droplet_is_new_without_an_address_and_then_active_with_all_of_them(cloud: EmulatedCloud) -> None:
    cloud.hold("droplet.create")
    answer = cloud.client.droplets.create(body=DROPLET | {"tags": ["web"], "monitoring": True})
    made = answer["droplet"]
    assert (made["status"], made["locked"], made["networks"]) == ("new", True, {"v4": [], "v6": []})
    [link] = answer["links"]["actions"]
    assert link["rel"] == "create"
    action = cloud.client.actions.get(link["id"])["action"]
    assert (action["status"], action["completed_at"], action["type"]) == ("in-progress", None, "create")

    cloud.hold()
    droplet = cloud.active(made["id"])
    assert {net["type"] for net in droplet["networks"]["v4"]} == {"public", "private"}
    assert cloud.completed(action)["status"] == "completed"
    assert droplet["region"]["slug"] == "nyc3"
    assert droplet["size"]["price_monthly"] == 6.0
    assert droplet["image"]["slug"] == "debian-13-x64"
    assert (droplet["kernel"], droplet["next_backup_window"]) == (None, None)
    assert {"monitoring", "private_networking"} <= set(droplet["features"])
    assert droplet["tags"] == ["web"]
    assert droplet["vpc_uuid"] == cloud.client.vpcs.list()["vpcs"][0]["id"]


def test_the_machine_gets_what_the_api_was_given(cloud: EmulatedCloud) -> None:
    key = cloud.client.ssh_keys.create(body={"name": "me", "public_key": public_key()})["ssh_key"]
    droplet = cloud.droplet(user_data="#cloud-config\n", ssh_keys=[key["fingerprint"]], ipv6=True)
    machine = cloud.backend.machines[droplet["id"]]
    assert machine.user_data == "#cloud-config\n"
    assert machine.ssh_keys == (public_key(),)
    assert (machine.vcpus, machine.memory_mb, machine.disk_gb) == (1, 1024, 25)
    addresses = {net["type"]: net["ip_address"] for net in droplet["networks"]["v4"]}
    assert (machine.public_ipv4, machine.private_ipv4) == (addresses["public"], addresses["private"])
    assert droplet["networks"]["v6"][0]["ip_address"] == machine.public_ipv6
    assert machine.anchor_ipv4.startswith("10.10.")


def test_a_destroyed_droplet_exists_for_a_while_and_is_then_gone(cloud: EmulatedCloud) -> None:
    droplet = cloud.droplet()
    cloud.hold("droplet.destroy")
    cloud.client.droplets.destroy(droplet["id"])
    path = f"/v2/droplets/{droplet['id']}"
    assert cloud.http.get(path).json()["droplet"]["locked"] is True
    assert cloud.refused("DELETE", path) == (422, "unprocessable_entity", "Droplet already has a pending event.")
    cloud.hold()
    eventually(lambda: cloud.http.get(path).status_code == 404)
    message = "The resource you were accessing could not be found."
    assert cloud.refused("GET", path) == (404, "not_found", message)
    assert cloud.backend.machines == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "s-900vcpu"}, "You specified an invalid size for Droplet creation."),
        ({"size": None}, "You specified an invalid size for Droplet creation."),
        ({"image": "debian-2-x64"}, "You specified an invalid image for Droplet creation."),
        ({"image": "ubuntu-24-04-x64"}, "You specified an invalid image for Droplet creation."),
        ({"region": "moon1"}, "You specified an invalid region for Droplet creation."),
        ({"region": "sfo1"}, "Region is not available"),
        ({"size": "s-1vcpu-512mb-10gb"}, "Size is not available in this region."),
        ({"name": ""}, "Name can't be blank"),
        ({"name": "under_score"}, "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"),
        ({"ssh_keys": [17]}, "17 are invalid key identifiers for Droplet creation."),
        ({"user_data": "x" * (64 * 1024 + 1)}, "User data is too long (maximum is 64 KiB)"),
        ({"volumes": ["nowhere"]}, "Invalid volume allocations"),
    ],
)
def test_an_invalid_droplet_is_refused(cloud: EmulatedCloud, change: dict[str, Any], message: str) -> None:
    assert cloud.refused("POST", "/v2/droplets", DROPLET | change) == (422, "unprocessable_entity", message)
    assert cloud.client.droplets.list()["droplets"] == []
    assert cloud.backend.machines == {}


def test_user_data_of_just_64_kib_is_accepted(cloud: EmulatedCloud) -> None:
    droplet = cloud.droplet(user_data="x" * 64 * 1024)
    assert len(cloud.backend.machines[droplet["id"]].user_data) == 64 * 1024


def test_ubuntu_is_offered_where_it_can_be_booted(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, images=("debian-13-x64", "ubuntu-24-04-x64")) as cloud:
        assert cloud.droplet(image="ubuntu-24-04-x64")["image"]["distribution"] == "Ubuntu"
        assert cloud.refused("POST", "/v2/droplets", DROPLET | {"image": "debian-12-x64"})[0] == 422


def test_the_droplet_limit_holds(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, droplet_limit=1) as cloud:
        cloud.droplet()
        message = "creating this/these droplet(s) will exceed your droplet limit"
        assert cloud.refused("POST", "/v2/droplets", DROPLET) == (422, "unprocessable_entity", message)


def test_an_image_that_is_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tuple(dataclasses.replace(image, min_disk_size=50) for image in catalog.IMAGES)
    monkeypatch.setattr(catalog, "IMAGES", large)
    with EmulatedCloud(tmp_path) as cloud:
        message = "Cannot create a droplet with a smaller disk (25GB) than the image (50GB)"
        small = DROPLET | {"size": "s-1vcpu-1gb"}
        assert cloud.refused("POST", "/v2/droplets", small) == (422, "unprocessable_entity", message)
        assert cloud.droplet(size="s-1vcpu-2gb")["disk"] == 50


def test_the_volume_limit_holds_and_none_is_none(tmp_path: Path) -> None:
    with EmulatedCloud(tmp_path, volume_limit=1) as cloud:
        volume(cloud)
        assert cloud.get("/v2/account")["account"]["volume_limit"] == 1
        body = {"name": "another", "region": "nyc3", "size_gigabytes": 10}
        assert cloud.refused("POST", "/v2/volumes", body)[:2] == (403, "forbidden")
        cloud.control.put("/account", json={"volume_limit": 0}).raise_for_status()
        assert cloud.http.post("/v2/volumes", json=body).status_code == 201


def test_several_droplets_can_be_created_and_destroyed_by_tag(cloud: EmulatedCloud) -> None:
    body = {name: value for name, value in DROPLET.items() if name != "name"} | {"names": ["a", "b"], "tags": ["t"]}
    made = cloud.client.droplets.create(body=body)
    assert len(made["links"]["actions"]) == 2
    for droplet in made["droplets"]:
        cloud.active(droplet["id"])
    other = cloud.droplet()
    tagged = cloud.client.droplets.list(tag_name="T")["droplets"]
    assert {droplet["name"] for droplet in tagged} == {"a", "b"}
    cloud.http.delete("/v2/droplets", params={"tag_name": "t"}).raise_for_status()
    eventually(lambda: [d["id"] for d in cloud.client.droplets.list()["droplets"]] == [other["id"]])


def test_power_actions_change_the_status_and_are_refused_if_there_is_nothing_to_change(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    path = f"/v2/droplets/{number}/actions"
    assert cloud.refused("POST", path, {"type": "power_on"})[2] == "Droplet is already powered on."
    cloud.completed(act(cloud, number, type="shutdown"))
    assert cloud.client.droplets.get(number)["droplet"]["status"] == "off"
    cloud.completed(act(cloud, number, type="shutdown"))
    assert cloud.refused("POST", path, {"type": "power_off"})[2] == "Droplet is already powered off."
    assert cloud.refused("POST", path, {"type": "reboot"})[0] == 422
    cloud.completed(act(cloud, number, type="power_on"))
    assert cloud.client.droplets.get(number)["droplet"]["status"] == "active"
    for kind in ("reboot", "power_cycle", "power_off"):
        assert cloud.completed(act(cloud, number, type=kind))["status"] == "completed"
    assert number not in cloud.backend.powered


def test_a_machine_that_its_owner_switched_off_shows_as_off(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    cloud.backend.powered.discard(number)
    assert cloud.client.droplets.get(number)["droplet"]["status"] == "off"


def test_a_droplet_does_one_thing_at_a_time(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    cloud.hold("droplet.reboot")
    action = act(cloud, number, type="reboot")
    refusal = cloud.refused("POST", f"/v2/droplets/{number}/actions", {"type": "power_off"})
    assert refusal == (422, "unprocessable_entity", "Droplet already has a pending event.")
    cloud.hold()
    assert cloud.completed(action)["resource_id"] == number


def test_resizing_needs_a_droplet_that_is_off_and_never_shrinks_its_disk(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    path = f"/v2/droplets/{number}/actions"
    resize = {"type": "resize", "size": "s-2vcpu-4gb", "disk": True}
    assert cloud.refused("POST", path, resize)[0] == 422
    cloud.completed(act(cloud, number, type="power_off"))
    cloud.completed(act(cloud, number, **resize))
    droplet = cloud.client.droplets.get(number)["droplet"]
    assert (droplet["size_slug"], droplet["vcpus"], droplet["disk"]) == ("s-2vcpu-4gb", 2, 80)
    smaller = cloud.refused("POST", path, {"type": "resize", "size": "s-1vcpu-1gb", "disk": False})
    assert smaller[2] == "This size is not available because it has a smaller disk."
    assert cloud.backend.machines[number].memory_mb == 4096


def test_rename_rebuild_and_ipv6_are_actions(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    cloud.completed(act(cloud, number, type="rename", name="web-2"))
    cloud.completed(act(cloud, number, type="rebuild", image="debian-12-x64"))
    cloud.completed(act(cloud, number, type="enable_ipv6"))
    droplet = cloud.client.droplets.get(number)["droplet"]
    assert (droplet["name"], droplet["image"]["slug"]) == ("web-2", "debian-12-x64")
    assert len(droplet["networks"]["v6"]) == 1
    kinds = [action["type"] for action in cloud.client.droplet_actions.list(number)["actions"]]
    assert kinds == ["enable_ipv6", "rebuild", "rename", "create"]


def test_an_action_that_the_backend_cannot_do_is_errored(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    cloud.backend.broken.add("reboot")
    action = cloud.completed(act(cloud, number, type="reboot"))
    assert action["status"] == "errored"
    assert cloud.client.droplets.get(number)["droplet"]["locked"] is False


def test_an_address_is_not_reused_at_once(cloud: EmulatedCloud) -> None:
    first = cloud.droplet()
    cloud.client.droplets.destroy(first["id"])
    eventually(lambda: cloud.http.get(f"/v2/droplets/{first['id']}").status_code == 404)
    second = cloud.droplet()
    assert first["id"] != second["id"]
    former = {net["ip_address"] for net in first["networks"]["v4"]}
    assert not former & {net["ip_address"] for net in second["networks"]["v4"]}


def volume(cloud: EmulatedCloud, **changes: Any) -> dict[str, Any]:
    body = {"name": "data", "region": "nyc3", "size_gigabytes": 10, "filesystem_type": "ext4"} | changes
    made: dict[str, Any] = cloud.client.volumes.create(body=body)["volume"]
    return made


def test_a_volume_has_no_snapshots_and_none_can_be_made(cloud: EmulatedCloud) -> None:
    path = f"/v2/volumes/{volume(cloud)['id']}/snapshots"
    assert cloud.http.get(path).json() == {"snapshots": [], "links": {}, "meta": {"total": 0}}
    assert cloud.refused("POST", path, {"name": "before"})[:2] == (501, "not_implemented")
    assert cloud.refused("GET", "/v2/volumes/nowhere/snapshots")[:2] == (404, "not_found")
    assert cloud.http.get("/v2/snapshots?resource_type=volume").json()["snapshots"] == []
    assert cloud.refused("GET", "/v2/snapshots?resource_type=database")[0] == 422
    assert cloud.refused("DELETE", "/v2/snapshots/nowhere")[:2] == (404, "not_found")


def test_a_volume_is_attached_grown_and_detached(cloud: EmulatedCloud) -> None:
    disk, number = volume(cloud, filesystem_label="data"), cloud.droplet()["id"]
    assert cloud.backend.volumes[disk["id"]].filesystem == "ext4"
    attach = {"type": "attach", "droplet_id": number, "region": "nyc3"}
    action = cloud.client.volume_actions.post_by_id(disk["id"], body=attach)["action"]
    assert action["type"] == "attach_volume"
    cloud.completed(action)
    assert cloud.client.volumes.get(disk["id"])["volume"]["droplet_ids"] == [number]
    assert cloud.client.droplets.get(number)["droplet"]["volume_ids"] == [disk["id"]]
    busy = cloud.client.droplet_actions.list(number)["actions"]
    assert [item["type"] for item in busy] == ["attach_volume", "create"]
    path = f"/v2/volumes/{disk['id']}"
    status, kind, message = cloud.refused("DELETE", path)
    assert (status, kind) == (409, "conflict")
    assert message.startswith("A volume that's attached to a Droplet cannot be deleted")
    assert cloud.refused("POST", f"{path}/actions", attach)[0] == 422
    assert cloud.refused("POST", f"{path}/actions", {"type": "resize", "size_gigabytes": 5})[0] == 422
    cloud.completed(cloud.http.post(f"{path}/actions", json={"type": "resize", "size_gigabytes": 20}).json()["action"])
    assert cloud.backend.volumes[disk["id"]].size_gb == 20
    detach = {"type": "detach", "droplet_id": number}
    cloud.completed(cloud.http.post(f"{path}/actions", json=detach).json()["action"])
    assert cloud.refused("POST", f"{path}/actions", detach)[2] == "Attachment not found"
    cloud.client.volumes.delete(disk["id"])
    assert cloud.refused("GET", path)[0] == 404
    assert cloud.backend.volumes == {}


def test_volumes_are_found_by_name_and_region_and_names_are_unique_in_a_region(cloud: EmulatedCloud) -> None:
    first = volume(cloud)
    volume(cloud, region="fra1")
    found = cloud.client.volumes.list(name="data", region="nyc3")["volumes"]
    assert [item["id"] for item in found] == [first["id"]]
    taken = {"name": "data", "region": "nyc3", "size_gigabytes": 1}
    assert cloud.refused("POST", "/v2/volumes", taken)[:2] == (409, "conflict")
    assert cloud.refused("POST", "/v2/volumes", taken | {"name": "Data"})[0] == 422
    assert cloud.refused("POST", "/v2/volumes", taken | {"name": "x", "filesystem_type": "zfs"})[0] == 422
    cloud.http.delete("/v2/volumes", params={"name": "data", "region": "nyc3"}).raise_for_status()
    assert len(cloud.client.volumes.list()["volumes"]) == 1


def test_a_volume_is_not_attached_across_regions_nor_to_a_busy_droplet(cloud: EmulatedCloud) -> None:
    number, far, near = cloud.droplet()["id"], volume(cloud, region="fra1"), volume(cloud)
    body = {"type": "attach", "droplet_id": number}
    assert cloud.refused("POST", f"/v2/volumes/{far['id']}/actions", body)[0] == 422
    cloud.hold("droplet.reboot")
    act(cloud, number, type="reboot")
    refusal = cloud.refused("POST", f"/v2/volumes/{near['id']}/actions", body)
    assert refusal[2] == "Droplet already has a pending event."


def test_a_destroyed_droplet_releases_its_volumes(cloud: EmulatedCloud) -> None:
    disk = volume(cloud)
    number = cloud.droplet(volumes=[disk["id"]])["id"]
    assert cloud.backend.attached == {disk["id"]: number}
    cloud.client.droplets.destroy(number)
    eventually(lambda: cloud.client.volumes.get(disk["id"])["volume"]["droplet_ids"] == [])
    assert cloud.backend.attached == {}
    assert disk["id"] in cloud.backend.volumes


def test_a_volume_that_cannot_be_created_does_not_exist(cloud: EmulatedCloud) -> None:
    cloud.backend.broken.add("create_volume")
    body = {"name": "data", "region": "nyc3", "size_gigabytes": 10}
    assert cloud.refused("POST", "/v2/volumes", body)[:2] == (500, "server_error")
    assert cloud.client.volumes.list()["volumes"] == []
