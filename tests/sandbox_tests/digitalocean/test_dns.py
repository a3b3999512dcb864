"""The name server, asked by a resolver library."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.sandbox_tests.support.emulated_cloud import LOOPBACK, PATIENCE, EmulatedCloud


@pytest.fixture(scope="module")
def cloud(shared_cloud: EmulatedCloud) -> EmulatedCloud:
    """With the zone of `example.com`."""
    shared_cloud.client.domains.create(body={"name": "example.com", "ip_address": "203.0.113.5"})
    for record in (
        {"type": "A", "name": "git", "data": "203.0.113.6", "ttl": 60},
        {"type": "AAAA", "name": "git", "data": "2001:db8::6"},
        {"type": "CNAME", "name": "registry", "data": "git.example.com."},
        {"type": "CNAME", "name": "apex", "data": "@"},
        {"type": "CNAME", "name": "outside", "data": "other.org."},
        {"type": "CNAME", "name": "broken", "data": "nothing.example.com."},
        {"type": "A", "name": "*.apps", "data": "203.0.113.7"},
        {"type": "A", "name": "a.b", "data": "203.0.113.8"},
        {"type": "CAA", "name": "@", "data": "letsencrypt.org.", "flags": 0, "tag": "issue"},
        {"type": "MX", "name": "@", "data": "git.example.com.", "priority": 10},
        {"type": "SRV", "name": "_x._tcp", "data": "git.example.com.", "priority": 1, "port": 5, "weight": 2},
        {"type": "TXT", "name": "long", "data": "x" * 600},
        {"type": "NS", "name": "sub", "data": "ns.sub.example.com."},
        {"type": "A", "name": "ns.sub", "data": "203.0.113.9"},
    ):
        shared_cloud.client.domains.create_record("example.com", body=record)
    return shared_cloud


def ask(
    cloud: EmulatedCloud, name: str, kind: str = "A", *, tcp: bool = False, edns: bool = False
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, use_edns=edns, payload=4096 if edns else None)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(query, LOOPBACK, PATIENCE, port=cloud.dns_port)


def texts(answer: dns.message.Message) -> list[str]:
    return [f"{dns.rdatatype.to_text(rrset.rdtype)} {rdata}" for rrset in answer.answer for rdata in rrset]


@pytest.mark.parametrize("tcp", [False, True])
def test_answers_are_authoritative_over_udp_and_tcp(cloud: EmulatedCloud, tcp: bool) -> None:
    answer = ask(cloud, "git.example.com", tcp=tcp)
    assert answer.flags & dns.flags.AA
    assert not answer.flags & dns.flags.RA
    assert texts(answer) == ["A 203.0.113.6"]
    assert answer.answer[0].ttl == 60


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("example.com", "A", ["A 203.0.113.5"]),
        ("GIT.Example.COM", "AAAA", ["AAAA 2001:db8::6"]),
        ("example.com", "NS", [f"NS ns{n}.digitalocean.com." for n in (1, 2, 3)]),
        ("example.com", "CAA", ['CAA 0 issue "letsencrypt.org"']),
        ("example.com", "MX", ["MX 10 git.example.com."]),
        ("_x._tcp.example.com", "SRV", ["SRV 1 2 5 git.example.com."]),
        ("registry.example.com", "A", ["CNAME git.example.com.", "A 203.0.113.6"]),
        ("registry.example.com", "CNAME", ["CNAME git.example.com."]),
        ("apex.example.com", "A", ["CNAME example.com.", "A 203.0.113.5"]),
        ("outside.example.com", "A", ["CNAME other.org."]),
        ("one.apps.example.com", "A", ["A 203.0.113.7"]),
        ("one.two.apps.example.com", "A", ["A 203.0.113.7"]),
        ("nyc3.digitaloceanspaces.com", "A", ["A 100.64.1.1"]),
        ("my-bucket.nyc3.digitaloceanspaces.com", "A", ["A 100.64.1.1"]),
    ],
)
def test_names_resolve(cloud: EmulatedCloud, name: str, kind: str, expected: list[str]) -> None:
    answer = ask(cloud, name, kind)
    assert answer.rcode() == dns.rcode.NOERROR
    assert texts(answer) == expected


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nothing.example.com", "A", dns.rcode.NXDOMAIN),
        ("registry.example.com", "TXT", dns.rcode.NOERROR),
        ("git.example.com", "CAA", dns.rcode.NOERROR),
        ("b.example.com", "A", dns.rcode.NOERROR),
        ("apps.example.com", "A", dns.rcode.NOERROR),
        ("broken.example.com", "A", dns.rcode.NXDOMAIN),
        ("my-bucket.nyc3.digitaloceanspaces.com", "AAAA", dns.rcode.NOERROR),
    ],
)
def test_a_name_without_such_records_differs_from_one_that_does_not_exist(
    cloud: EmulatedCloud, name: str, kind: str, rcode: dns.rcode.Rcode
) -> None:
    answer = ask(cloud, name, kind)
    assert answer.rcode() == rcode
    assert [rrset.rdtype for rrset in answer.authority] == [dns.rdatatype.SOA]
    assert not [rrset for rrset in answer.answer if rrset.rdtype != dns.rdatatype.CNAME]


@pytest.mark.parametrize("name", ["other.org", "com", ".", "fra1.digitaloceanspaces.com", "notexample.com"])
def test_a_name_outside_the_zones_is_refused(cloud: EmulatedCloud, name: str) -> None:
    answer = ask(cloud, name)
    assert answer.rcode() == dns.rcode.REFUSED
    assert not answer.answer


def test_a_delegated_name_is_referred_with_glue(cloud: EmulatedCloud) -> None:
    answer = ask(cloud, "host.sub.example.com")
    assert not answer.flags & dns.flags.AA
    assert [str(rrset[0]) for rrset in answer.authority] == ["ns.sub.example.com."]
    assert [str(rrset[0]) for rrset in answer.additional] == ["203.0.113.9"]


def test_a_long_answer_is_truncated_only_over_plain_udp(cloud: EmulatedCloud) -> None:
    assert ask(cloud, "long.example.com", "TXT").flags & dns.flags.TC
    for answer in (ask(cloud, "long.example.com", "TXT", edns=True), ask(cloud, "long.example.com", "TXT", tcp=True)):
        assert not answer.flags & dns.flags.TC
        assert b"".join(answer.answer[0][0].strings) == b"x" * 600


def test_a_change_is_answered_at_once_with_a_new_serial(cloud: EmulatedCloud) -> None:
    before = ask(cloud, "example.com", "SOA").answer[0][0].serial
    body = {"type": "A", "name": "fresh", "data": "203.0.113.44"}
    number = cloud.client.domains.create_record("example.com", body=body)["domain_record"]["id"]
    assert texts(ask(cloud, "fresh.example.com")) == ["A 203.0.113.44"]
    assert ask(cloud, "example.com", "SOA").answer[0][0].serial > before
    cloud.client.domains.delete_record("example.com", number)
    assert ask(cloud, "fresh.example.com").rcode() == dns.rcode.NXDOMAIN


def test_other_operations_are_not_implemented_and_noise_does_no_harm(cloud: EmulatedCloud) -> None:
    query = dns.message.make_query("example.com", "A")
    query.set_opcode(dns.opcode.STATUS)
    assert dns.query.udp(query, LOOPBACK, PATIENCE, port=cloud.dns_port).rcode() == dns.rcode.NOTIMP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        noise.sendto(b"\x00\x01nonsense", (LOOPBACK, cloud.dns_port))
    with socket.create_connection((LOOPBACK, cloud.dns_port)) as noise:
        noise.sendall(b"\x00\x05noise")
        assert noise.recv(1) == b""
    assert texts(ask(cloud, "git.example.com")) == ["A 203.0.113.6"]
