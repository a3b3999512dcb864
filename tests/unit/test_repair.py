"""`make repair`: what it takes an interrupted update's, and what it leaves alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.account_api import AccountApi, served
from tests.unit.test_down import resource
from tools import clusters, processes
from tools import repair as module
from tools import strays as strays_module
from tools.progress import ToolError
from tools.state import StackState

BORN = "2026-11-26T08:00:00.123456Z"
NETWORK = {"urn": "urn:pulumi:test::slipway::slipway:index:Network::network", "type": "slipway:index:Network"}
SERVER = {"urn": "urn:pulumi:test::slipway::slipway:index:GitLabServer::server", "type": "slipway:index:GitLabServer"}
STACK = {
    "urn": "urn:pulumi:test::slipway::pulumi:pulumi:Stack::slipway-test",
    "type": "pulumi:pulumi:Stack",
    "created": BORN,
}
PAIR = resource(
    "tls:index/privateKey:PrivateKey", "admin-key-pair", "k", outputs={"publicKeyOpenssh": "ssh-ed25519 AAAA\n"}
)


def interrupted(name: str, type_: str = "creating") -> dict[str, Any]:
    return {"type": type_, "resource": {"urn": f"urn:pulumi:test::slipway::some:index/thing:Thing::{name}"}}


class World:
    """An account, a state with what a stack has before its first droplet, and the commands that were run."""

    def __init__(self, api: AccountApi, file: Path) -> None:
        self.api, self.file = api, file
        self.resources: list[dict[str, Any]] = [STACK, NETWORK, SERVER, PAIR]
        self.pending: list[dict[str, Any]] = []
        self.commands: list[list[str]] = []
        self.imports: list[dict[str, Any]] = []
        #: What `pulumi refresh` says, one after the other; then nothing, and that it has succeeded.
        self.answers: list[str] = []

    def repair(self, *, confirmed: bool = True) -> int:
        return module.repair("test", file=self.file, confirmed=confirmed)

    def run_attached(self, command: list[str], _: object) -> int:
        self.commands.append(command)
        self.imports.append(json.loads(Path(command[command.index("--file") + 1]).read_text()))
        return 0

    def try_run(self, *command: str, **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        text = self.answers.pop(0) if self.answers and command[1] == "refresh" else ""
        return subprocess.CompletedProcess(command, 1 if text else 0, text, "")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    file = tmp_path / "Pulumi.test.yaml"
    settings = {"domain": "example.test", "adminCidrs": ["192.0.2.10/32"], "server": {"vpcCidr": "10.9.0.0/24"}}
    file.write_text(yaml.safe_dump({"config": {f"slipway:{key}": value for key, value in settings.items()}}))
    with served(monkeypatch) as api:
        made = World(api, file)
        monkeypatch.setattr(strays_module, "all_stacks", lambda: ["organization/slipway/test"])
        monkeypatch.setattr(strays_module, "stack_files", dict)
        monkeypatch.setattr(
            StackState,
            "of_stack",
            lambda name: StackState(
                name, {"deployment": {"resources": made.resources, "pending_operations": made.pending}}
            ),
        )
        monkeypatch.setattr(processes, "run_attached", made.run_attached)
        monkeypatch.setattr(module, "try_run", made.try_run)
        yield made


def droplet(number: int, **more: Any) -> dict[str, Any]:
    base = {"id": number, "name": "slipway-test", "tags": [], "size": {}, "region": {"slug": "nyc3"}}
    return {**base, "created_at": "2026-11-26T08:10:00Z", "status": "off", **more}


def test_data_is_taken_over_and_what_holds_none_is_deleted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.api.things |= {
        "/v2/droplets": [droplet(11)],
        "/v2/volumes": [{"id": "vol-1", "name": "slipway-test-data", "size_gigabytes": 50}],
        "/v2/vpcs": [{"id": "net-1", "name": "slipway-test-nyc3-10.9.0.0-24", "default": False}],
        "/v2/firewalls": [{"id": "f-1", "name": "slipway-test-registry-5555"}],
        "/v2/spaces/keys": [{"access_key": "DO00", "name": "slipway-test-registry", "grants": []}],
        "/v2/account/keys": [{"id": 7, "name": "slipway-test-admin", "public_key": "ssh-ed25519 AAAA"}],
    }
    assert world.repair() == 0
    assert world.api.writes == ["DELETE /v2/droplets/11", "DELETE /v2/spaces/keys/DO00"]
    [content] = world.imports
    assert [(one["name"], one["id"], one.get("parent")) for one in content["resources"]] == [
        ("server-data", "vol-1", "server"),
        ("public-access-registry-5555", "f-1", "public-access"),
        ("network-vpc", "net-1", "network"),
        ("ssh-key", "7", None),
    ]
    assert content["nameTable"]["network"] == NETWORK["urn"]
    assert content["nameTable"]["provider"].endswith("::pulumi:providers:digitalocean::digitalocean")
    printed = capsys.readouterr().out
    assert "Droplet slipway-test (ID 11): deleted, and created again by the update" in printed
    assert "Volume slipway-test-data (ID vol-1): taken over as server-data" in printed


def test_a_cluster_that_no_state_has_is_deleted_if_it_is_a_runners_of_the_stack(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "_PAUSE", 0)
    text = yaml.safe_load(world.file.read_text())
    text["config"] |= {
        "slipway:projects": [{"path": "hello"}],
        "slipway:runners": [{"name": "pods", "kind": "kubernetes"}],
    }
    world.file.write_text(yaml.safe_dump(text))
    created = {"created_at": "2026-11-26T08:10:00Z", "status": {"state": "running"}}
    world.api.things["/v2/kubernetes/clusters"] = [
        {"id": "c1", "name": "slipway-test-pods", **created},
        {"id": "c2", "name": "slipway-test-others", **created},
    ]
    assert world.repair() == 0
    assert world.api.writes == ["DELETE /v2/kubernetes/clusters/c1/destroy_with_associated_resources/dangerous"]
    printed = capsys.readouterr().out
    assert "KubernetesCluster slipway-test-pods (ID c1): deleted, and created again by the update" in printed
    assert "slipway-test-others" not in printed


def test_a_managed_database_is_taken_over_because_data_may_be_in_it(world: World) -> None:
    text = yaml.safe_load(world.file.read_text())
    text["config"]["slipway:databases"] = {"postgresql": {"kind": "managed"}}
    world.file.write_text(yaml.safe_dump(text))
    cluster = {"id": "c1", "size": "db-s-1vcpu-2gb", "num_nodes": 1, "created_at": "2026-11-26T08:10:00Z"}
    world.api.things["/v2/databases"] = [{**cluster, "name": "slipway-test-postgresql"}]
    assert world.repair() == 0
    assert world.api.writes == []
    [content] = world.imports
    [imported] = content["resources"]
    assert (imported["name"], imported["id"], imported["parent"]) == ("databases-postgresql", "c1", "databases")
    assert imported["type"] == "digitalocean:index/databaseCluster:DatabaseCluster"


def test_the_machine_that_a_project_is_deployed_to_is_created_again_behind_the_firewall_that_is_there(
    world: World,
) -> None:
    target = "slipway-test-target-hello-demo"
    project = {"path": "hello", "deploy": [{"name": "demo", "droplet": {}, "healthCheck": {"command": "true"}}]}
    text = yaml.safe_load(world.file.read_text())
    text["config"] |= {"slipway:projects": [project], "slipway:runners": [{"name": "docker-builder"}]}
    world.file.write_text(yaml.safe_dump(text))
    component = "slipway:index:Delivery$slipway:index:Target"
    urn = f"urn:pulumi:test::slipway::{component}::delivery-target-hello-demo"
    world.resources.append({"urn": urn, "type": "slipway:index:Target"})
    world.api.things |= {
        "/v2/droplets": [droplet(11, name=target)],
        "/v2/firewalls": [{"id": "f-1", "name": target}, {"id": "f-2", "name": f"{target}-2"}],
    }
    assert world.repair() == 0
    assert world.api.writes == ["DELETE /v2/droplets/11"]
    [content] = world.imports
    [firewall] = content["resources"]
    assert (firewall["name"], firewall["id"]) == ("delivery-target-hello-demo-firewall", "f-1")
    assert content["nameTable"][firewall["parent"]] == urn


@pytest.mark.parametrize(
    "things",
    [
        {"/v2/droplets": [droplet(11, created_at="2026-11-25T08:00:00Z")]},
        {"/v2/droplets": [droplet(11, volume_ids=["theirs"])]},
        {"/v2/droplets": [droplet(11, name="slipway-test-2")]},
        {"/v2/account/keys": [{"id": 7, "name": "slipway-test-admin", "public_key": "ssh-ed25519 BBBB"}]},
        {
            "/v2/domains": [{"name": "example.test"}],
            "/v2/domains/example.test/records": [{"id": 1, "type": "MX", "name": "@", "data": "mail.example.test"}],
        },
        {"/v2/volumes": [{"id": "v", "name": "slipway-test-more", "size_gigabytes": 1}]},
    ],
    ids=["older than the stack", "in use", "another stack's", "another key", "a zone with mail", "another name"],
)
def test_what_an_interrupted_update_cannot_have_made_is_left_alone(world: World, things: dict[str, Any]) -> None:
    world.api.things |= things
    assert world.repair() == 0
    assert (world.api.writes, world.imports) == ([], [])


def test_a_stack_whose_names_were_never_seen_to_be_free_takes_nothing(world: World) -> None:
    world.resources.remove(NETWORK)
    world.api.things["/v2/droplets"] = [droplet(11)]
    assert world.repair() == 0
    assert world.api.writes == []


def test_without_a_yes_nothing_is_touched(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.api.things["/v2/droplets"] = [droplet(11)]
    world.pending = [interrupted("server-droplet")]
    assert world.repair(confirmed=False) == strays_module.FOUND
    assert (world.api.writes, world.commands) == ([], [])
    assert "make repair STACK=test ARGS=--yes" in capsys.readouterr().out


def test_what_the_state_has_is_not_taken_over_a_second_time(world: World) -> None:
    world.resources.append(resource("Volume", "server-data", "vol-1"))
    world.api.things["/v2/volumes"] = [{"id": "vol-2", "name": "slipway-test-data", "size_gigabytes": 50}]
    assert world.repair() == 0
    assert world.imports == []


@pytest.mark.parametrize("is_pending", [True, False])
def test_an_address_is_taken_over_if_its_creation_was_interrupted_or_somebody_says_so(
    is_pending: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = {"ip": "203.0.113.7", "droplet": None, "region": {"slug": "nyc3"}}
    world.api.things["/v2/reserved_ips"] = [address]
    world.pending = [interrupted("server-address")] if is_pending else []
    assert world.repair() == 0
    assert bool(world.imports) is is_pending
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("tools.repair.Confirm.ask", lambda *_, **__: True)
    assert world.repair(confirmed=False) == 0
    assert world.imports[-1]["resources"][0]["id"] == "203.0.113.7"
    # Of two, nobody can say which one it was.
    world.api.things["/v2/reserved_ips"] = [address, {**address, "ip": "203.0.113.8"}]
    assert world.repair(confirmed=False) == 0
    assert len(world.imports) == 1 + is_pending


def test_pending_operations_are_cleared_without_reading_anything_else(world: World) -> None:
    world.pending = [interrupted("server-data"), interrupted("gitlab-package", "updating")]
    assert world.repair() == 0
    [command] = world.commands
    assert "--clear-pending-creates" in command
    assert command[command.index("--target") + 1] == STACK["urn"]


def test_the_lock_of_a_process_that_has_ended_here_is_removed_and_any_other_is_not(world: World) -> None:
    world.pending = [interrupted("server-data")]
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    words = "error: the stack is currently locked by 1 lock(s).\n  file:///x.json: created by ops@{} (pid {}) at now"
    world.answers = [words.format(platform.node(), ended.pid)]
    assert world.repair() == 0
    assert [command[1] for command in world.commands] == ["refresh", "cancel", "refresh"]
    for host, process in ((platform.node(), os.getpid()), ("elsewhere", ended.pid)):
        world.commands, world.answers = [], [words.format(host, process)]
        with pytest.raises(ToolError, match="the stack is currently locked by 1 lock"):
            world.repair()
        assert [command[1] for command in world.commands] == ["refresh"]


def test_an_import_that_fails_says_how_to_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.api.things["/v2/volumes"] = [{"id": "vol-1", "name": "slipway-test-data", "size_gigabytes": 50}]
    monkeypatch.setattr(processes, "run_attached", lambda *_: 1)
    with pytest.raises(ToolError, match="make repair STACK=test again"):
        world.repair()


def test_only_empty_attributes_in_a_folder_with_states_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / ".pulumi" / "stacks" / "slipway"
    folder.mkdir(parents=True)
    for name, content in {"a.json": "{}", "a.json.attrs": "", "b.json": "", "b.json.attrs": "{}"}.items():
        (folder / name).write_text(content)
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://bucket")
    module.drop_empty_attributes()
    assert len(list(folder.iterdir())) == 4
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}")
    module.drop_empty_attributes()
    assert sorted(file.name for file in folder.iterdir()) == ["a.json", "b.json", "b.json.attrs"]
