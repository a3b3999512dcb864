"""VPCs, firewalls and reserved IPs: what they say, and what the machinery is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.digitalocean.state.backend import MachineFirewall, Rule
from tests.sandbox_tests.support.emulated_cloud import DROPLET, EmulatedCloud
from tests.sandbox_tests.support.waiting import eventually

SSH = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0", "::/0"]}}
ALL_OUT = {"protocol": "tcp", "ports": "0", "destinations": {"addresses": ["0.0.0.0/0"]}}


def firewall(cloud: EmulatedCloud, **changes: Any) -> dict[str, Any]:
    body = {"name": "server", "inbound_rules": [SSH], "outbound_rules": [ALL_OUT]} | changes
    made: dict[str, Any] = cloud.client.firewalls.create(body=body)["firewall"]
    return made


def on_machine(cloud: EmulatedCloud, number: int) -> MachineFirewall | None:
    return next((entry for entry in cloud.backend.picture.firewalls if entry.machine_id == number), None)


def test_the_first_vpc_of_a_region_is_its_default_and_stays(cloud: EmulatedCloud) -> None:
    vpc = cloud.client.vpcs.create(body={"name": "first", "region": "nyc3"})["vpc"]
    path = f"/v2/vpcs/{vpc['id']}"
    assert vpc["default"] is True
    assert cloud.refused("DELETE", path) == (403, "forbidden", "Can not delete default VPCs")
    body = {"name": "first", "default": False}
    assert cloud.refused("PUT", path, body) == (403, "forbidden", "Can not unset default VPCs")
    other = cloud.client.vpcs.create(body={"name": "second", "region": "nyc3"})["vpc"]
    assert other["default"] is False
    assert cloud.client.vpcs.patch(other["id"], body={"default": True})["vpc"]["default"] is True
    assert cloud.http.delete(path).status_code == 204


def test_a_vpc_is_created_in_the_requested_range_beside_the_default_one(cloud: EmulatedCloud) -> None:
    cloud.droplet()
    body = {"name": "net", "region": "nyc3", "ip_range": "10.50.0.0/24", "description": "mine"}
    vpc = cloud.client.vpcs.create(body=body)["vpc"]
    assert (vpc["ip_range"], vpc["default"], vpc["urn"]) == ("10.50.0.0/24", False, f"do:vpc:{vpc['id']}")
    assert {item["name"] for item in cloud.client.vpcs.list()["vpcs"]} == {"net", "default-nyc3"}
    droplet = cloud.droplet(vpc_uuid=vpc["id"])
    private = next(net for net in droplet["networks"]["v4"] if net["type"] == "private")
    assert private["ip_address"].startswith("10.50.0.")
    members = cloud.client.vpcs.list_members(vpc["id"])["members"]
    assert [member["urn"] for member in members] == [f"do:droplet:{droplet['id']}"]
    path = f"/v2/vpcs/{vpc['id']}"
    assert cloud.refused("DELETE", path) == (403, "forbidden", "Can not delete VPC with members")
    cloud.client.droplets.destroy(droplet["id"])
    eventually(lambda: cloud.http.delete(path).status_code == 204)


def test_default_vpcs_cannot_be_deleted(cloud: EmulatedCloud) -> None:
    cloud.droplet()
    [vpc] = cloud.client.vpcs.list()["vpcs"]
    assert cloud.refused("DELETE", f"/v2/vpcs/{vpc['id']}")[:2] == (403, "forbidden")


def test_a_vpc_can_be_renamed_and_become_the_default(cloud: EmulatedCloud) -> None:
    cloud.client.vpcs.create(body={"name": "first", "region": "nyc3"})
    vpc = cloud.client.vpcs.create(body={"name": "net", "region": "nyc3"})["vpc"]
    changed = cloud.client.vpcs.update(vpc["id"], body={"name": "net-2", "default": True})["vpc"]
    assert (changed["name"], changed["default"]) == ("net-2", True)
    former = next(item for item in cloud.client.vpcs.list()["vpcs"] if item["id"] != vpc["id"])
    assert former["default"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"ip_range": "10.50.1.0/24"},
        {"ip_range": "10.50.0.0/15"},
        {"ip_range": "10.60.0.0/29"},
        {"ip_range": "8.8.8.0/24"},
        {"ip_range": "10.244.0.0/20"},
        {"ip_range": "nonsense"},
        {"name": "first"},
        {"name": "not allowed"},
        {"region": "moon1"},
    ],
)
def test_an_invalid_vpc_is_refused(cloud: EmulatedCloud, change: dict[str, Any]) -> None:
    cloud.client.vpcs.create(body={"name": "first", "region": "nyc3", "ip_range": "10.50.0.0/20"})
    body = {"name": "second", "region": "nyc3", "ip_range": "10.70.0.0/24"} | change
    assert cloud.refused("POST", "/v2/vpcs", body)[:2] == (422, "unprocessable_entity")


def test_a_firewall_is_in_force_when_it_is_read_back(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    made = firewall(cloud, droplet_ids=[number])
    assert made["status"] == "waiting"
    assert made["pending_changes"] == [{"droplet_id": number, "removing": False, "status": "waiting"}]
    read = cloud.client.firewalls.get(made["id"])["firewall"]
    assert (read["status"], read["pending_changes"]) == ("succeeded", [])
    assert read["inbound_rules"] == [SSH]
    assert on_machine(cloud, number) == MachineFirewall(
        number, (Rule("tcp", "22", ("0.0.0.0/0", "::/0")),), (Rule("tcp", "all", ("0.0.0.0/0",)),)
    )
    cloud.client.firewalls.delete(made["id"])
    eventually(lambda: on_machine(cloud, number) is None)


def test_tags_and_droplets_in_rules_become_addresses_and_follow_every_change(cloud: EmulatedCloud) -> None:
    cloud.client.tags.create(body={"name": "server"})
    cloud.client.tags.create(body={"name": "runner"})
    server = cloud.droplet(tags=["server"])["id"]
    rule = {"protocol": "tcp", "ports": "5555", "sources": {"tags": ["runner"]}}
    firewall(cloud, tags=["server"], inbound_rules=[rule])
    # Nobody carries the tag, so nobody is let in.
    eventually(lambda: (entry := on_machine(cloud, server)) is not None and entry.inbound == ())
    number = cloud.droplet()["id"]
    resources = {"resources": [{"resource_id": str(number), "resource_type": "droplet"}]}
    cloud.client.tags.assign_resources("runner", body=resources)
    machine = cloud.backend.machines[number]
    wanted = tuple(f"{a}/32" for a in (machine.public_ipv4, machine.private_ipv4, machine.anchor_ipv4))
    eventually(
        lambda: (entry := on_machine(cloud, server)) is not None and entry.inbound == (Rule("tcp", "5555", wanted),)
    )
    cloud.client.tags.unassign_resources("runner", body=resources)
    eventually(lambda: (entry := on_machine(cloud, server)) is not None and entry.inbound == ())
    assert on_machine(cloud, number) is None


def test_a_machine_is_behind_its_firewall_before_it_boots(cloud: EmulatedCloud) -> None:
    cloud.client.tags.create(body={"name": "server"})
    firewall(cloud, tags=["server"])
    cloud.client.firewalls.list()
    cloud.backend.calls.clear()
    number = cloud.droplet(tags=["server"])["id"]
    assert cloud.backend.calls[:2] == ["apply_network", f"create_machine {number}"]
    assert on_machine(cloud, number) is not None


def test_droplets_tags_and_rules_are_added_and_removed_one_by_one(cloud: EmulatedCloud) -> None:
    number, made = cloud.droplet()["id"], firewall(cloud)
    cloud.client.tags.create(body={"name": "server"})
    client, key = cloud.client.firewalls, made["id"]
    https = {"protocol": "tcp", "ports": "443", "sources": {"addresses": ["0.0.0.0/0"]}}
    client.assign_droplets(key, body={"droplet_ids": [number]})
    client.add_tags(key, body={"tags": ["server"]})
    client.add_rules(key, body={"inbound_rules": [https]})
    read = client.get(key)["firewall"]
    assert (read["droplet_ids"], read["tags"], read["inbound_rules"]) == ([number], ["server"], [SSH, https])
    listed = cloud.http.get(f"/v2/droplets/{number}/firewalls").json()["firewalls"]
    assert [item["id"] for item in listed] == [key]
    client.delete_droplets(key, body={"droplet_ids": [number]})
    client.delete_tags(key, body={"tags": ["server"]})
    client.delete_rules(key, body={"inbound_rules": [SSH]})
    read = client.get(key)["firewall"]
    assert (read["droplet_ids"], read["tags"], read["inbound_rules"]) == ([], [], [https])
    assert cloud.backend.picture.firewalls == ()


@pytest.mark.parametrize(
    "change",
    [
        {"inbound_rules": [], "outbound_rules": []},
        {"inbound_rules": [SSH | {"ports": "70000"}]},
        {"inbound_rules": [SSH | {"ports": "90-80"}]},
        {"inbound_rules": [SSH | {"ports": ""}]},
        {"inbound_rules": [SSH | {"protocol": "gre"}]},
        {"inbound_rules": [SSH | {"sources": {}}]},
        {"inbound_rules": [SSH | {"sources": {"addresses": ["300.0.0.1"]}}]},
        {"inbound_rules": [SSH | {"sources": {"tags": ["unknown"]}}]},
        {"inbound_rules": [SSH | {"sources": {"droplet_ids": [7]}}]},
        {"droplet_ids": [7]},
        {"tags": ["unknown"]},
        {"name": "-server"},
    ],
)
def test_an_invalid_firewall_is_refused(cloud: EmulatedCloud, change: dict[str, Any]) -> None:
    body = {"name": "server", "inbound_rules": [SSH], "outbound_rules": [ALL_OUT]} | change
    assert cloud.refused("POST", "/v2/firewalls", body)[:2] == (422, "unprocessable_entity")
    assert cloud.client.firewalls.list()["firewalls"] == []


def test_firewall_names_are_unique_and_an_update_replaces_everything(cloud: EmulatedCloud) -> None:
    made = firewall(cloud)
    body = {"name": "server", "inbound_rules": [SSH]}
    assert cloud.refused("POST", "/v2/firewalls", body)[:2] == (409, "conflict")
    changed = cloud.client.firewalls.update(made["id"], body=body)["firewall"]
    assert changed["outbound_rules"] == []


def test_icmp_rules_need_no_ports(cloud: EmulatedCloud) -> None:
    ping = {"protocol": "icmp", "sources": {"addresses": ["192.0.2.7/24", "192.0.2.9"]}}
    number = cloud.droplet()["id"]
    made = firewall(cloud, inbound_rules=[ping], droplet_ids=[number])
    assert made["inbound_rules"][0]["ports"] == "0"
    cloud.client.firewalls.get(made["id"])
    entry = on_machine(cloud, number)
    assert entry is not None
    assert entry.inbound == (Rule("icmp", "", ("192.0.2.0/24", "192.0.2.9/32")),)


def test_a_firewall_that_cannot_be_applied_has_failed(cloud: EmulatedCloud) -> None:
    cloud.backend.broken.add("apply_network")
    made = firewall(cloud)
    assert cloud.client.firewalls.get(made["id"])["firewall"]["status"] == "failed"
    cloud.backend.broken.clear()
    cloud.client.firewalls.update(made["id"], body={"name": "server", "inbound_rules": [SSH]})
    eventually(lambda: cloud.client.firewalls.get(made["id"])["firewall"]["status"] == "succeeded")


def assign(cloud: EmulatedCloud, address: str, **body: Any) -> dict[str, Any]:
    action: dict[str, Any] = cloud.client.reserved_ips_actions.post(address, body=body)["action"]
    return action


def test_a_reserved_ip_points_to_one_droplet_at_a_time(cloud: EmulatedCloud) -> None:
    number, other = cloud.droplet()["id"], cloud.droplet(name="web-2")["id"]
    made = cloud.client.reserved_ips.create(body={"region": "nyc3"})["reserved_ip"]
    address = made["ip"]
    assert (made["droplet"], made["locked"]) == (None, False)
    action = assign(cloud, address, type="assign", droplet_id=number)
    assert (action["type"], action["resource_type"]) == ("assign_ip", "reserved_ip")
    path = f"/v2/reserved_ips/{address}/actions"
    eventually(lambda: cloud.http.get(f"{path}/{action['id']}").json()["action"]["status"] == "completed")
    read = cloud.client.reserved_ips.get(address)["reserved_ip"]
    assert read["droplet"]["id"] == number
    assert cloud.backend.picture.reserved == {address: number}
    assert cloud.refused("POST", path, {"type": "assign", "droplet_id": other})[0] == 422
    cloud.completed(assign(cloud, address, type="unassign"))
    assert cloud.backend.picture.reserved == {}
    assert cloud.refused("POST", path, {"type": "unassign"})[0] == 422
    cloud.client.reserved_ips.delete(address)
    assert cloud.refused("GET", f"/v2/reserved_ips/{address}")[0] == 404


def test_a_reserved_ip_can_be_created_for_a_droplet_and_outlives_it(cloud: EmulatedCloud) -> None:
    number = cloud.droplet()["id"]
    answer = cloud.client.reserved_ips.create(body={"droplet_id": number})
    assert {link["rel"] for link in answer["links"]["actions"]} == {"assign_ip"}
    address = answer["reserved_ip"]["ip"]
    cloud.completed(answer["links"]["actions"][0])
    second = cloud.client.reserved_ips.create(body={"region": "nyc3"})["reserved_ip"]["ip"]
    body = {"type": "assign", "droplet_id": number}
    assert cloud.refused("POST", f"/v2/reserved_ips/{second}/actions", body)[0] == 422
    cloud.client.droplets.destroy(number)
    eventually(lambda: cloud.client.reserved_ips.get(address)["reserved_ip"]["droplet"] is None)
    eventually(lambda: cloud.backend.picture.reserved == {})


def test_a_reserved_ip_stays_in_its_region_and_its_droplet_must_exist(cloud: EmulatedCloud) -> None:
    number = cloud.droplet(**(DROPLET | {"region": "fra1"}))["id"]
    address = cloud.client.reserved_ips.create(body={"region": "nyc3"})["reserved_ip"]["ip"]
    path = f"/v2/reserved_ips/{address}/actions"
    assert cloud.refused("POST", path, {"type": "assign", "droplet_id": number})[0] == 422
    assert cloud.refused("POST", path, {"type": "assign", "droplet_id": 7})[0] == 422
    assert cloud.refused("POST", "/v2/reserved_ips", {"region": "moon1"})[0] == 422
