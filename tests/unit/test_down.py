"""`python -m tools down`: what it refuses, what it repeats, and what it says is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.account_api import AccountApi, served
from tools import down as module
from tools.progress import ToolError

#: Plays the CLI: prints the state, and records other commands. A file per command can say how it ends, and leave
#: another state behind.
PULUMI = """#!/bin/sh
if [ "$1 $2" = "stack export" ]; then cat "$WORLD/state"; exit; fi
printf '%s\\n' "$*" >>"$WORLD/commands"
number=$(wc -l <"$WORLD/commands" | tr -d ' ')
[ -e "$WORLD/after-$number" ] && cp "$WORLD/after-$number" "$WORLD/state"
exit "$(cat "$WORLD/code-$number" 2>/dev/null || echo 0)"
"""


def resource(kind: str, name: str, identifier: str, **more: Any) -> dict[str, Any]:
    type_ = kind if ":" in kind else f"digitalocean:index/{kind[0].lower()}{kind[1:]}:{kind}"
    urn = f"urn:pulumi:production::slipway::{type_}::{name}"
    return {"urn": urn, "type": type_, "custom": True, "id": identifier, **more}


DROPLET = resource("Droplet", "server-droplet", "11", outputs={"name": "slipway-production"})
VPC = resource("Vpc", "network-vpc", "net-1", outputs={"name": "slipway-production-nyc3"})
VOLUME = resource(
    "Volume", "server-data", "vol-1", protect=True, outputs={"name": "slipway-production-data", "size": 200}
)
BUCKET = resource("SpacesBucket", "bucket", "b", protect=True, outputs={"name": "slipway-production-registry-0bad"})
FULL = {"name": "slipway-production-registry-maker", "grants": [{"bucket": "", "permission": "fullaccess"}]}
KEY = resource("SpacesKey", "maker-key", "DO00", outputs=FULL)
TOKEN = resource("random:index/randomId:RandomId", "registry-bucket-suffix", "0bad")


class World:
    """A stack, the account that it is in, and the commands that were run."""

    def __init__(self, folder: Path, api: AccountApi) -> None:
        self.folder, self.api = folder, api

    def state(self, *resources: dict[str, Any], after: int = 0) -> None:
        """What the stack has now, or after so many commands."""
        name = f"after-{after}" if after else "state"
        (self.folder / name).write_text(json.dumps({"deployment": {"resources": resources}}))

    def ends(self, command: int, code: int) -> None:
        """The exit code of a command."""
        (self.folder / f"code-{command}").write_text(str(code))

    @property
    def commands(self) -> list[str]:
        """The commands besides reading."""
        file = self.folder / "commands"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    (tmp_path / "pulumi").write_text(PULUMI)
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("WORLD", str(tmp_path))
    with served(monkeypatch) as api:
        yield World(tmp_path, api)


def down(*options: str) -> int:
    return module.down("production", options, confirmed=True)


def test_what_is_kept_is_listed_with_its_price_and_nothing_else_is_kept(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.state(DROPLET, VPC, VOLUME, BUCKET, KEY, TOKEN)
    world.state(VOLUME, BUCKET, KEY, TOKEN, after=1)
    assert down() == 0
    assert world.commands == ["destroy --stack production --exclude-protected --yes --skip-preview --continue-on-error"]
    printed = capsys.readouterr().out
    for line in (
        "     20.00  volume slipway-production-data, 200 GiB",
        "      5.00  bucket slipway-production-registry-0bad; ",
        "      0.00  Spaces key slipway-production-registry-maker, with full access to every bucket of the account",
        "     25.00  in total",
        "Left in the stack's state, free of charge: registry-bucket-suffix.",
    ):
        assert line in printed


def test_after_everything_is_deleted_it_says_so_but_for_a_network_that_cannot_be_deleted(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.state(DROPLET, VPC)
    world.state(after=1)
    assert down() == 0
    assert "Nothing of this stack is left in the account." in capsys.readouterr().out
    world.state({**VPC, "retainOnDelete": True})
    world.state(after=2)
    assert down() == 0
    assert "VPC slipway-production-nyc3: the default network of its region cannot be deleted" in capsys.readouterr().out


def test_clusters_of_the_stack_and_their_nodes_are_not_in_the_way_of_the_network(world: World) -> None:
    database = resource("DatabaseCluster", "databases-postgresql", "d-1")
    world.state(DROPLET, VPC, database, resource("KubernetesCluster", "delivery-builder-kubernetes-cluster", "c-1"))
    urns = ("do:droplet:11", "do:dbaas:d-1", "do:kubernetes:c-1", "do:droplet:21", "do:kubernetes:c-2", "do:droplet:22")
    world.api.things["/v2/vpcs/net-1/members"] = [{"name": f"name of {urn}", "urn": urn} for urn in urns]
    world.api.things["/v2/droplets"] = [{"id": 21, "tags": ["k8s:c-1"]}, {"id": 22, "tags": ["k8s:c-2"]}]
    with pytest.raises(ToolError) as refusal:
        down()
    named = [urn for urn in urns if f"name of {urn} " in str(refusal.value)]
    assert named == ["do:kubernetes:c-2", "do:droplet:22"]
    assert world.commands == []


def test_members_of_the_network_that_are_not_the_stacks_are_named_before_anything_is_deleted(world: World) -> None:
    world.state(DROPLET, VPC)
    urns = ("do:droplet:11", "do:droplet:12", "do:loadbalancer:ab", "do:dbaas:cd", "do:natgateway:ef")
    world.api.things["/v2/vpcs/net-1/members"] = [{"name": f"name of {urn}", "urn": urn} for urn in urns]
    with pytest.raises(ToolError) as refusal:
        down()
    message = str(refusal.value)
    assert "do:droplet:11" not in message
    for words in (
        "droplet name of do:droplet:12 (ID 12) is in the VPC slipway-production-nyc3, and not in this stack",
        "doctl compute droplet delete 12",
        "doctl compute load-balancer delete ab",
        "doctl databases delete cd",
        "natgateway name of do:natgateway:ef (ID ef)",
    ):
        assert words in message
    assert world.commands == []


def test_a_network_that_stays_or_is_gone_already_is_not_in_the_way(world: World) -> None:
    world.api.things["/v2/vpcs/net-1/members"] = [{"name": "theirs", "urn": "do:droplet:12"}]
    world.state({**VPC, "retainOnDelete": True}, resource("Vpc", "other", "net-2"))
    world.state(after=1)
    assert down() == 0


ZONE = resource("Domain", "dns-domain", "acme.test", outputs={"name": "acme.test"})
RECORD = resource("DnsRecord", "dns-a", "3", outputs={"name": "gitlab", "type": "A", "value": "192.0.2.1"})
RECORDS = [
    {"id": 1, "name": "@", "type": "SOA", "data": "1800"},
    {"id": 2, "name": "@", "type": "NS", "data": "ns1.digitalocean.com"},
    {"id": 3, "name": "gitlab", "type": "A", "data": "192.0.2.1"},
]
MAIL = {"id": 4, "name": "@", "type": "MX", "data": "mail.acme.test"}


def test_records_of_others_in_the_zone_are_named_before_anything_is_deleted(world: World) -> None:
    world.state(ZONE, RECORD)
    world.api.things["/v2/domains/acme.test/records"] = [*RECORDS, MAIL, {**MAIL, "name": "www", "type": "A"}]
    with pytest.raises(ToolError) as refusal:
        down()
    assert "not in this stack: @ MX mail.acme.test, www A mail.acme.test. Delete them" in str(refusal.value)
    assert world.commands == []


@pytest.mark.parametrize(
    ("options", "records"),
    [({}, RECORDS), ({"protect": True}, [*RECORDS, MAIL]), ({"retainOnDelete": True}, [*RECORDS, MAIL]), ({}, None)],
)
def test_a_zone_that_stays_is_gone_or_has_nothing_of_others_is_not_in_the_way(
    world: World, options: dict[str, Any], records: list[dict[str, Any]] | None
) -> None:
    world.state({**ZONE, **options}, RECORD)
    if records is not None:
        world.api.things["/v2/domains/acme.test/records"] = records
    world.state(after=1)
    assert down() == 0


def test_a_zone_that_is_left_behind_is_listed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.state({**ZONE, "retainOnDelete": True})
    world.state(after=1)
    assert down() == 0
    assert "DNS zone acme.test: dns.zone is existing, so it is left to whoever else uses it" in capsys.readouterr().out


def test_what_somebody_else_has_deleted_is_found_out_and_the_destroy_repeated_once(world: World) -> None:
    world.state(DROPLET, VPC, VOLUME)
    world.ends(1, 255)
    world.state(DROPLET, VOLUME, after=1)
    world.state(VOLUME, after=2)
    assert down("--message", "tidy") == 0
    destroy = "destroy --stack production --exclude-protected --message tidy --yes --skip-preview --continue-on-error"
    # Protected resources stay out of it: to read a bucket needs a key that may be gone.
    refresh = f"refresh --stack production --yes --skip-preview --target {DROPLET['urn']}"
    assert world.commands == [destroy, refresh, destroy]


@pytest.mark.parametrize("code", [1, 255])
def test_a_destroy_that_fails_twice_fails(world: World, code: int) -> None:
    world.state(DROPLET)
    world.ends(1, code)
    world.ends(3, code)
    assert down() == code
    assert len(world.commands) == 3


def test_a_new_checkout_has_the_file_without_which_the_provider_does_not_start_and_only_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.state.ROOT", world.folder)
    provider = resource("pulumi:providers:gitlab", "gitlab", "p", inputs={"cacertFile": ".cache/ca/0bad.pem"})
    world.state(provider)
    file = world.folder / ".cache/ca/0bad.pem"
    seen: list[bool] = []

    def look(*_: object) -> int:
        seen.append(file.exists())
        return 0

    monkeypatch.setattr("tools.processes.run_attached", look)
    assert down() == 0
    assert (seen, file.exists()) == ([True], False)
    file.write_text("that of an update")
    assert down() == 0
    assert file.read_text() == "that of an update"


def test_an_interrupted_destroy_is_not_repeated(world: World) -> None:
    world.state(DROPLET)
    world.ends(1, 130)
    assert down() == 130
    assert len(world.commands) == 1


def test_without_a_terminal_or_consent_nothing_is_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.state(DROPLET)
    monkeypatch.setattr("rich.prompt.Confirm.ask", lambda *_, **__: False)
    with pytest.raises(ToolError, match="nothing was deleted"):
        module.down("production", [], confirmed=False)
    assert world.commands == ["destroy --stack production --exclude-protected --preview-only"]
