"""Deployments without a gap: a proxy on the machine has the port, whatever happens, and another way takes it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.versions import PROXY_IMAGE
from tests.unit.deploy_target import ENVIRONMENT, NEW, OLD, Target

PLAIN = {**ENVIRONMENT, "publish": ["80:3000"], "healthCheck": {"path": "/health", "timeoutSeconds": 1}}
PROXIED = {**PLAIN, "zeroDowntime": True}
NAME, PROXY = "hello-staging", "hello-staging-proxy"
SWITCH = f"exec {PROXY} kamal-proxy deploy"
#: What would leave a moment without a container, or without the port.
GAPS = (f"stop {PROXY}", f"rm --force --volumes {PROXY}", f"rename {PROXY}")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    made = Target(tmp_path)
    made.settings = PROXIED
    return made


def deployed(target: Target, image: str) -> str:
    """Run a deploy job, which must succeed; its output. `calls` has the commands of this one alone."""
    (target.folder / "calls").unlink(missing_ok=True)
    code, output = target.deploy(image)
    assert code == 0, output
    return output


def served(target: Target) -> str:
    """The image of the running container that gets the requests."""
    route = target.state["routes"][PROXY].partition(":")[0]
    containers = target.state["containers"].values()
    [one] = [one for one in containers if one["labels"].get("slipway.target") == route]
    assert one["status"] == "running"
    return str(one["image"])


def test_a_proxy_has_the_port_and_each_container_a_name_of_its_own_behind_it(target: Target) -> None:
    deployed(target, OLD)
    containers = target.state["containers"]
    assert set(containers) == {NAME, PROXY}
    assert containers[PROXY]["image"] == PROXY_IMAGE
    assert containers[PROXY]["publish"] == ["80:8080"]
    assert containers[NAME]["publish"] == []
    assert {one["restart"] for one in containers.values()} == {"unless-stopped"}
    assert {one["network"] for one in containers.values()} == {NAME}
    first = target.state["routes"][PROXY]
    assert first.endswith(":3000")
    deployed(target, NEW)
    assert target.state["routes"][PROXY] != first
    assert target.running == {NAME: NEW, PROXY: PROXY_IMAGE}


def test_the_new_container_has_the_requests_before_the_old_one_stops(target: Target) -> None:
    deployed(target, OLD)
    deployed(target, NEW)
    calls = (target.folder / "calls").read_text().splitlines()
    [switched] = [number for number, call in enumerate(calls) if call.startswith(SWITCH)]
    [stopped] = [number for number, call in enumerate(calls) if call == f"stop {NAME}-previous"]
    assert switched < stopped
    assert not any(call.startswith(GAPS) for call in calls)
    assert "--health-check-path /health --health-check-port 3000" in calls[switched]


@pytest.mark.parametrize("kind", ["broken", "deaf"])
def test_a_broken_release_never_gets_a_request(target: Target, kind: str) -> None:
    deployed(target, OLD)
    (target.folder / "calls").unlink()
    code, output = target.deploy(NEW.replace("hello", kind))
    assert code == 1
    assert "error: " in output
    assert served(target) == OLD
    assert target.running == {NAME: OLD, PROXY: PROXY_IMAGE}
    calls = (target.folder / "calls").read_text().splitlines()
    assert not any(call.startswith((*GAPS, "stop ")) for call in calls)


@pytest.mark.parametrize("kind", ["broken", "deaf"])
def test_a_first_release_that_is_broken_leaves_no_container(target: Target, kind: str) -> None:
    code, output = target.deploy(NEW.replace("hello", kind))
    assert code == 1
    assert f"{NAME} does not run yet" in output
    assert target.state["containers"] == {}


def test_a_container_with_its_own_port_moves_behind_the_proxy_and_back(target: Target) -> None:
    target.settings = PLAIN
    deployed(target, OLD)
    target.settings = PROXIED
    assert "which takes a moment without answers" in deployed(target, NEW)
    assert served(target) == NEW
    assert target.running == {NAME: NEW, PROXY: PROXY_IMAGE}
    target.settings = PLAIN
    deployed(target, OLD)
    assert target.running == {NAME: OLD}
    assert set(target.state["containers"]) == {NAME}
    assert target.state["containers"][NAME]["publish"] == ["80:3000"]
    assert (target.state["networks"], target.state["volumes"], target.state["routes"]) == ({}, {}, {})


@pytest.mark.parametrize(("before", "after"), [(PLAIN, PROXIED), (PROXIED, PLAIN)])
def test_a_move_that_fails_gives_the_port_back(
    target: Target, before: dict[str, object], after: dict[str, object]
) -> None:
    target.settings = before
    deployed(target, OLD)
    running = target.running
    target.settings = after
    code, output = target.deploy(NEW.replace("hello", "deaf" if after is PROXIED else "held"))
    assert code == 1, output
    assert target.running == running
    assert set(target.state["containers"]) == set(running)
    assert before is PLAIN or served(target) == OLD


@pytest.mark.parametrize(
    ("moment", "image"),
    [
        (SWITCH, OLD),
        (f"rename {NAME} ", NEW),
        (f"stop {NAME}-previous", NEW),
        (f"rm --force --volumes {NAME}-previous", NEW),
    ],
)
def test_a_job_that_was_killed_is_settled_towards_the_container_that_has_the_requests(
    target: Target, moment: str, image: str
) -> None:
    deployed(target, OLD)
    target.killed(moment, NEW)
    assert served(target) == image
    code, output = target.deploy(NEW.replace("hello", "broken"))
    assert code == 1, output
    assert served(target) == image
    assert target.running == {NAME: image, PROXY: PROXY_IMAGE}
    assert set(target.state["containers"]) == {NAME, PROXY}
    deployed(target, OLD)
    assert target.running == {NAME: OLD, PROXY: PROXY_IMAGE}


@pytest.mark.parametrize(("before", "after"), [(PLAIN, PROXIED), (PROXIED, PLAIN)])
@pytest.mark.parametrize("moment", ["stop ", "network rm"])
def test_a_move_that_was_killed_is_settled_by_the_next_job(
    target: Target, before: dict[str, object], after: dict[str, object], moment: str
) -> None:
    target.settings = before
    deployed(target, OLD)
    target.settings = after
    if moment == "network rm" and after is PROXIED:
        moment = SWITCH
    target.killed(moment, NEW)
    deployed(target, NEW)
    expected = {NAME: NEW, PROXY: PROXY_IMAGE} if after is PROXIED else {NAME: NEW}
    assert target.running == expected
    assert set(target.state["containers"]) == set(expected)


@pytest.mark.parametrize(("kind", "name"), [("network", NAME), ("volume", PROXY)])
def test_what_somebody_else_has_made_under_a_name_stays(target: Target, kind: str, name: str) -> None:
    target.write({**target.state, f"{kind}s": {name: ""}})
    code, output = target.deploy(OLD)
    assert code == 1
    assert f"the {kind} {name} was made by somebody else" in output
    target.settings = PLAIN
    deployed(target, OLD)
    assert target.state[f"{kind}s"] == {name: ""}


def test_another_port_or_proxy_replaces_the_proxy_and_keeps_what_is_behind_it(target: Target) -> None:
    deployed(target, OLD)
    target.settings = {**PROXIED, "publish": ["127.0.0.1:8080:3000"]}
    deployed(target, OLD)
    assert target.state["containers"][PROXY]["publish"] == ["127.0.0.1:8080:8080"]
    assert served(target) == OLD
    assert set(target.state["containers"]) == {NAME, PROXY}
