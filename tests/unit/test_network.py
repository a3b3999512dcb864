"""The private network: which VPC a stack has, and what becomes of it."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from pulumi_digitalocean import GetVpcResult

from components.network import plan_vpc
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.engine_answers import RefusedCall

NAME = "slipway-test-nyc3"


def vpc(name: str, *, default: bool, region: str = "nyc3") -> GetVpcResult:
    return GetVpcResult(id=f"id-of-{name}", name=name, region=region, default=default)  # type: ignore[no-untyped-call]


def test_the_first_vpc_of_a_region_stays_when_the_stack_is_destroyed() -> None:
    request = run_program(removal="everything").named("network-vpc").request
    assert request.retainOnDelete
    assert not request.importId


def test_a_vpc_beside_the_default_one_is_deleted_with_the_stack() -> None:
    default = {"id": "1", "name": "default-nyc3", "region": "nyc3", "default": True}
    engine = RecordingEngine(answers={"getVpc": default})
    run_program(engine=engine, removal="everything")
    assert not engine.named("network-vpc").request.retainOnDelete


def test_a_vpc_that_an_earlier_stack_left_is_used_again() -> None:
    left = {"id": "5a4981aa", "name": NAME, "region": "nyc3", "default": True}
    engine = RecordingEngine(answers={"getVpc": left})
    run_program(engine=engine, removal="everything")
    request = engine.named("network-vpc").request
    assert (request.importId, request.retainOnDelete) == ("5a4981aa", True)


def test_only_a_default_vpc_of_the_same_region_is_used_again() -> None:
    other = vpc("default-nyc3", default=True)
    for own in (vpc(NAME, default=False), vpc(NAME, default=True, region="fra1")):
        assert plan_vpc("slipway-test", "nyc3", None, default=other, own=own).existing_id is None


def test_the_vpc_of_a_lost_state_is_used_again_with_what_is_taken_over() -> None:
    own = {"id": "5a4981aa", "name": NAME, "region": "nyc3", "default": False}
    volume = "506f78a4-e098-11e5-ad9f-000f53306ae1"
    listed = {
        "/v2/volumes": [{"id": volume, "name": "slipway-test-data", "size_gigabytes": 50}],
        "/v2/vpcs": [{**own, "ip_range": "10.108.0.0/20"}],
    }
    engine = RecordingEngine(answers={"getVpc": own}, listed=listed)
    recover = {"volume": volume, "registryBucket": "new"}
    assert run_program(engine=engine, recover=recover).named("network-vpc").request.importId == "5a4981aa"
    here, there = (vpc(NAME, default=False, region=region) for region in ("nyc3", "fra1"))
    plans = [plan_vpc("slipway-test", "nyc3", None, default=None, own=own, takes_over=True) for own in (here, there)]
    assert [plan.existing_id for plan in plans] == [here.id, None]


def test_the_name_of_an_earlier_version_is_recognized() -> None:
    assert plan_vpc("slipway-test", "nyc3", None, default=vpc("slipway-test", default=True), own=None).is_default


def test_another_range_is_another_name_so_that_the_new_vpc_exists_before_the_old_one_goes() -> None:
    first, second = (
        plan_vpc("slipway-test", "nyc3", cidr, default=None, own=None).name
        for cidr in (None, IPv4Network("10.20.0.0/24"))
    )
    assert (first, second) == (NAME, f"{NAME}-10.20.0.0-24")
    request = run_program(server={"vpcCidr": "10.20.0.0/24"}).named("network-vpc").request
    assert not request.deleteBeforeReplace


def test_a_region_without_a_vpc_is_not_an_error() -> None:
    absent: dict[str, Any] = {"getVpc": RefusedCall("unable to find default VPC in nyc3 region; no VPCs found")}
    engine = RecordingEngine(answers=absent)
    run_program(engine=engine)
    assert engine.named("network-vpc").inputs["name"] == NAME
