"""Faults in the middle of an update of the whole program: a few kinds of call; `make faults` has all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox_tests.support.fault_matrix import FAULTS, Kind, run, run_faults
from tests.sandbox_tests.support.whole_program import World, world

pytestmark = pytest.mark.real_time("versitygw is written in Go: its clock cannot be moved, and it refuses other times")

#: One of each fault that passes, of reads and writes, in all three services.
PASSING = {
    "429, Retry-After": [
        Kind("api", "GET", "/v2/volumes"),
        Kind("api", "POST", "/v2/droplets"),
        Kind("gitlab", "GET", "/api/v4/projects/{}/variables"),
        Kind("gitlab", "POST", "/api/v4/user/runners"),
    ],
    "500": [Kind("api", "POST", "/v2/firewalls"), Kind("gitlab", "POST", "/api/v4/projects/{}/deploy_tokens")],
    "503, Retry-After": [Kind("api", "GET", "/v2/vpcs"), Kind("spaces", "PUT", "/{}?acl")],
    "connection cut before": [Kind("api", "POST", "/v2/volumes"), Kind("spaces", "PUT", "/{}")],
    "slow": [Kind("api", "POST", "/v2/spaces/keys"), Kind("gitlab", "POST", "/api/v4/projects")],
}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


def test_an_update_goes_through_while_all_services_have_trouble_that_passes(services: World) -> None:
    outcome = run_faults(services, [(fault, kind) for fault, kinds in PASSING.items() for kind in kinds])
    assert (outcome.converged, outcome.updates) == (True, 1), "\n".join(outcome.messages)
    assert outcome.hit == sum(map(len, PASSING.values()))
    assert outcome.left_behind == []


def test_what_lost_answers_have_left_is_put_right(services: World) -> None:
    paths = ("/v2/account/keys", "/v2/droplets", "/v2/reserved_ips", "/v2/spaces/keys")
    kinds = [*(Kind("api", "POST", path) for path in paths), Kind("spaces", "PUT", "/{}")]
    outcome = run(services, "answer lost after", kinds)
    assert outcome.converged, "\n".join(outcome.messages)
    assert outcome.hit == len(kinds)
    # Hooks put the account right; no token of the API lists buckets.
    assert [way.split()[6].rpartition(":")[2] for way in outcome.followed] == ["SpacesBucket"]
    assert outcome.left_behind == []


def test_every_fault_is_one_that_the_services_have() -> None:
    assert PASSING.keys() | {"answer lost after"} == FAULTS.keys()
