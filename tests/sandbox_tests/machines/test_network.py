"""The network between machines, services and workstation: what is allowed works, everything else does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.digitalocean.state.backend import MachineFirewall, MachineSpec, NetworkPicture, Rule
from tests.sandbox.layout import API_ADDRESS, METADATA_ADDRESS, WORKSTATION
from tests.sandbox_tests.support.machines_tree import IMAGE, MachinesTree

pytestmark = pytest.mark.machines

ANYWHERE = ("0.0.0.0/0", "::/0")
RESERVED = "198.51.100.7"
OTHER_RESERVED = "198.51.100.8"


def spec(number: int, vpc: int) -> MachineSpec:
    """A small machine in one of two VPCs."""
    return MachineSpec(
        id=number,
        name=f"node{number}",
        image=IMAGE,
        vcpus=1,
        memory_mb=512,
        disk_gb=10,
        public_ipv4=f"203.0.113.{number}",
        anchor_ipv4=f"10.10.0.{number}",
        private_ipv4=f"10.{vpc}.0.{number}",
        vpc_cidr=f"10.{vpc}.0.0/20",
    )


A, B, STRANGER = spec(21, 108), spec(22, 108), spec(23, 109)


@pytest.fixture(scope="module", autouse=True)
def machines(tree: MachinesTree) -> Iterator[None]:
    """Two machines in one VPC, one in another; each serves its name on port 8080, the cloud its services."""
    for machine in (A, B, STRANGER):
        tree.call("create_machine", machine)
    for machine in (A, B, STRANGER):
        place = str(machine.id)
        assert tree.eventually(place, "systemctl", "is-active", "ssh").ok
        serve = "hostname > /srv/name; systemd-run --collect --unit=web python3 -m http.server 8080 --directory /srv"
        assert tree.run(place, "sh", "-c", serve).ok
    for place, address, port in (
        ("cloud", METADATA_ADDRESS, 80),
        ("cloud", API_ADDRESS, 443),
        ("cloud", API_ADDRESS, 8000),
        ("workstation", WORKSTATION.ip, 8000),
    ):
        tree.background(place, "python3", "-m", "http.server", str(port), "--bind", str(address))
    for listener in ((A.public_ipv4, 8080), (B.public_ipv4, 8080), (STRANGER.public_ipv4, 8080), (API_ADDRESS, 443)):
        assert tree.eventually("workstation", *_connection(*listener)).ok
    yield
    for machine in (A, B, STRANGER):
        tree.call("destroy_machine", machine.id)


@pytest.fixture(autouse=True)
def open_network(tree: MachinesTree) -> Iterator[None]:
    """Every test begins and ends without firewalls and reserved addresses."""
    yield
    tree.call("apply_network", NetworkPicture())


def _connection(address: object, port: int) -> tuple[str, ...]:
    return "timeout", "1", "bash", "-c", f": < /dev/tcp/{address}/{port}"


def port(tree: MachinesTree, place: str, address: object, number: int) -> str:
    """What a client at `place` sees of a TCP port: `open`, `closed` (refused) or `filtered` (no answer)."""
    return {0: "open", 1: "closed", 124: "filtered"}[tree.run(place, *_connection(address, number)).code]


def name_at(tree: MachinesTree, place: str, address: str, *options: str) -> str:
    """Which machine answers at an address."""
    return tree.run(place, "curl", "-s", "-m", "2", *options, f"http://{address}:8080/name").output.strip()


def web(*peers: str) -> Rule:
    """Port 8080 for `peers`."""
    return Rule("tcp", "8080", peers)


def test_a_machine_without_a_firewall_is_open_and_refuses_where_nothing_listens(tree: MachinesTree) -> None:
    assert port(tree, "workstation", A.public_ipv4, 8080) == "open"
    assert port(tree, "workstation", A.public_ipv4, 8081) == "closed"


def test_a_firewall_opens_what_it_lists_and_nothing_else(tree: MachinesTree) -> None:
    firewall = MachineFirewall(A.id, (Rule("tcp", "22", ANYWHERE), Rule("tcp", "9000-9100", ANYWHERE)), ())
    tree.call("apply_network", NetworkPicture((firewall,)))
    assert port(tree, "workstation", A.public_ipv4, 22) == "open"
    assert port(tree, "workstation", A.public_ipv4, 9050) == "closed"
    assert port(tree, "workstation", A.public_ipv4, 8080) == "filtered"
    assert port(tree, "workstation", A.public_ipv4, 9101) == "filtered"
    assert port(tree, "workstation", B.public_ipv4, 8080) == "open"
    tree.call("apply_network", NetworkPicture())
    assert port(tree, "workstation", A.public_ipv4, 8080) == "open"


@pytest.mark.parametrize(
    ("peers", "seen"),
    [
        ((f"{WORKSTATION.ip}/32",), "open"),
        (("192.0.2.0/24", "192.0.2.10"), "open"),
        (("192.0.2.11/32",), "filtered"),
        (("2001:db8::/32",), "filtered"),
        ((), "filtered"),
    ],
)
def test_an_inbound_rule_is_for_its_sources_only(tree: MachinesTree, peers: tuple[str, ...], seen: str) -> None:
    tree.call("apply_network", NetworkPicture((MachineFirewall(A.id, (web(*peers),), ()),)))
    assert port(tree, "workstation", A.public_ipv4, 8080) == seen


def test_outbound_rules_hold_for_services_and_other_machines(tree: MachinesTree) -> None:
    out = (Rule("tcp", "443", ANYWHERE), Rule("icmp", "", ANYWHERE))
    tree.call("apply_network", NetworkPicture((MachineFirewall(A.id, (), out),)))
    assert port(tree, "21", API_ADDRESS, 443) == "open"
    assert port(tree, "21", API_ADDRESS, 80) == "filtered"
    assert port(tree, "21", B.public_ipv4, 8080) == "filtered"
    assert port(tree, "21", B.private_ipv4, 8080) == "filtered"
    assert tree.run("21", "ping", "-c1", "-W1", B.public_ipv4).ok
    everything = tuple(Rule(protocol, "all", ANYWHERE) for protocol in ("tcp", "udp"))
    tree.call("apply_network", NetworkPicture((MachineFirewall(A.id, (), everything),)))
    assert port(tree, "21", B.public_ipv4, 8080) == "open"
    assert not tree.run("21", "ping", "-c1", "-W1", B.public_ipv4).ok


def test_the_metadata_address_answers_machines_only_and_behind_any_firewall(tree: MachinesTree) -> None:
    tree.call("apply_network", NetworkPicture((MachineFirewall(A.id, (), ()),)))
    assert port(tree, "21", METADATA_ADDRESS, 80) == "open"
    assert port(tree, "22", METADATA_ADDRESS, 80) == "open"
    assert port(tree, "workstation", METADATA_ADDRESS, 80) == "filtered"


def test_services_expose_their_own_ports_and_no_others(tree: MachinesTree) -> None:
    for place in ("21", "workstation"):
        assert port(tree, place, API_ADDRESS, 443) == "open"
        assert port(tree, place, API_ADDRESS, 80) == "closed"
        assert port(tree, place, API_ADDRESS, 8000) == "filtered"


def test_the_workstation_cannot_be_called_from_the_cloud(tree: MachinesTree) -> None:
    assert port(tree, "workstation", WORKSTATION.ip, 8000) == "open"
    assert port(tree, "21", WORKSTATION.ip, 8000) == "filtered"
    assert tree.run("workstation", "ip", "route", "show", "default").output.split()[:3] == [
        "default",
        "via",
        "192.0.2.1",
    ]


def test_a_private_network_is_reached_by_its_machines_only(tree: MachinesTree) -> None:
    assert name_at(tree, "21", str(B.private_ipv4)) == "node22"
    assert port(tree, "23", B.private_ipv4, 8080) == "filtered"
    assert port(tree, "workstation", B.private_ipv4, 8080) == "filtered"
    tree.call("apply_network", NetworkPicture((MachineFirewall(B.id, (web("10.108.0.21/32"),), ()),)))
    assert port(tree, "21", B.private_ipv4, 8080) == "open"
    assert port(tree, "21", B.private_ipv4, 22) == "filtered"


def test_machines_with_strict_reverse_path_filtering_reach_each_other_in_their_private_network(
    tree: MachinesTree,
) -> None:
    tree.call("apply_network", NetworkPicture())
    for place in ("21", "22"):
        assert tree.run(place, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1").ok
    # As if none of them had spoken yet.
    assert tree.run("cloud", "ip", "neigh", "flush", "all").ok
    assert name_at(tree, "21", str(B.private_ipv4)) == "node22"


def test_a_reserved_address_follows_its_assignment(tree: MachinesTree) -> None:
    assert port(tree, "workstation", RESERVED, 8080) == "filtered"
    tree.call("apply_network", NetworkPicture(reserved={RESERVED: A.id, OTHER_RESERVED: STRANGER.id}))
    assert name_at(tree, "workstation", RESERVED) == "node21"
    assert name_at(tree, "22", RESERVED) == "node21"
    assert name_at(tree, "21", RESERVED) == "node21"
    assert name_at(tree, "21", OTHER_RESERVED) == "node23"
    tree.call("apply_network", NetworkPicture(reserved={RESERVED: B.id}))
    assert name_at(tree, "workstation", RESERVED) == "node22"
    assert name_at(tree, "cloud", RESERVED) == "node22"
    assert port(tree, "workstation", OTHER_RESERVED, 8080) == "filtered"


def test_a_firewall_stands_before_a_reserved_address_as_well(tree: MachinesTree) -> None:
    firewall = MachineFirewall(A.id, (web(f"{WORKSTATION.ip}/32"),), ())
    tree.call("apply_network", NetworkPicture((firewall,), {RESERVED: A.id}))
    assert port(tree, "workstation", RESERVED, 8080) == "open"
    assert port(tree, "workstation", RESERVED, 22) == "filtered"
    assert port(tree, "22", RESERVED, 8080) == "filtered"
    assert port(tree, "cloud", RESERVED, 8080) == "filtered"


def test_a_machine_connects_from_its_public_address_unless_it_uses_its_anchor(tree: MachinesTree) -> None:
    tree.call("apply_network", NetworkPicture((MachineFirewall(B.id, (web(A.public_ipv4),), ()),), {RESERVED: A.id}))
    assert name_at(tree, "21", B.public_ipv4) == "node22"
    assert name_at(tree, "21", B.public_ipv4, "--interface", A.anchor_ipv4) == ""
    tree.call("apply_network", NetworkPicture((MachineFirewall(B.id, (web(RESERVED),), ()),), {RESERVED: A.id}))
    assert name_at(tree, "21", B.public_ipv4, "--interface", A.anchor_ipv4) == "node22"


def test_a_machine_cannot_spoof_the_address_of_another(tree: MachinesTree) -> None:
    tree.run("21", "ip", "address", "add", "203.0.113.99/32", "dev", "eth0")
    assert name_at(tree, "21", B.public_ipv4) == "node22"
    assert name_at(tree, "21", B.public_ipv4, "--interface", "203.0.113.99") == ""


def test_filtering_survives_a_restart_of_the_backend(tree: MachinesTree) -> None:
    tree.call("apply_network", NetworkPicture((MachineFirewall(A.id, (), ()),), {RESERVED: B.id}))
    tree.run("cloud", "nft", "flush", "ruleset")
    tree.restart_backend()
    assert port(tree, "workstation", A.public_ipv4, 8080) == "filtered"
    assert name_at(tree, "workstation", RESERVED) == "node22"
