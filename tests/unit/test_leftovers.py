"""What the account has under the stack's names: found before anything is created, named, and never taken over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components.api import every
from components.component import place_below
from components.leftovers import PLACES, import_command
from components.settings import SettingsError
from tests.unit.engine import ROOT, RecordingEngine, run_program
from tests.unit.test_account import RUNNERS

CLOUD = "urn:pulumi:test::slipway::pulumi:providers:digitalocean::digitalocean"
SPACES: dict[str, Any] = {"registry": {"storage": "spaces"}}

#: What an account with everything has: by list, one entry of the stack's names and one of somebody else's.
TAKEN: dict[str, list[dict[str, Any]]] = {
    "/v2/domains": [{"name": "example.test"}, {"name": "another.test"}],
    "/v2/vpcs": [
        {"id": "5a4981aa", "name": "slipway-test-nyc3", "ip_range": "10.10.0.0/20"},
        {"id": "5a4981ab", "name": "another", "ip_range": "10.30.0.0/20"},
    ],
    "/v2/volumes": [{"id": "506f78a4", "name": "slipway-test-data"}],
    "/v2/firewalls": [
        {"id": "bb4b2611", "name": "slipway-test-server-base"},
        {"id": "bb4b2612", "name": "slipway-test-runner"},
        {"id": "bb4b2613", "name": "slipway-test-public"},
        {"id": "bb4b2614", "name": "another"},
        {"id": "bb4b2615", "name": "slipway-test-registry-5555"},
    ],
    "/v2/account/keys": [
        {"id": 289794, "name": "slipway-test-admin", "public_key": "ssh-ed25519 AAAA"},
        {"id": 289795, "name": "another", "public_key": "ssh-ed25519 AAAB"},
    ],
    "/v2/spaces/keys": [
        {"name": "slipway-test-registry", "access_key": "DO1"},
        {"name": "slipway-test-registry-maker", "access_key": "DO2"},
        {"name": "slipway-test-backup", "access_key": "DO4"},
        {"name": "slipway-test-backup-maker", "access_key": "DO5"},
        {"name": "another", "access_key": "DO3"},
    ],
}
DROPLETS = [
    {"id": 4711, "name": "slipway-test", "tags": ["slipway-test-server"]},
    {"id": 4712, "name": "slipway-test-a-2", "tags": []},
    {"id": 4713, "name": "another", "tags": ["Slipway-Test-Runner"]},
    {"id": 4714, "name": "one-more", "tags": ["web"]},
]
BEGINNINGS = [
    "stack: the account has a droplet slipway-test (ID 4711)",
    "stack: the account has a droplet slipway-test-a-2 (ID 4712)",
    "stack: the droplet another (ID 4713) carries the tag slipway-test-runner",
    "dns.zone: the account has the zone example.test",
    "stack: the account has a network slipway-test-nyc3 (ID 5a4981aa)",
    "stack: the account has a volume slipway-test-data in nyc3 (ID 506f78a4)",
    "stack: the account has a firewall slipway-test-server-base (ID bb4b2611)",
    "stack: the account has a firewall slipway-test-runner (ID bb4b2612)",
    "stack: the account has a firewall slipway-test-public (ID bb4b2613)",
    "stack: the account has a firewall slipway-test-registry-5555 (ID bb4b2615)",
    "stack: the account has an SSH key slipway-test-admin (ID 289794)",
    "stack: the account has a Spaces key slipway-test-registry (DO1)",
    "stack: the account has a Spaces key slipway-test-registry-maker (DO2)",
    "stack: the account has a Spaces key slipway-test-backup (DO4)",
    "stack: the account has a Spaces key slipway-test-backup-maker (DO5)",
]


def droplets(*found: dict[str, Any]) -> dict[str, Any]:
    common = {"size": "s-4vcpu-8gb", "disk": 160, "priceMonthly": 48.0}
    return {"getDroplets": {"droplets": [{**common, **droplet} for droplet in found]}}


def errors(engine: RecordingEngine, *, dry_run: bool = False, **changes: Any) -> list[str]:
    """Why the program refuses to run; it has registered nothing but the provider that it asks with."""
    with pytest.raises(SettingsError) as caught:
        run_program(engine=engine, dry_run=dry_run, **changes)
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]
    return caught.value.errors


def known(*places: str, **outputs: Any) -> dict[str, dict[str, Any]]:
    """A state with the provider, and with the resources at these places and their components."""
    found: dict[str, dict[str, Any]] = {CLOUD: {}}
    for name in places:
        place = PLACES[name]
        chain = f"{place.parent_type}${place.type}" if place.parent else place.type
        if place.parent:
            found[f"urn:pulumi:test::slipway::{place.parent_type}::{place.parent}"] = {}
        found[f"urn:pulumi:test::slipway::{chain}::{place.name}"] = outputs
    return found


@pytest.mark.parametrize("dry_run", [True, False], ids=["preview", "update"])
def test_every_taken_name_is_in_one_report_and_nothing_is_created(dry_run: bool) -> None:
    engine = RecordingEngine(answers=droplets(*DROPLETS), listed=dict(TAKEN))
    found = errors(engine, dry_run=dry_run, backup={"enabled": True}, **RUNNERS, **SPACES)
    assert [line for line, begin in zip(found, BEGINNINGS, strict=True) if not line.startswith(begin)] == []
    # A stack that has nothing yet has nothing to take over, and nothing of another one is to be deleted.
    assert not any("pulumi import" in line or "doctl" in line for line in found)


def test_taken_names_are_in_one_report_with_mistakes_in_the_stack_file() -> None:
    engine = RecordingEngine(listed={"/v2/firewalls": TAKEN["/v2/firewalls"]})
    found = errors(engine, domain="", server={"size": "s-3vcpu-9gb"})
    assert [line.split(":")[0] for line in found] == ["domain", "server.size", *["stack"] * 4]


def resources_of_a_stack() -> Iterator[tuple[str, dict[str, Any]]]:
    engine = run_program(**RUNNERS, **SPACES)
    for one in engine.registrations:
        yield one.urn, one.inputs


def test_what_the_stack_has_itself_is_not_taken() -> None:
    engine = RecordingEngine(
        answers=droplets(*(one for one in DROPLETS if one["name"] != "one-more")),
        listed=dict(TAKEN),
        known=dict(resources_of_a_stack()),
    )
    assert run_program(engine=engine, **RUNNERS, **SPACES).named("server-droplet")


def test_what_an_interrupted_update_left_is_named_with_the_line_that_imports_it() -> None:
    for place, path in {"volume": "/v2/volumes", "server-base": "/v2/firewalls", "vpc": "/v2/vpcs"}.items():
        engine = RecordingEngine(listed={path: TAKEN[path][:1]}, known=known(place))
        [line] = errors(engine)
        one, identifier = PLACES[place], TAKEN[path][0]["id"]
        assert (
            f"\npulumi import --stack test --generate-code=false --protect=false {one.type} {one.name} {identifier} "
            f"--parent 'parent=urn:pulumi:test::slipway::{one.parent_type}::{one.parent}' --provider 'provider={CLOUD}'"
        ) in line


def test_the_line_has_the_component_that_the_whole_installation_is_in() -> None:
    place, (stack, parent) = PLACES["volume"], ("test", ("slipway:index:GitLabServer", "server"))
    place_below("slipway:index:Slipway")
    try:
        line = import_command((stack, "shop"), place.type, place.name, "4711", parent)
    finally:
        place_below()
    above = "urn:pulumi:test::shop::slipway:index:Slipway$"
    assert f"parent={above}slipway:index:GitLabServer::server'" in line
    assert f"provider={above}pulumi:providers:digitalocean::digitalocean'" in line


def test_an_ssh_key_is_recognised_by_its_public_key_whatever_its_name() -> None:
    pair = "urn:pulumi:test::slipway::slipway:index:AdminKey$tls:index/privateKey:PrivateKey::admin-key-pair"
    renamed = [{"id": 1, "name": "renamed", "public_key": "ssh-ed25519 AAAA"}]
    state = {CLOUD: {}, pair: {"publicKeyOpenssh": "ssh-ed25519 AAAA\n"}}
    [line] = errors(RecordingEngine(listed={"/v2/account/keys": renamed}, known=state))
    assert "SSH key renamed" in line
    assert "sshKey:SshKey ssh-key 1 --provider" in line


def test_a_droplet_that_an_interrupted_update_left_may_be_deleted() -> None:
    engine = RecordingEngine(answers=droplets(DROPLETS[0]), known=known())
    assert "doctl compute droplet delete 4711" in errors(engine)[0]


def test_every_place_is_one_of_the_program() -> None:
    databases = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}
    further = {one.urn.split("::", 2)[2] for one in run_program(databases=databases).registrations}
    urns = {*(ROOT / "tests/unit/urns.txt").read_text().split(), *further}
    for place in PLACES.values():
        chain = f"{place.parent_type}${place.type}" if place.parent else place.type
        assert f"{chain}::{place.name}" in urns
        assert not place.parent or f"{place.parent_type}::{place.parent}" in urns


def test_a_range_that_overlaps_another_network_is_refused() -> None:
    engine = RecordingEngine(listed={"/v2/vpcs": TAKEN["/v2/vpcs"][1:]})
    [line] = errors(engine, server={"vpcCidr": "10.30.4.0/24"})
    assert line.startswith("server.vpcCidr: 10.30.4.0/24 overlaps 10.30.0.0/20, the range of the network another;")
    assert run_program(engine=RecordingEngine(listed=engine.listed), server={"vpcCidr": "10.40.0.0/24"})


def test_a_default_network_that_a_destroyed_stack_left_is_not_taken() -> None:
    left = TAKEN["/v2/vpcs"][0]
    found = {"getVpc": {"id": left["id"], "name": left["name"], "default": True, "region": "nyc3"}}
    engine = run_program(engine=RecordingEngine(answers=found, listed={"/v2/vpcs": [left]}))
    assert engine.named("network-vpc").request.importId == left["id"]


def address(ip: str, region: str, droplet: dict[str, Any] | None) -> dict[str, Any]:
    return {"ip": ip, "region": {"slug": region}, "droplet": droplet}


def test_idle_addresses_of_the_region_are_named_and_nothing_is_refused() -> None:
    found = [address("198.51.100.1", "nyc3", {"id": 1}), address("198.51.100.3", "nyc3", None)]
    server: dict[str, Any] = {"urn:pulumi:test::slipway::slipway:index:GitLabServer::server": {}, CLOUD: {}}
    engine = run_program(engine=RecordingEngine(listed={"/v2/reserved_ips": found}, known=server))
    [warning] = engine.messages
    assert warning.startswith("The reserved address 198.51.100.3 in nyc3 points to no droplet and costs 5.00 US dollar")
    assert "digitalocean:index/reservedIp:ReservedIp server-address 198.51.100.3 " in warning
    elsewhere = [address("198.51.100.2", "fra1", None)]
    assert run_program(engine=RecordingEngine(listed={"/v2/reserved_ips": elsewhere})).messages == []


def test_an_address_beyond_the_limit_of_the_account_is_refused() -> None:
    others = [address(f"198.51.100.{number}", "fra1", None) for number in range(3)]
    [line] = errors(RecordingEngine(listed={"/v2/reserved_ips": others}))
    assert line.startswith("server: needs a reserved address, and the account has 3 and may have 3;")
    unknown: dict[str, Any] = {"/v2/account": {"email": "ops@example.test"}, "/v2/reserved_ips": others}
    assert run_program(engine=RecordingEngine(listed=unknown)).named("server-address")


def test_a_token_that_may_not_list_something_is_one_error_with_the_scope() -> None:
    refused = RuntimeError("DigitalOcean refused GET /v2/firewalls?per_page=200&page=1: 403 {}")
    [line] = errors(RecordingEngine(listed={"/v2/firewalls": refused}))
    assert line.startswith("DIGITALOCEAN_TOKEN: may not read the firewalls (403)")
    assert "scope firewall:read" in line


def test_names_are_looked_for_on_every_page_of_a_list() -> None:
    asked: list[str] = []

    def ask(path: str) -> dict[str, Any]:
        asked.append(path)
        number = len(asked)
        return {"domains": [{"name": f"{number}.test"}], "links": {"pages": {"next": "…"} if number < 3 else {}}}

    assert [one["name"] for one in every("/v2/domains", "domains", ask)] == ["1.test", "2.test", "3.test"]
    assert asked == [f"/v2/domains?per_page=200&page={number}" for number in (1, 2, 3)]
