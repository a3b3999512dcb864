"""What `make status` and `make verify` say of the caches of Docker Hub on the machines of runners."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.unit.status_world import COMMAND, VALUES, World, asked, state, world
from tests.unit.test_down import resource
from tools import verify
from tools.answers import Health
from tools.clients import CheckError, Outputs
from tools.hub_cache import require_caches
from tools.state import StackState

__all__ = ["world"]

MACHINE, ADDRESS = "slipway-test-delivery-docker-1", "203.0.113.3"
DOWN = "down curl: (7) Failed to connect to 172.17.0.1 port 5000"


def prepared(url: str) -> dict[str, Any]:
    return resource(COMMAND, "delivery-docker-1-preparation", "c3", inputs={"stdin": f"A=1\nCACHE_URL={url}\nB=2\n"})


WITH_CACHE = prepared("https://cache.example.internal:5000")


@pytest.mark.parametrize(
    ("said", "health", "text"),
    [
        ("serves 3221225472\n", Health.HEALTHY, f"{MACHINE}: serves, 3.0 GiB stored"),
        (f"{DOWN}\n", Health.NOTICE, f"{MACHINE}: does not serve ({DOWN[5:]}), jobs pull from Docker Hub: make logs"),
        ("none\n", Health.NOTICE, f"{MACHINE}: does not serve, jobs pull from Docker Hub"),
        (subprocess.TimeoutExpired(["ssh"], 2), Health.UNKNOWN, f"{MACHINE}: no answer in time"),
    ],
)
def test_a_cache_that_does_not_serve_is_worth_a_look_and_no_failure(
    world: World, said: str | Exception, health: Health, text: str
) -> None:
    world.ssh[ADDRESS] = said
    answer = asked("Cache", WITH_CACHE)
    assert answer.health is health
    assert answer.text.startswith(text)


def test_a_machine_that_was_given_none_is_not_asked(world: World) -> None:
    world.ssh[ADDRESS] = AssertionError("asked")
    assert asked("Cache", prepared("''")).health is Health.HEALTHY


def test_verify_fails_for_a_cache_that_does_not_serve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = Outputs(VALUES)
    assert verify.cache_checks("test", outputs) == {}
    monkeypatch.setattr(StackState, "of_stack", lambda _: state(WITH_CACHE))
    world.ssh[ADDRESS] = "serves 1024\n"
    [(name, check)] = verify.cache_checks("test", outputs).items()
    assert (name, check(outputs)) == ("Cache", f"{MACHINE}: serves, 1.0 KiB stored")
    world.ssh[ADDRESS] = f"{DOWN}\n"
    with pytest.raises(CheckError, match="does not serve"):
        require_caches(state(WITH_CACHE), outputs)


def test_a_job_does_not_ask_the_machine_that_it_runs_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    del world
    monkeypatch.setattr(StackState, "of_stack", lambda _: state(WITH_CACHE))
    monkeypatch.setattr(verify, "of_own_runner", lambda _: iter([object()]))
    assert verify.cache_checks("test", Outputs(VALUES)) == {}
