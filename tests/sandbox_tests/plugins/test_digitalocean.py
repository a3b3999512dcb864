"""The provider `digitalocean` against the emulated API: each resource alone, and all together in the real engine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.sandbox.plugins.base.framework import PartlyMadeError, PluginError
from tests.sandbox.plugins.digitalocean.session import ApiError, Session
from tests.sandbox.plugins.provider_digitalocean import DigitalOcean
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.pulumi_engine import Engine, ResourceDriver


@pytest.fixture(autouse=True)
def _trust(shared_cloud: EmulatedCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(shared_cloud.ca_certificate))


def driver_of(cloud: EmulatedCloud, token: str = "") -> ResourceDriver:
    return ResourceDriver(DigitalOcean(), Session({"token": token or cloud.token, "apiEndpoint": cloud.url}))


@pytest.fixture
def driver(cloud: EmulatedCloud) -> ResourceDriver:
    return driver_of(cloud)


def droplet(driver: ResourceDriver, **inputs: Any) -> tuple[str, dict[str, Any]]:
    common = {"name": "machine", "image": "debian-13-x64", "size": "s-1vcpu-1gb", "region": "nyc3"}
    return driver.create("Droplet", **(common | inputs))


def test_a_droplet_is_created_once_it_is_active(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    identifier, outputs = droplet(driver, userData="#cloud-config\n")
    there = cloud.get(f"/v2/droplets/{identifier}")["droplet"]
    assert (there["status"], there["locked"]) == ("active", False)
    assert outputs["dropletUrn"] == f"do:droplet:{identifier}"
    assert outputs["ipv4Address"] in {network["ip_address"] for network in there["networks"]["v4"]}
    assert cloud.backend.machines[int(identifier)].user_data == "#cloud-config\n"
    assert "#cloud-config" not in outputs["userData"]


def test_a_droplet_that_does_not_become_active_is_kept_in_the_state(
    cloud: EmulatedCloud, driver: ResourceDriver
) -> None:
    cloud.hold("droplet.create")
    with pytest.raises(PartlyMadeError, match=r"timeout after 0\.5 s while waiting for droplet") as failure:
        droplet(driver, timeout=0.5)
    assert failure.value.outputs["dropletUrn"] == f"do:droplet:{failure.value.identifier}"
    cloud.hold()


def test_a_user_who_stops_the_engine_does_not_wait_for_a_droplet(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    cloud.hold("droplet.create")
    threading.Timer(0.5, driver.cancelled.set).start()
    with pytest.raises(PartlyMadeError, match="cancelled"):
        droplet(driver)
    cloud.hold()


def test_a_droplet_is_resized_renamed_and_tagged_in_place(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    identifier, state = droplet(driver, tags=["a", "b"])
    state = driver.update("Droplet", identifier, state, size="s-2vcpu-2gb", name="other", tags=["b", "c"])
    there = cloud.get(f"/v2/droplets/{identifier}")["droplet"]
    assert (there["size_slug"], there["name"], there["status"]) == ("s-2vcpu-2gb", "other", "active")
    assert sorted(there["tags"]) == ["b", "c"]
    assert state["memory"] == 2048


def test_a_droplet_is_deleted_also_when_it_is_off_already(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    identifier, state = droplet(driver, gracefulShutdown=True)
    cloud.completed(cloud.http.post(f"/v2/droplets/{identifier}/actions", json={"type": "shutdown"}).json()["action"])
    driver.delete("Droplet", identifier, state)
    assert driver.read("Droplet", identifier, state) is None
    assert "droplets" not in cloud.exists()


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Droplet", {"name": "machine", "image": "debian-13-x64", "size": "s-1vcpu-1gb", "region": "nyc3"}),
        ("Volume", {"name": "data", "region": "nyc3", "size": 10}),
        ("ReservedIp", {"region": "nyc3"}),
        ("Domain", {"name": "gone.test"}),
        ("Tag", {"name": "gone"}),
        ("SpacesKey", {"name": "gone", "grants": [{"bucket": "", "permission": "fullaccess"}]}),
        ("Firewall", {"name": "gone", "inboundRules": [{"protocol": "icmp", "sourceAddresses": ["0.0.0.0/0"]}]}),
    ],
)
def test_what_somebody_else_has_deleted_cannot_be_deleted_again(
    driver: ResourceDriver, kind: str, inputs: dict[str, Any]
) -> None:
    identifier, state = driver.create(kind, **inputs)
    driver.delete(kind, identifier, state)
    with pytest.raises(PluginError, match=r"404 |unexpected state 'Not Found', wanted target 'false'"):
        driver.delete(kind, identifier, state)


def test_an_imported_droplet_has_its_image_and_a_refreshed_one_keeps_it(driver: ResourceDriver) -> None:
    identifier, state = droplet(driver)
    _, imported = driver.read("Droplet", identifier)
    assert imported["image"] == "debian-13-x64"
    _, refreshed = driver.read("Droplet", identifier, state)
    assert "image" not in refreshed


def test_only_some_changes_replace_a_droplet(driver: ResourceDriver) -> None:
    old = driver.checked("Droplet", {"name": "m", "image": "i", "size": "s", "ipv6": True, "userData": "a"})
    new = old | {"image": "j", "size": "t", "ipv6": False, "userData": "b", "sshKeys": ["1"], "tags": ["x"]}
    changed = dict(driver.resource("Droplet").differences(old, new))
    assert changed.pop("size") is False
    assert changed.pop("tags") is False
    assert changed == {"image": True, "ipv6": True, "userData": True, "sshKeys": True}
    assert dict(driver.resource("Droplet").differences(old | {"ipv6": False}, old)) == {"ipv6": False}


def test_a_volume_grows_is_attached_and_never_shrinks(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    machine, _ = droplet(driver)
    identifier, state = driver.create("Volume", name="Data", region="nyc3", size=10, initialFilesystemType="ext4")
    assert (state["name"], state["filesystemType"]) == ("data", "ext4")
    attachment, attached = driver.create("VolumeAttachment", dropletId=machine, volumeId=identifier)
    assert attachment.startswith(f"{machine}-{identifier}-")
    assert cloud.get(f"/v2/volumes/{identifier}")["volume"]["droplet_ids"] == [int(machine)]
    assert driver.update("Volume", identifier, state, size=20)["size"] == 20
    with pytest.raises(PluginError, match="can only be expanded and not shrunk"):
        driver.resource("Volume").differences({"size": 20}, {"size": 10})
    driver.delete("VolumeAttachment", attachment, attached)
    assert driver.read("VolumeAttachment", attachment, attached) is None
    driver.delete("Volume", identifier, state)
    assert driver.read("Volume", identifier, state) is None


def test_a_volume_name_in_capitals_is_no_difference(driver: ResourceDriver) -> None:
    assert dict(driver.resource("Volume").differences({"name": "Data"}, {"name": "data"})) == {}


def test_a_reserved_address_is_assigned_unassigned_and_released(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    machine, _ = droplet(driver)
    address, state = driver.create("ReservedIp", region="nyc3")
    assert state["reservedIpUrn"] == f"do:reservedip:{address}"
    assignment, assigned = driver.create("ReservedIpAssignment", ipAddress=address, dropletId=machine)
    assert cloud.get(f"/v2/reserved_ips/{address}")["reserved_ip"]["droplet"]["id"] == int(machine)
    refreshed = driver.read("ReservedIp", address, state)
    assert "dropletId" not in refreshed[1]
    assert driver.read("ReservedIpAssignment", f"{address},{machine}")[1] == assigned
    driver.delete("ReservedIpAssignment", assignment, assigned)
    driver.delete("ReservedIpAssignment", assignment, assigned)
    assert driver.read("ReservedIpAssignment", assignment, assigned) is None
    driver.delete("ReservedIp", address, state)
    assert "reserved_ips" not in cloud.exists()


def test_a_reserved_address_can_name_its_droplet_itself(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    machine, _ = droplet(driver)
    address, state = driver.create("ReservedIp", region="nyc3", dropletId=int(machine))
    assert driver.read("ReservedIp", address, state)[1]["dropletId"] == int(machine)
    driver.update("ReservedIp", address, state, dropletId=None)
    assert cloud.get(f"/v2/reserved_ips/{address}")["reserved_ip"]["droplet"] is None


def test_a_firewall_is_read_back_as_it_was_declared(driver: ResourceDriver) -> None:
    inbound = [
        {"protocol": "tcp", "portRange": "22", "sourceAddresses": ["0.0.0.0/0"]},
        {"protocol": "icmp", "sourceAddresses": ["::/0", "0.0.0.0/0"]},
    ]
    outbound = [{"protocol": "udp", "portRange": "all", "destinationAddresses": ["0.0.0.0/0"]}]
    identifier, state = driver.create("Firewall", name="wall", inboundRules=inbound, outboundRules=outbound)
    inputs = driver.checked("Firewall", {"name": "wall", "inboundRules": inbound, "outboundRules": outbound})
    assert dict(driver.resource("Firewall").differences(inputs, state)) == {}
    state = driver.update("Firewall", identifier, state, inboundRules=inbound[:1])
    assert len(driver.read("Firewall", identifier, state)[1]["inboundRules"]) == 1
    driver.delete("Firewall", identifier, state)
    assert driver.read("Firewall", identifier, state) is None


def test_a_firewall_needs_rules_and_a_rule_needs_ports(driver: ResourceDriver) -> None:
    firewall = driver.resource("Firewall")
    assert [failure.path for failure in firewall.validate({"name": "w"})] == ["inboundRules"]
    rules = [{"protocol": "tcp"}, {"protocol": "icmp"}]
    assert [failure.path for failure in firewall.validate({"inboundRules": rules})] == ["inboundRules[0].portRange"]


def test_records_keep_their_trailing_dots_and_their_zone(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    domain, zone = driver.create("Domain", name="example.com")
    assert zone["domainUrn"] == "do:domain:example.com"
    caa, state = driver.create(
        "DnsRecord", domain=domain, type="CAA", name="@", value="letsencrypt.org.", flags=0, tag="issue"
    )
    assert (state["value"], state["fqdn"]) == ("letsencrypt.org.", "example.com")
    record, state = driver.create("DnsRecord", domain=domain, type="A", name="git", value="192.0.2.1", ttl=60)
    assert state["fqdn"] == "git.example.com"
    state = driver.update("DnsRecord", record, state, value="192.0.2.2")
    assert cloud.get(f"/v2/domains/{domain}/records/{record}")["domain_record"]["data"] == "192.0.2.2"
    assert driver.read("DnsRecord", f"{domain},{record}")[1] == {key: state[key] for key in state if key != "priority"}
    driver.delete("DnsRecord", record, state)
    assert driver.read("DnsRecord", record, state) is None
    assert driver.read("DnsRecord", caa, {"domain": domain}) is not None


def test_a_record_needs_the_fields_of_its_type(driver: ResourceDriver) -> None:
    failures = driver.resource("DnsRecord").validate({"type": "CAA", "domain": "d", "value": "v", "name": "@"})
    assert [failure.path for failure in failures] == ["flags", "tag"]


def test_the_secret_of_a_spaces_key_is_returned_once_and_kept(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    identifier, state = driver.create("SpacesKey", name="key", grants=[{"bucket": "", "permission": "fullaccess"}])
    assert cloud.backend.keys[identifier][0] == state["secretKey"]
    _, refreshed = driver.read("SpacesKey", identifier, state)
    assert "secretKey" not in refreshed
    assert dict(driver.resource("SpacesKey").differences(state, refreshed)) == {}
    driver.update("SpacesKey", identifier, state, name="other")
    driver.delete("SpacesKey", identifier, state)
    assert driver.read("SpacesKey", identifier, state) is None


def test_a_resource_removed_from_a_project_moves_to_the_default_one(
    cloud: EmulatedCloud, driver: ResourceDriver
) -> None:
    _, volume = driver.create("Volume", name="data", region="nyc3", size=10)
    urn = volume["volumeUrn"]
    project, state = driver.create("Project", name="mine", environment="Development")
    there, members = driver.create("ProjectResources", project=project, resources=[urn])
    assert driver.read("ProjectResources", there, members)[1]["resources"] == [urn]
    assert driver.read("Project", project, state)[1]["resources"] == [urn]
    driver.delete("ProjectResources", there, members)
    assert driver.read("Project", project, state)[1]["resources"] == []
    default = cloud.get("/v2/projects/default/resources")["resources"]
    assert urn in {item["urn"] for item in default}
    driver.create("ProjectResources", project=project, resources=[urn])
    driver.delete("Project", project, state)
    assert driver.read("Project", project, state) is None


def test_a_tag_a_key_and_a_network_are_created_and_deleted(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    # The first network of a region is its default, which nobody can delete.
    driver.create("Vpc", name="first", region="nyc3")
    made = {
        "Tag": driver.create("Tag", name="web"),
        "SshKey": driver.create("SshKey", name="key", publicKey=public),
        "Vpc": driver.create("Vpc", name="net", region="nyc3", ipRange="10.30.0.0/20"),
    }
    assert made["SshKey"][1]["fingerprint"]
    assert made["Vpc"][1]["vpcUrn"] == f"do:vpc:{made['Vpc'][0]}"
    for kind, (identifier, state) in made.items():
        resource = driver.resource(kind)
        _, found = driver.read(kind, identifier, state)
        assert dict(resource.differences(state, found)) == {}
    driver.update("SshKey", *made["SshKey"], name="renamed")
    driver.update("Vpc", *made["Vpc"], description="described")
    assert driver.read("Vpc", made["Vpc"][0])[1]["description"] == "described"
    for kind, (identifier, state) in made.items():
        driver.delete(kind, identifier, state)
        assert driver.read(kind, identifier, state) is None
    assert cloud.exists() == {}


@pytest.mark.parametrize(
    ("function", "inputs", "found"),
    [
        ("getAccount", {}, {"status": "active"}),
        ("getRegion", {"slug": "nyc3"}, {"slug": "nyc3", "available": True}),
        ("getImage", {"slug": "debian-13-x64"}, {"distribution": "Debian"}),
        ("getDomain", {"name": "example.com"}, {"domainUrn": "do:domain:example.com"}),
        ("getProject", {}, {"isDefault": True}),
        ("getReservedIp", {"ipAddress": "192.0.2.44"}, {"id": "", "region": ""}),
        ("getVpc", {"region": "nyc3"}, {"name": "net", "default": True}),
        ("getVpc", {"name": "net"}, {"ipRange": "10.30.0.0/20"}),
    ],
)
def test_functions_return_what_exists(
    driver: ResourceDriver, function: str, inputs: dict[str, Any], found: dict[str, Any]
) -> None:
    if function == "getDomain":
        driver.create("Domain", name="example.com")
    if function == "getVpc":
        driver.create("Vpc", name="net", region="nyc3", ipRange="10.30.0.0/20")
    answer = DigitalOcean().function(f"digitalocean:index/{function}:{function}").invoke(driver.call(), inputs)
    assert {name: answer[name] for name in found} == found


def test_a_default_vpc_is_not_deleted_however_long_it_is_tried(driver: ResourceDriver) -> None:
    identifier, state = driver.create("Vpc", name="first", region="nyc3")
    with pytest.raises(PluginError, match="403 Can not delete default VPCs"):
        driver.delete("Vpc", identifier, state, timeout=0.5)


def test_records_and_droplets_are_listed(driver: ResourceDriver) -> None:
    driver.create("Domain", name="example.com")
    driver.create("DnsRecord", domain="example.com", type="A", name="gitlab", value="192.0.2.44")
    number, _ = droplet(driver)
    records = DigitalOcean().function("digitalocean:index/getRecords:getRecords")
    filters = [{"key": "name", "values": ["gitlab"]}]
    [record] = records.invoke(driver.call(), {"domain": "example.com", "filters": filters})["records"]
    assert (record["type"], record["value"], record["priority"]) == ("A", "192.0.2.44", 0)
    droplets = DigitalOcean().function("digitalocean:index/getDroplets:getDroplets")
    [found] = droplets.invoke(driver.call(), {})["droplets"]
    assert (str(found["id"]), found["size"], found["region"]) == (number, "s-1vcpu-1gb", "nyc3")


def test_a_function_that_finds_nothing_says_so(driver: ResourceDriver) -> None:
    function = DigitalOcean().function("digitalocean:index/getDomain:getDomain")
    with pytest.raises(PluginError, match=r"domain nothing\.example was not found"):
        function.invoke(driver.call(), {"name": "nothing.example"})


def test_sizes_are_filtered(driver: ResourceDriver) -> None:
    function = DigitalOcean().function("digitalocean:index/getSizes:getSizes")
    filters = [{"key": "vcpus", "values": ["4"]}, {"key": "regions", "values": ["nyc3"]}]
    sizes = function.invoke(driver.call(), {"filters": filters})["sizes"]
    assert sizes
    assert {size["vcpus"] for size in sizes} == {4}


def test_a_request_that_fails_once_is_retried(cloud: EmulatedCloud, driver: ResourceDriver) -> None:
    cloud.add_fault({"method": "GET", "path": "/v2/domains/*", "status": 503, "count": 1})
    driver.create("Domain", name="example.com")
    assert cloud.requests().count(("GET", "/v2/domains/example.com")) == 2


def test_an_error_of_the_api_is_shown_without_the_token(cloud: EmulatedCloud) -> None:
    wrong = cloud.token[::-1]
    with pytest.raises(ApiError, match="401") as failure:
        driver_of(cloud, wrong).create("Domain", name="example.com")
    assert wrong not in str(failure.value)


def test_a_missing_token_is_an_error_only_once_the_api_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    session = DigitalOcean().configure({})
    with pytest.raises(PluginError, match="no API token"):
        session.get("/v2/account")
    with pytest.raises(PluginError, match="Spaces credentials not configured"):
        session.spaces("nyc3")


def test_the_engine_creates_refreshes_updates_and_destroys_a_whole_account(
    cloud: EmulatedCloud, tmp_path: Path
) -> None:
    settings = {
        "token": cloud.token,
        "endpoint": cloud.url,
        "publicKey": asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode(),
        "size": "s-1vcpu-1gb",
        "disk": 10,
        "port": "22",
        "userData": "#cloud-config\n# the-user-data\n",
        "tags": "[]",
    }
    # The first network of a region could not be deleted again.
    cloud.client.vpcs.create(body={"name": "first", "region": "nyc3"})
    engine = Engine(tmp_path, "cloud", settings, {"SSL_CERT_FILE": str(cloud.ca_certificate)})
    assert engine.changes() == {"create": 16}
    assert cloud.exists() == {}
    engine.up()
    assert engine.changes() == {"same": 16}
    assert "16 unchanged" in engine.run("refresh", "--yes", "--skip-preview")
    assert engine.changes() == {"same": 16}
    outputs = engine.outputs()
    assert outputs["memory"] == 1024
    state = engine.run("stack", "export")
    assert not [secret for secret in (outputs["secret"], "the-user-data") if secret in state]

    engine.configure({"size": "s-2vcpu-2gb", "disk": 20, "port": "2222", "tags": '["second"]'})
    assert engine.changes() == {"same": 13, "update": 3}
    engine.up()
    assert engine.outputs()["ip"] == outputs["ip"]

    (wall,) = cloud.exists()["firewalls"]
    cloud.http.delete(f"/v2/firewalls/{wall['id']}").raise_for_status()
    engine.run("refresh", "--yes", "--skip-preview")
    assert engine.changes() == {"same": 15, "create": 1}
    engine.configure({"userData": "#cloud-config\n# changed\n"})
    assert engine.changes()["replace"] == 3
    engine.destroy()
    assert set(cloud.exists()) <= {"tags"}


_ALERTED: dict[str, Any] = {
    "emails": ["sandbox@example.com"],
    "slacks": [{"channel": "#ops", "url": "https://hooks.slack.com/x"}],
}


def test_checks_alerts_and_policies_are_created_read_without_a_difference_and_deleted(
    cloud: EmulatedCloud, driver: ResourceDriver
) -> None:
    check, watched = driver.create("UptimeCheck", name="page", target="https://gitlab.test", regions=["us_east"])
    down: dict[str, Any] = {
        "name": "down",
        "checkId": check,
        "type": "down_global",
        "period": "2m",
        "notifications": [_ALERTED],
    }
    alert, condition = driver.create("UptimeAlert", **down)
    disk: dict[str, Any] = {
        "type": "v1/insights/droplet/disk_utilization_percent",
        "description": "disk",
        "compare": "GreaterThan",
    }
    policy, metric = driver.create("MonitorAlert", **disk, value=85, window="5m", tags=["t"], alerts=_ALERTED)
    for kind, identifier, state in (
        ("UptimeAlert", alert, condition),
        ("UptimeCheck", check, watched),
        ("MonitorAlert", policy, metric),
    ):
        _, there = driver.read(kind, identifier, state)
        assert dict(driver.resource(kind).differences(there, state)) == {}
    assert driver.update("UptimeAlert", alert, condition, period="5m")["period"] == "5m"
    assert driver.update("UptimeCheck", check, watched, regions=["eu_west"])["regions"] == ["eu_west"]
    assert driver.update("MonitorAlert", policy, metric, value=90)["value"] == 90
    _, imported = driver.read("UptimeAlert", f"{check},{alert}")
    assert imported["checkId"] == check
    with pytest.raises(PluginError, match="joined with a comma"):
        driver.read("UptimeAlert", alert)
    driver.delete("UptimeAlert", alert, condition)
    driver.delete("UptimeCheck", check, watched)
    driver.delete("MonitorAlert", policy, metric)
    assert not {"uptime_checks", "uptime_alerts", "alert_policies"} & cloud.exists().keys()


def test_an_alert_without_anybody_to_notify_is_refused_by_the_service(driver: ResourceDriver) -> None:
    body: dict[str, Any] = {
        "type": "v1/insights/droplet/load_5",
        "description": "load",
        "compare": "GreaterThan",
        "window": "5m",
    }
    with pytest.raises(PluginError, match="500 Server Error"):
        driver.create("MonitorAlert", **body, value=4, tags=["t"], alerts={})
