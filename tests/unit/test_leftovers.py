"""Resources that a failed update has left: found before they are created a second time, named, and never taken over."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pulumi
import pytest

from components import leftovers
from components.leftovers import (
    refuse_existing_domain,
    refuse_existing_droplet,
    refuse_existing_firewall,
    refuse_existing_volume,
    refuse_taken_network,
    report_idle_addresses,
)
from tests.unit.engine import run_program
from tests.unit.test_account import RUNNERS

CHAIN = "urn:pulumi:staging::slipway::slipway:index:{owner}$digitalocean:index"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the API answers, by the beginning of the path."""
    answers: dict[str, Any] = {}
    monkeypatch.setattr(leftovers, "request", lambda path: answers[path.split("?")[0]] | {"asked": path})
    return answers


def creation(kind: str, logical_name: str, owner: str = "GitLabServer", **inputs: Any) -> pulumi.ResourceHookArgs:
    urn = f"{CHAIN.format(owner=owner)}/{kind[0].lower()}{kind[1:]}:{kind}::{logical_name}"
    return pulumi.ResourceHookArgs(urn=urn, id="", name=logical_name, type="", new_inputs=inputs)


VOLUME = creation("Volume", "server-data", name="slipway-staging-data", region="nyc3")
DROPLET = creation("Droplet", "server-droplet", name="slipway-staging")
ADDRESS = creation("ReservedIp", "server-address", region="nyc3")


def test_a_volume_that_exists_is_refused_with_the_line_that_imports_it(there: dict[str, Any]) -> None:
    there["/v2/volumes"] = {"volumes": [{"id": "506f78a4"}]}
    with pytest.raises(RuntimeError, match="volume slipway-staging-data exists in nyc3") as caught:
        asyncio.run(refuse_existing_volume("server", VOLUME))
    assert (
        "pulumi import --stack staging --generate-code=false --protect=false digitalocean:index/volume:Volume "
        "server-data 506f78a4 --parent 'parent=urn:pulumi:staging::slipway::slipway:index:GitLabServer::server' "
        "--provider 'provider=urn:pulumi:staging::slipway::pulumi:providers:digitalocean::digitalocean'"
    ) in str(caught.value).splitlines()


FIREWALL = creation("Firewall", "network-runner-firewall", "Network", name="slipway-staging-runner")
DOMAIN = creation("Domain", "dns-domain", "DnsRecords", name="example.test")
NETWORK = creation("Vpc", "network-vpc", "Network", name="slipway-staging-nyc3-10.20.0.0-24", ipRange="10.20.0.0/24")


def test_a_firewall_that_exists_is_refused_with_the_line_that_imports_it(there: dict[str, Any]) -> None:
    there["/v2/firewalls"] = {"firewalls": [{"id": "bb4b2611", "name": "slipway-staging-runner"}]}
    with pytest.raises(RuntimeError, match="firewall slipway-staging-runner exists") as caught:
        asyncio.run(refuse_existing_firewall("network", FIREWALL))
    parent = "urn:pulumi:staging::slipway::slipway:index:Network::network"
    assert f"network-runner-firewall bb4b2611 --parent 'parent={parent}' " in str(caught.value)


def test_a_firewall_on_a_later_page_is_found(there: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    del there
    pages = [[{"id": str(number), "name": f"other-{number}"} for number in range(200)]]
    pages.append([{"id": "bb4b2611", "name": "slipway-staging-runner"}])

    def answer(path: str) -> dict[str, Any]:
        number = int(path.rpartition("page=")[2])
        following = {"pages": {"next": "another"}} if number < len(pages) else {}
        return {"firewalls": pages[number - 1], "links": following}

    monkeypatch.setattr(leftovers, "request", answer)
    with pytest.raises(RuntimeError, match="firewall slipway-staging-runner exists"):
        asyncio.run(refuse_existing_firewall("network", FIREWALL))


def test_a_zone_that_exists_is_refused_and_the_setting_is_named(there: dict[str, Any]) -> None:
    there["/v2/domains"] = {"domains": [{"name": "example.test"}]}
    with pytest.raises(RuntimeError, match=r"has the zone example\.test; .* Set dns\.zone to existing"):
        asyncio.run(refuse_existing_domain("dns", DOMAIN))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            {"name": "slipway-staging-nyc3-10.20.0.0-24", "ip_range": "10.20.0.0/24"},
            "VPC slipway-staging-nyc3-.* exists",
        ),
        (
            {"name": "theirs", "ip_range": "10.20.0.0/16"},
            r"server\.vpcCidr: 10\.20\.0\.0/24 overlaps 10\.20\.0\.0/16, ",
        ),
    ],
)
def test_a_network_whose_name_or_range_is_taken_is_refused(
    there: dict[str, Any], other: dict[str, str], reason: str
) -> None:
    there["/v2/vpcs"] = {"vpcs": [{"id": "5a4981aa", **other}]}
    with pytest.raises(RuntimeError, match=reason):
        asyncio.run(refuse_taken_network("network", NETWORK))


def test_a_droplet_that_exists_is_refused(there: dict[str, Any]) -> None:
    there["/v2/droplets"] = {"droplets": [{"id": 4711}]}
    with pytest.raises(RuntimeError, match=r"droplet slipway-staging \(ID 4711\) exists, but this stack does not know"):
        asyncio.run(refuse_existing_droplet(DROPLET))


def test_names_that_are_free_are_not_refused(there: dict[str, Any]) -> None:
    there |= {
        "/v2/volumes": {"volumes": []},
        "/v2/droplets": {"droplets": []},
        "/v2/firewalls": {"firewalls": [{"id": "1", "name": "another"}]},
        "/v2/domains": {"domains": [{"name": "another.test"}]},
        "/v2/vpcs": {"vpcs": [{"id": "1", "name": "another", "ip_range": "10.30.0.0/20"}]},
    }
    checks = {
        refuse_existing_volume: VOLUME,
        refuse_existing_firewall: FIREWALL,
        refuse_existing_domain: DOMAIN,
        refuse_taken_network: NETWORK,
    }
    for check, args in checks.items():
        asyncio.run(check("parent", args))
    asyncio.run(refuse_existing_droplet(DROPLET))
    # Without a range of its own, DigitalOcean picks one that is free.
    asyncio.run(refuse_taken_network("network", creation("Vpc", "network-vpc", "Network", name="slipway-staging-nyc3")))


def test_idle_addresses_of_the_region_are_named_and_nothing_is_refused(
    there: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def address(ip: str, region: str, droplet: dict[str, Any] | None) -> dict[str, Any]:
        return {"ip": ip, "region": {"slug": region}, "droplet": droplet}

    there["/v2/reserved_ips"] = {
        "reserved_ips": [
            address("198.51.100.1", "nyc3", {"id": 1}),
            address("198.51.100.2", "fra1", None),
            address("198.51.100.3", "nyc3", None),
        ]
    }
    there["/v2/account"] = {"account": {"reserved_ip_limit": 4}}
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    asyncio.run(report_idle_addresses("server", ADDRESS))
    [warning] = warnings
    assert warning.startswith(
        "The reserved address 198.51.100.3 in nyc3 points to no droplet and costs 5.00 US dollars"
    )
    assert "digitalocean:index/reservedIp:ReservedIp server-address 198.51.100.3 " in warning


def test_an_address_beyond_the_limit_of_the_account_is_refused(there: dict[str, Any]) -> None:
    others = [{"ip": f"198.51.100.{number}", "region": {"slug": "fra1"}, "droplet": None} for number in range(3)]
    there |= {"/v2/reserved_ips": {"reserved_ips": others}, "/v2/account": {"account": {"reserved_ip_limit": 3}}}
    with pytest.raises(RuntimeError, match="has 3 reserved addresses and may have 3"):
        asyncio.run(report_idle_addresses("server", ADDRESS))
    there["/v2/account"] = {"account": {}}
    asyncio.run(report_idle_addresses("server", ADDRESS))


def test_everything_is_checked_at_preview_and_droplets_only_when_they_are_created() -> None:
    engine = run_program(**RUNNERS)
    checks = {
        "server-data": (refuse_existing_volume, "server"),
        "server-address": (report_idle_addresses, "server"),
        "network-vpc": (refuse_taken_network, "network"),
        "network-server-base-firewall": (refuse_existing_firewall, "network"),
        "network-runner-firewall": (refuse_existing_firewall, "network"),
        "public-access-firewall": (refuse_existing_firewall, "public-access"),
        "dns-domain": (refuse_existing_domain, "dns"),
    }
    for name, (check, parent) in checks.items():
        [hook] = engine.named(name).request.hooks.before_create
        bound = engine.hooks[hook]
        assert isinstance(bound.callback, partial)
        assert (bound.callback.func, bound.callback.args) == (check, (parent,))
        assert bound.opts
        assert bound.opts.on_dry_run
    for one in engine.of_type(":Droplet"):
        [hook] = one.request.hooks.before_create
        assert engine.hooks[hook].callback is refuse_existing_droplet
        assert not engine.hooks[hook].opts
