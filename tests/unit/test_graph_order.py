"""The order of the graph: a resource waits for what it declares to need, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.creation_order import CreationOrder, Step
from tests.unit.engine import RecordingEngine, run_program
from tests.unit.engine_answers import Hold

#: Two projects that share a runner, one of them in a group that is searched for; and a runner with two machines.
SETTINGS: dict[str, Any] = {
    "projects": [{"path": "hello", "runners": ["one", "two"]}, {"path": "other", "group": "team", "runners": ["two"]}],
    "runners": [{"name": "one"}, {"name": "two", "count": 2}],
    "existing_groups": {"team": 7},
}

#: Resources that take long to create, and the provider that waits for the whole of GitLab.
HELD = [
    "network-vpc",
    "ssh-key",
    "server-droplet",
    "server-host-key",
    "server-preparation",
    "gitlab-package",
    "gitlab-configuration",
    "gitlab-api-token",
    "public-access-firewall",
    "public-access-registry-5555",
    "registry-bucket-bucket",
    "registry-beginning-settings",
    "registry-storage",
    "registry-login",
    "gitlab",
    "delivery-hello-project",
    "delivery-hello-sample",
    "delivery-one-registration",
    "delivery-one-1-droplet",
    "delivery-two-1-preparation",
    "delivery-two-2-registration",
    "delivery-two-online",
]


@pytest.fixture(scope="module")
def engine() -> RecordingEngine:
    """The program with a registry, projects and runners."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_of_a_unit_test")
        return run_program(**SETTINGS)


def waiting_for(engine: RecordingEngine, urn: str) -> set[str]:
    """URNs of the resources that need a resource, directly or by way of others."""
    waiting, found = set[str](), {urn}
    while found:
        waiting |= found
        found = {one.urn for one in engine.registrations if one.needs & waiting} - waiting
    return waiting - {urn}


@pytest.mark.parametrize("name", HELD)
def test_a_resource_holds_back_only_those_that_declare_to_need_it(engine: RecordingEngine, name: str) -> None:
    [held] = [one.urn for one in engine.custom if one.name == name]
    waiting = waiting_for(engine, held)
    hold = Hold(held, awaited={one.urn for one in engine.registrations} - waiting)
    run_program(**SETTINGS, hold=hold)
    assert sorted(hold.awaited - hold.registered) == []
    assert sorted(hold.registered & waiting) == []


def test_the_machines_of_a_runner_need_nothing_from_gitlab(engine: RecordingEngine) -> None:
    [provider] = [one.urn for one in engine.custom if one.name == "gitlab"]
    waiting = {urn.rsplit("::", 1)[1] for urn in waiting_for(engine, provider)}
    assert "delivery-one-1-registration" in waiting
    for name in ("1-droplet", "1-host-key", "1-preparation"):
        assert f"delivery-one-{name}" not in waiting


def order(**steps: Step) -> CreationOrder:
    """The creation of an SSH key, a droplet and a command that needs both, unless `steps` say otherwise."""
    key, droplet = "urn::stack::index:Key::key", "urn::stack::Server$digitalocean:index/droplet:Droplet::droplet"
    urns = {"key": key, "droplet": droplet, "command": "urn::stack::Server$command:remote:Command::command"}
    usual = {"key": Step(1, 2), "droplet": Step(3, 4), "command": Step(5, 6, frozenset({key, droplet}))}
    return CreationOrder({urns[name]: step for name, step in {**usual, **steps}.items()})


def test_a_creation_that_follows_the_last_thing_that_it_needs_is_in_order() -> None:
    assert order().too_early() == {}
    assert order().too_late() == {}


def test_a_creation_that_starts_while_something_that_it_needs_is_not_done_is_too_early() -> None:
    assert order(droplet=Step(3, 7)).too_early() == {"command": {"droplet"}}


def test_a_creation_that_starts_after_a_long_step_that_it_does_not_need_is_too_late() -> None:
    assert order(key=Step(7, 8)).too_late() == {"key": {"droplet", "command"}}
    assert order(key=Step(4, 8)).too_late() == {}
