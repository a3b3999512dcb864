"""Images with the packages installed: made as `make image` does, and used by a server and the machines of a runner.

Each image takes a machine of its own to make, so this is a part of `make nightly`.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.control import Control
from tests.e2e.hosts import Host
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools import verify
from tools.clients import run
from tools.server import run_on_server

RUNNER_NAME = RUNNER["name"]
SERVER: dict[str, Any] = {"image": "debian-13-x64", "volumeSizeGb": 10}
#: What names one machine and no other.
IDENTITY = "cat /etc/machine-id /etc/gitlab-runner/.runner_system_id; cat /etc/ssh/ssh_host_ed25519_key.pub"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a runner on two machines; destroyed at the end. The images that it starts from are made first."""
    made = Stack.create(
        "golden",
        tmp_path_factory.mktemp("golden"),
        SANDBOX,
        domain="golden.test",
        registry={"storage": "filesystem"},
        runners=[{**RUNNER, "count": 2}],
    )
    yield made
    made.remove()


def make_image(stack: Stack, which: str) -> str:
    """Make an image with the command behind `make image`, and return its name."""
    words = ("golden-image", "--stack", stack.name, "--for", which, "--config-file", str(stack.file))
    said = run(sys.executable, "-m", "tools", *words, timeout=600)
    [line] = [line for line in said.splitlines() if "pulumi config set" in line]
    return line.split()[-1]


def test_an_image_is_all_that_its_making_leaves_in_the_account(stack: Stack, control: Control) -> None:
    before = control.resources()
    server = make_image(stack, "server")
    runner = make_image(stack, RUNNER_NAME)
    after = control.resources()
    assert {one["name"] for one in after["snapshots"]} - {one["name"] for one in before["snapshots"]} == {
        server,
        runner,
    }
    assert {kind: after[kind] for kind in before if kind != "snapshots"} == {
        kind: found for kind, found in before.items() if kind != "snapshots"
    }
    stack.set(server={**SERVER, "snapshot": server}, runners=[{**RUNNER, "count": 2, "snapshot": runner}])


def test_machines_that_start_from_images_install_nothing_and_work(stack: Stack, control: Control) -> None:
    said = stack.up()
    assert "is installed" in said
    assert not [line for line in said.splitlines() if "installing" in line]
    ids = {str(one["id"]) for one in control.resources()["snapshots"]}
    droplets = [one for urn, one in stack.resources().items() if one["type"].endswith(":Droplet")]
    assert len(droplets) == 3
    assert {one["inputs"]["image"] for one in droplets} <= ids
    failed = [one for one in verify.measure(stack.outputs()) if not one.holds]
    assert not failed


def test_machines_from_one_image_share_no_identity_and_nobody_else_may_log_in(stack: Stack) -> None:
    machines = [Host.of(stack, f"delivery-{RUNNER_NAME}-{number}") for number in (1, 2)]
    one, two = (set(machine.sudo(IDENTITY).split()) - {"ssh-ed25519"} for machine in machines)
    assert one.isdisjoint(two)
    for machine in machines:
        keys = machine.sudo(
            "cat /home/slipway/.ssh/authorized_keys; cat /root/.ssh/authorized_keys 2>/dev/null || true"
        )
        assert "golden" not in keys
        assert "ssh_host_ecdsa_key" not in machine.sudo("ls /etc/ssh")


def test_another_image_or_none_changes_nothing_and_a_new_machine_starts_from_it(stack: Stack, control: Control) -> None:
    droplet = Host.of(stack, f"delivery-{RUNNER_NAME}-1").droplet
    newer = make_image(stack, RUNNER_NAME)
    stack.set(runners=[{**RUNNER, "count": 2, "snapshot": newer}])
    assert stack.changes() == {}
    stack.set(runners=[{**RUNNER, "count": 2}])
    assert stack.changes() == {}
    stack.set(runners=[{**RUNNER, "count": 3, "snapshot": newer}])
    stack.up()
    number = {one["name"]: str(one["id"]) for one in control.resources()["snapshots"]}[newer]
    assert stack.resources()[stack.urn(f"delivery-{RUNNER_NAME}-3-droplet")]["inputs"]["image"] == number
    assert Host.of(stack, f"delivery-{RUNNER_NAME}-1").droplet == droplet


def test_a_server_that_starts_from_an_image_again_keeps_its_data(stack: Stack) -> None:
    before = stack.outputs()
    stack.set(server={**SERVER, "vpcCidr": "10.99.0.0/24", "snapshot": make_image(stack, "server")})
    assert stack.changes()["server-droplet"] == "replace"
    stack.up()
    assert stack.outputs().password == before.password
    assert "gitlab-ce" in run_on_server(stack.outputs(), "apt-mark showhold")
    failed = [one for one in verify.measure(stack.outputs()) if not one.holds]
    assert not failed
