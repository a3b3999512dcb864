"""What the account offers, and what is refused before anything is created in it."""

from __future__ import annotations

from typing import Any

import pytest

from components.settings import SettingsError
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.engine_answers import RefusedCall
from tests.unit.test_state import KEPT

FOREIGN = {"id": 7, "name": "gitlab", "type": "A", "value": "192.0.2.44"}
RUNNERS: dict[str, Any] = {"projects": [{"path": "app", "runners": ["a"]}], "runners": [{"name": "a", "count": 3}]}


def refusal(status: int) -> RefusedCall:
    """What the official provider reports about a request that the API has refused."""
    url = "https://api.digitalocean.com/v2/something?page=1"
    return RefusedCall(f'invoking: Error retrieving something: GET {url}: {status} (request "8f2c") its own words')


#: A state with a server in it.
RUNNING: dict[str, dict[str, Any]] = {
    "urn:pulumi:test::slipway::slipway:index:Network$digitalocean:index/tag:Tag::network-server-tag": {
        "name": "slipway-test-server"
    },
    "urn:pulumi:test::slipway::slipway:index:GitLabServer$digitalocean:index/droplet:Droplet::server-droplet": {
        "name": "slipway-test"
    },
}


def run(answers: dict[str, Any], previous: dict[str, Any] | None = None, **changes: Any) -> RecordingEngine:
    """The program of a stack with a server, in an account that gives these answers."""
    engine = RecordingEngine(answers=answers, known=RUNNING)
    return run_program(engine=engine, previous_outputs=previous, **changes)


def errors(answers: dict[str, Any], previous: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """Why the program of a stack with a server refuses to run in an account that gives these answers."""
    engine = RecordingEngine(answers=answers, known=RUNNING)
    with pytest.raises(SettingsError) as caught:
        run_program(engine=engine, previous_outputs=previous, **changes)
    assert [one.name for one in engine.registrations if not one.is_provider] == ["slipway-test"]
    return caught.value.errors


def account(**changes: Any) -> dict[str, Any]:
    """An account in good standing but for the changes."""
    good = {"email": "a@example.test", "emailVerified": True, "dropletLimit": 25, "status": "active"}
    return {"getAccount": {**good, "statusMessage": "", **changes}}


def droplet(tag: str) -> dict[str, Any]:
    """A droplet of the account."""
    size = {"size": "s-4vcpu-8gb", "disk": 160, "priceMonthly": 47.0}
    return {"tags": [tag], "name": f"droplet-{tag}", "image": "ubuntu-24-04-x64", "vpcUuid": "vpc-1", **size}


def records(*found: dict[str, Any]) -> dict[str, Any]:
    """A zone with these records."""
    return {"getRecords": {"records": [{"domain": "example.test", **record} for record in found]}}


@pytest.mark.parametrize(
    ("answers", "changes", "start", "advice"),
    [
        ({}, {"server": {"size": "s-3vcpu-9gb"}}, "server.size: s-3vcpu-9gb is not a size", "nyc3 offers"),
        (
            {},
            {"server": {"size": "c-4"}, "region": "nyc2", "registry": {"spacesRegion": "nyc3"}},
            "server.size: c-4 is not available in nyc2",
            "s-4vcpu-8gb",
        ),
        ({"getImage": RefusedCall("image not found: … 404")}, {}, "server.image: ubuntu-24-04-x64 is not an image", ""),
        (
            {"getImage": {"slug": "ubuntu-24-04-x64", "regions": ["fra1"]}},
            {},
            "server.image: ubuntu-24-04-x64 is not available in nyc3",
            "another region",
        ),
        ({}, {"region": "sfo1", "registry": {"spacesRegion": "nyc3"}}, "region: sfo1 accepts no new", "Use one of"),
        ({}, {"region": "abc9", "registry": {"spacesRegion": "nyc3"}}, "region: abc9 does not exist", "Use one of"),
        (account(dropletLimit=3), RUNNERS, "server, runners: need 4 droplets", "higher limit"),
        (account(emailVerified=False), {}, "DIGITALOCEAN_TOKEN: belongs to the account of a@", "Follow the link"),
        (account(status="locked", statusMessage="fraud?"), {}, "DIGITALOCEAN_TOKEN: belongs to", "locked (fraud?)"),
        ({"getAccount": refusal(401)}, {}, "DIGITALOCEAN_TOKEN: was rejected", "create a new one"),
        ({"getAccount": refusal(403)}, {}, "DIGITALOCEAN_TOKEN: may not read the account", "scope account:read"),
        ({"getDroplets": refusal(403)}, {}, "DIGITALOCEAN_TOKEN: may not read the droplets", "scope droplet:read"),
        ({"getVpc": refusal(403)}, {}, "DIGITALOCEAN_TOKEN: may not read the networks", "scope vpc:read"),
        ({"getSizes": RefusedCall("dial tcp: no route")}, {}, "DigitalOcean: could not read the sizes", "no route"),
        (
            {"getRecords": RefusedCall('GET https://api.test/v2/domains/x/records: 403 (request "404a") no')},
            {"dns": {"zone": "existing"}},
            "DIGITALOCEAN_TOKEN: may not read the records of example.test",
            "scope domain:read",
        ),
        (
            {"getRecords": refusal(404)},
            {"dns": {"zone": "existing"}},
            "dns.zone: example.test is not a zone of this DigitalOcean account",
            "Set dns.zone to create",
        ),
    ],
)
def test_what_the_account_does_not_offer_is_one_message_and_nothing_is_registered(
    answers: dict[str, Any], changes: dict[str, Any], start: str, advice: str
) -> None:
    [line] = errors(answers, **changes)
    assert line.startswith(start)
    assert advice in line


def test_mistakes_in_the_stack_file_and_in_the_account_are_one_report() -> None:
    found = errors(account(emailVerified=False), domain="", region="nyc2", server={"size": "c-4"})
    assert [line.split(":")[0] for line in found] == [
        "domain",
        "registry.spacesRegion",
        "DIGITALOCEAN_TOKEN",
        "server.size",
    ]


def test_a_change_that_protected_data_forbids_is_in_the_same_report() -> None:
    found = errors(account(emailVerified=False), {"deployed": KEPT}, domain="other.test")
    assert [line.split(":")[0] for line in found] == ["domain", "DIGITALOCEAN_TOKEN"]


def test_without_a_token_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITALOCEAN_TOKEN")
    engine = RecordingEngine()
    with pytest.raises(SettingsError, match="DIGITALOCEAN_TOKEN: is not set"):
        run_program(engine=engine)
    assert engine.calls == []


def test_sizes_images_and_regions_that_run_already_are_not_asked_for_again() -> None:
    gone: dict[str, Any] = {
        "getSizes": {"sizes": []},
        "getImage": RefusedCall("image not found"),
        "getRegions": {"regions": []},
    }
    server = {**droplet("slipway-test-server"), "name": "slipway-test"}
    gone["getDroplets"] = {"droplets": [server]}
    previous = {"deployed": {**KEPT, "kept": False}}
    assert run(gone, previous).exports["monthly_cost"]["items"]["server, s-4vcpu-8gb"] == 47.0
    assert any(line.startswith("region: ") for line in errors(gone, previous, region="fra1"))
    # The API shows a droplet of an image that was retired with the image's ID.
    assert run({**gone, "getDroplets": {"droplets": [{**server, "image": "129211873"}]}}, previous)


@pytest.mark.parametrize(
    ("found", "settings"),
    [
        ({"name": "slipway-test", "image": "debian-12-x64"}, {}),
        ({"name": "slipway-test"}, {"server": {"vpcCidr": "10.20.0.0/24"}}),
        ({"name": "slipway-other"}, {}),
        ({"name": "slipway-test"}, RUNNERS),
    ],
    ids=["another image", "another network", "no droplet after a destroy", "another machine"],
)
def test_a_droplet_that_is_created_or_replaced_needs_an_image_that_is_offered(
    found: dict[str, Any], settings: dict[str, Any]
) -> None:
    there = {"droplets": [{**droplet("slipway-test-server"), **found}]}
    answers = {"getImage": RefusedCall("image not found"), "getDroplets": there}
    [line] = errors(answers, {"deployed": {**KEPT, "kept": False}}, **settings)
    assert "ubuntu-24-04-x64 is not an image; no droplet could be created" in line


def test_a_smaller_disk_is_no_obstacle_for_a_droplet_that_is_replaced_anyway() -> None:
    server = {**droplet("slipway-test-server"), "name": "slipway-test"}
    there = {"getDroplets": {"droplets": [server]}}
    assert run(there, server={"size": "c-4", "image": "debian-12-x64"}).named("server-droplet")


def test_only_other_droplets_count_against_the_limit() -> None:
    def droplets(*tags: str) -> dict[str, Any]:
        return {"getDroplets": {"droplets": [droplet(tag) for tag in tags]}}

    assert run({**account(dropletLimit=2), **droplets("slipway-test-server", "other")}).named("server-droplet")
    assert errors({**account(dropletLimit=2), **droplets("other", "slipway-test-server")}, **RUNNERS)
    # A limit that the token may not read is unknown, and one that is exceeded already stops nothing that runs.
    assert run(account(dropletLimit=0)).named("server-droplet")
    assert run({**account(dropletLimit=1), **droplets("other", "slipway-test-server")}).named("server-droplet")


def test_a_size_with_a_smaller_disk_than_the_droplet_has_is_refused() -> None:
    server = {**droplet("slipway-test-server"), "name": "slipway-test"}
    there = {"getDroplets": {"droplets": [server]}}
    [line] = errors(there, server={"size": "c-4"})
    assert line.startswith("server.size: c-4 has a disk of 50 GB, and slipway-test has one of 160 GB")
    assert run(there, server={"size": "s-8vcpu-16gb"}).named("server-droplet")
    # A droplet that was created with a larger disk than its size has now may keep that size.
    assert run({"getDroplets": {"droplets": [{**server, "size": "c-4"}]}}, server={"size": "c-4"}).named(
        "server-droplet"
    )


def test_a_size_whose_disk_is_smaller_than_the_image_is_refused() -> None:
    large = {"getImage": {"minDiskSize": 200, "regions": ["nyc3"]}}
    [line] = errors(large)
    assert line.startswith("server.size: s-4vcpu-8gb has a disk of 160 GB, and ubuntu-24-04-x64 needs one of 200 GB")
    assert run(large, server={"size": "s-8vcpu-16gb"}).named("server-droplet")
    # A droplet that stays what it is has that image already.
    server = {**droplet("slipway-test-server"), "name": "slipway-test"}
    previous = {"deployed": {**KEPT, "kept": False}}
    assert run({**large, "getDroplets": {"droplets": [server]}}, previous).named("server-droplet")


def test_an_account_with_as_many_volumes_as_it_may_have_is_refused_unless_it_has_the_stacks_own() -> None:
    listed = {"/v2/account": {"volume_limit": 1}, "/v2/volumes": []}
    full = RecordingEngine(listed={**listed, "/v2/volumes": [{"id": "1", "name": "another"}]})
    full.filtered = {"/v2/volumes": []}
    with pytest.raises(SettingsError, match="server: needs a data volume, and the account has 1 and may have 1"):
        run_program(engine=full)
    assert run_program(engine=RecordingEngine(listed=listed)).named("server-data")
    # A limit of 0 is none.
    none = RecordingEngine(listed={**full.listed, "/v2/account": {"volume_limit": 0}}, filtered=full.filtered)
    assert run_program(engine=none).named("server-data")
    own = {"urn:pulumi:test::slipway::digitalocean:index/volume:Volume::server-data": {
        "name": "slipway-test-data", "region": "nyc3"}}  # fmt: skip
    assert run_program(engine=RecordingEngine(listed=full.listed, filtered=full.filtered, known=own)).named(
        "server-data"
    )


RECORD = "urn:pulumi:test::slipway::slipway:index:DnsRecords$digitalocean:index/dnsRecord:DnsRecord::dns-a"
ADDRESS = (
    "urn:pulumi:test::slipway::slipway:index:GitLabServer$digitalocean:index/reservedIp:ReservedIp::server-address"
)
OWN = {"domain": "example.test", "type": "A", "name": "gitlab", "value": "198.51.100.7"}


def zone_errors(known: dict[str, Any], *found: dict[str, Any], **changes: Any) -> list[str]:
    """What a stack with these resources has against an existing zone with these records."""
    engine = RecordingEngine(answers=records(*found), known=known)
    settings = {"dns": {"zone": "existing"}, **changes}
    try:
        run_program(engine=engine, **settings)
    except SettingsError as error:
        return error.errors
    assert engine.named("dns-a")
    return []


@pytest.mark.parametrize("kind", ["A", "AAAA", "CNAME", "NS"])
def test_a_foreign_record_of_the_name_is_refused_and_named(kind: str) -> None:
    [line] = zone_errors({}, {**FOREIGN, "type": kind})
    assert line.startswith(f"hostname: the zone example.test has the record gitlab {kind} 192.0.2.44 (ID 7)")
    assert line.endswith("Delete the record, or use another hostname")
    assert "those of the certificate authority included" in line
    certificate = {"acmeDirectory": "https://ca.example.test/directory"}
    [line] = zone_errors({}, {**FOREIGN, "type": kind}, certificate=certificate)
    assert "would go there. Delete the record" in line


def test_records_of_other_names_and_types_do_not_matter() -> None:
    others = ({**FOREIGN, "name": "www"}, {**FOREIGN, "type": "TXT"}, {**FOREIGN, "name": "@", "type": "AAAA"})
    # A wildcard does not apply to a name that has a record of any type.
    wildcard = {**FOREIGN, "name": "*"}
    assert zone_errors({}, *others, wildcard) == []


def test_the_record_of_another_stack_in_the_account_is_foreign_although_its_address_is_the_accounts() -> None:
    reserved = {"getReservedIp": {"ipAddress": "192.0.2.44", "region": "nyc3"}}
    [line] = errors({**records(FOREIGN), **reserved}, dns={"zone": "existing"})
    assert line.startswith("hostname: the zone example.test has the record gitlab A 192.0.2.44 (ID 7)")


def test_the_record_of_a_stack_is_not_foreign_to_it() -> None:
    own = {**FOREIGN, "value": "198.51.100.7"}
    assert zone_errors({RECORD: OWN}, own) == []
    assert len(zone_errors({RECORD: OWN}, own, FOREIGN)) == 1
    # Changed by hand: the next refresh finds it, and it is still the stack's own.
    assert zone_errors({RECORD: OWN}, FOREIGN) == []
    assert len(zone_errors({RECORD: OWN}, {**FOREIGN, "name": "git"}, hostname="git")) == 1
    assert len(zone_errors({RECORD: {**OWN, "domain": "other.test"}}, own)) == 1


def test_a_record_that_an_interrupted_update_left_is_named_with_the_line_that_imports_it() -> None:
    dns, provider = (
        f"urn:pulumi:test::slipway::{one}"
        for one in ("slipway:index:DnsRecords::dns", "pulumi:providers:digitalocean::digitalocean")
    )
    known = {ADDRESS: {"ipAddress": "192.0.2.44"}, dns: {}, provider: {}}
    [line] = zone_errors(known, FOREIGN)
    assert "digitalocean:index/dnsRecord:DnsRecord dns-a example.test,7 --parent" in line


MAIL = {**FOREIGN, "name": "@", "type": "MX", "value": "mail.example.test"}
DEFAULT = [
    {**FOREIGN, "name": "@", "type": "NS", "value": "ns1.digitalocean.com"},
    {**FOREIGN, "name": "@", "type": "SOA", "value": "1800"},
    {**FOREIGN, "value": "198.51.100.7"},
]


@pytest.mark.parametrize(
    ("found", "deployed", "refused"),
    [
        ([*DEFAULT, MAIL], {}, True),
        (DEFAULT, {}, False),
        ([*DEFAULT, MAIL], {"leaves_domain": True}, False),
        ([*DEFAULT, MAIL], {"has_domain": False}, False),
    ],
)
def test_another_domain_is_refused_if_records_of_others_would_be_lost_with_the_former_zone(
    found: list[dict[str, Any]], deployed: dict[str, Any], refused: bool
) -> None:
    engine = RecordingEngine(answers=records(*found), known={RECORD: OWN})
    previous = {"deployed": {**KEPT, "kept": False, **deployed}}
    try:
        run_program(previous, engine=engine, domain="other.test")
        lines = []
    except SettingsError as error:
        lines = error.errors
    assert bool(lines) == refused
    for line in lines:
        assert line.startswith("domain: other.test would follow example.test, whose zone the stack has created")
        assert "not in this stack's state: @ MX mail.example.test. Delete them" in line


def test_the_zone_of_a_stack_that_has_created_it_is_read_as_well() -> None:
    zone = "urn:pulumi:test::slipway::slipway:index:DnsRecords$digitalocean:index/domain:Domain::dns-domain"
    known = {zone: {"name": "example.test"}}
    assert len(zone_errors(known, FOREIGN, dns={"zone": "create"})) == 1
    assert zone_errors(known, dns={"zone": "create"}) == []
