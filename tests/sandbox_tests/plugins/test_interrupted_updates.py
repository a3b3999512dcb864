"""The program itself, interrupted: answers that get lost, engines that are killed, and what `make repair` does then."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.program_engine import ProgramEngine
from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.waiting import eventually
from tools.environment import ROOT


def targets(*names: str) -> list[str]:
    return [word for name in names for word in ("--target", f"**::{name}")]


#: Everything in the account but the machine and what is on it.
BASE = targets("admin-key*", "ssh-key", "network*", "dns*", "server", "server-data", "server-address")
#: The same with them, as it is before a step runs on the machine.
ALL = [*BASE, *targets("server-host-keys*", "server-droplet", "server-data-attachment", "server-address-assignment")]
#: A create of each kind, as it is asked for.
CREATES = (
    *("/v2/account/keys", "/v2/vpcs", "/v2/firewalls", "/v2/volumes", "/v2/domains", "/v2/domains/*/records"),
    *("/v2/droplets", "/v2/volumes/*/actions", "/v2/reserved_ips/*/actions"),
)
ONE_OF_EACH = {
    **{"ssh_keys": 1, "vpcs": 1, "firewalls": 2, "volumes": 1, "domains": 1, "domain_records": 6, "tags": 2},
    **{"droplets": 1, "reserved_ips": 1},
}


@pytest.fixture
def account(cloud: EmulatedCloud) -> EmulatedCloud:
    """An account whose region has a default network already."""
    cloud.http.post("/v2/vpcs", json={"name": "another", "region": "nyc3"}).raise_for_status()
    return cloud


def counted(cloud: EmulatedCloud) -> dict[str, int]:
    return {kind: len(things) for kind, things in cloud.exists().items()}


def pending(engine: ProgramEngine) -> list[str]:
    state = json.loads(engine.state.read_text())["checkpoint"]["latest"]
    return [one["resource"]["urn"].rpartition("::")[2] for one in state.get("pending_operations") or []]


def killed_while_creating_the_droplet(engine: ProgramEngine, cloud: EmulatedCloud) -> None:
    """Kill an update once the account has a droplet whose creation goes on, and nothing else is being created."""
    cloud.hold("droplet.create")
    process = engine.start("up", "--yes", "--skip-preview", *ALL)
    try:
        eventually(lambda: "droplets" in cloud.exists() and pending(engine) == ["server-droplet"], within_s=60)
    finally:
        process.kill()
        # The provider outlives the engine until its droplet is there.
        cloud.hold()
        process.communicate()


def test_an_update_whose_answers_get_lost_completes_and_leaves_one_of_each(
    account: EmulatedCloud, tmp_path: Path
) -> None:
    engine = ProgramEngine(tmp_path / "engine", account)
    for path in CREATES:
        account.add_fault({"method": "POST", "path": path, "drop": True, "after": True})
    output = engine.up(*ALL)
    assert counted(account) == ONE_OF_EACH
    assert output.count("was created by a request whose answer was lost") >= 7
    assert engine.changes(*ALL).keys() == {"same"}


def test_after_a_kill_one_command_settles_what_it_left_and_the_next_update_completes(
    account: EmulatedCloud, tmp_path: Path
) -> None:
    engine = ProgramEngine(tmp_path / "engine", account)
    killed_while_creating_the_droplet(engine, account)
    [lost] = account.exists()["droplets"]
    assert pending(engine) == ["server-droplet"]
    refusal = engine.run("preview", fails=True)
    assert f"the account has a droplet slipway-test (ID {lost['id']})" in refusal
    assert "make repair STACK=test" in refusal

    asked = engine.tool("repair", "--stack", "test", "--config-file", str(engine.file), fails=2)
    assert f"Droplet slipway-test (ID {lost['id']}): deleted, and created again by the update" in asked
    assert pending(engine) == ["server-droplet"]
    assert account.exists()["droplets"] == [lost]

    done = engine.tool("repair", "--stack", "test", "--config-file", str(engine.file), "--yes")
    assert "removing the lock of that update, whose process no longer runs" in done
    assert pending(engine) == []
    assert "pending operations" not in engine.up(*ALL)
    [made] = account.exists()["droplets"]
    assert made["id"] != lost["id"]
    assert "has left anything" in engine.tool("repair", "--stack", "test", "--config-file", str(engine.file))


def test_an_empty_lock_and_an_empty_state_are_put_right_by_the_documented_commands(
    account: EmulatedCloud, tmp_path: Path
) -> None:
    del account
    engine = Engine(tmp_path / "engine", "environment", {})
    engine.up()
    folder = tmp_path / "engine" / "backend"
    state = folder / ".pulumi" / "stacks" / "small" / "test.json"
    lock = folder / ".pulumi" / "locks" / "organization" / "small" / "test" / "4b1a4f4e.json"
    whole = engine.resources()
    state.write_text("")
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("")
    assert "place 1: unexpected end of JSON input" in engine.run("stack", "export", fails=True)
    copied, cancelled, _ = documented("cp .pulumi")
    subprocess.run(copied.replace("slipway", "small").split(), cwd=folder, check=True)
    assert engine.resources() == whole
    refused = engine.run("up", "--yes", "--skip-preview", fails=True)
    assert "error: unexpected end of JSON input" in refused
    engine.run(*cancelled.split()[1:])
    engine.up()
    assert not lock.exists()


def test_empty_attributes_of_the_state_are_removed_by_the_repair_and_by_the_documented_command(
    account: EmulatedCloud, tmp_path: Path
) -> None:
    engine = ProgramEngine(tmp_path / "engine", account)
    attributes = engine.state.with_name("test.json.attrs")
    whole = engine.state.read_text()
    [command] = re.findall(r"`(rm \.pulumi/.+?)`", (ROOT / "docs" / "troubleshooting.md").read_text())
    words = shlex.split(command.replace("STACK", "test"))

    attributes.write_text("")
    assert "failed to load checkpoint: EOF" in engine.run("cancel", "--yes", "test", fails=True)
    said = engine.tool("repair", "--stack", "test", "--config-file", str(engine.file))
    assert "an update was killed while it wrote test.json, which is whole" in said
    engine.run("cancel", "--yes", "test")

    attributes.write_text("")
    subprocess.run(words, cwd=tmp_path / "engine" / "backend", check=True)
    engine.run("cancel", "--yes", "test")
    assert engine.state.read_text() == whole


def test_what_plain_pulumi_was_killed_at_is_cleared_by_the_documented_command(
    account: EmulatedCloud, tmp_path: Path
) -> None:
    del account
    engine = Engine(tmp_path / "engine", "environment", {})
    engine.up()
    file = tmp_path / "engine" / "backend" / ".pulumi" / "stacks" / "small" / "test.json"
    content = json.loads(file.read_text())
    resource = {"urn": "urn:pulumi:test::small::random:index/randomId:RandomId::killed", "custom": True}
    resource["type"] = "random:index/randomId:RandomId"
    content["checkpoint"]["latest"]["pending_operations"] = [{"resource": resource, "type": "creating"}]
    file.write_text(json.dumps(content))
    assert "1 pending operations from previous deployment" in engine.up()
    [command] = documented("pulumi refresh --clear-pending-creates")
    engine.run(*shlex.split(command)[1:], "--yes", "--skip-preview")
    assert "pending operations" not in engine.up()


def documented(begin: str) -> list[str]:
    """The commands of the block in the documentation that begins like this, for the stack `test`."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    [block] = [one for one in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if one.startswith(begin)]
    return [line.replace("STACK", "test") for line in block.splitlines()]


def test_what_can_be_imported_is_taken_over_as_it_is(account: EmulatedCloud, tmp_path: Path) -> None:
    engine = ProgramEngine(tmp_path / "engine", account)
    engine.up(*BASE)
    before = account.exists()
    # As a kill leaves it between the answers of the API and the next write of the state.
    forgotten = {"ssh-key", "network-vpc", "network-runner-firewall", "network-server-base-firewall"}
    forgotten |= {"server-data", "dns-domain", "dns-a", "dns-caa"}
    engine.forget(forgotten)
    refusal = engine.run("preview", fails=True)
    assert refusal.count("make repair STACK=test") >= 5, refusal
    done = engine.tool("repair", "--stack", "test", "--config-file", str(engine.file), "--yes")
    assert done.count("taken over as") == len(forgotten)
    assert "create" not in engine.changes(*BASE)
    engine.up(*BASE)
    # Writing a zone changes its serial number.
    assert account.exists() | {"domains": before["domains"]} == before
