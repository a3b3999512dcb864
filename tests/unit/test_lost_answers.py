"""Creates whose answer was lost: what is deleted, what is repeated, and what is left alone."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from components import api as api_module
from components import lost_answers as module
from tests.unit.account_api import AccountApi, served
from tests.unit.engine import RecordingEngine, run_program

#: Creates that can be repeated as they are, or whose thing the API does not list.
REPEATABLE = {
    "network-server-tag": "the API accepts a second tag of the same name",
    "network-runner-tag": "the same",
}
LOST = "POST https://api.digitalocean.com/v2/droplets: unexpected EOF"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[AccountApi]:
    monkeypatch.setattr(module, "_POLL", 0)
    monkeypatch.setattr(api_module, "_POLL_SECONDS", 0)
    with served(monkeypatch) as served_api:
        yield served_api


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", found.append)
    return found


class Hooks:
    """The hooks that the program gives to a resource, called as the engine does."""

    def __init__(self, name: str, inputs: dict[str, Any]) -> None:
        self._engine = program()
        self._name, self._inputs = name, inputs

    def before(self) -> None:
        hook = self._engine.hooks[f"{self._name}-before-create"]
        asyncio.run(hook.callback(self._args("")))  # type: ignore[arg-type]

    def after(self, identifier: str) -> None:
        hook = self._engine.hooks[f"{self._name}-after-create"]
        asyncio.run(hook.callback(self._args(identifier)))  # type: ignore[arg-type]

    def failed(self, *errors: str, operation: str = "create") -> bool:
        """Whether the engine would repeat it."""
        args = pulumi.ErrorHookArgs(
            "urn", "", self._name, "type", self._inputs, failed_operation=operation, errors=list(errors)
        )
        return bool(asyncio.run(self._engine.error_hooks[f"{self._name}-on-error"].callback(args)))  # type: ignore[arg-type]

    def _args(self, identifier: str) -> pulumi.ResourceHookArgs:
        return pulumi.ResourceHookArgs("urn", identifier, self._name, "type", self._inputs)


@functools.cache
def program() -> RecordingEngine:
    """A stack that has one of everything."""
    runners: dict[str, Any] = {
        "projects": [{"path": "hello", "runners": ["docker"]}],
        "runners": [{"name": "docker"}],
    }
    spaces: dict[str, Any] = {"registry": {"storage": "spaces"}, "backup": {"enabled": True}}
    databases = {"postgresql": {"kind": "managed"}, "valkey": {"kind": "managed"}}
    return run_program(**runners, **spaces, databases=databases)


def droplet(number: int, name: str = "slipway-test") -> dict[str, Any]:
    return {"id": number, "name": name, "region": {"slug": "nyc3"}}


SERVER = {"name": "slipway-test", "region": "nyc3"}


def test_every_resource_of_the_account_is_looked_for_when_its_creation_fails() -> None:
    creates = [one for one in program().registrations if one.type.startswith("digitalocean:")]
    assert len(creates) > 20
    without = {one.name for one in creates if not one.request.hooks.on_error}
    assert without == REPEATABLE.keys()
    for one in creates:
        for name in one.request.hooks.on_error:
            assert name in program().error_hooks


def test_a_droplet_of_a_lost_answer_is_deleted_and_the_create_repeated(api: AccountApi, warnings: list[str]) -> None:
    api.things["/v2/droplets"] = [droplet(1, "theirs"), droplet(2)]
    hooks = Hooks("server-droplet", SERVER)
    hooks.before()
    api.things["/v2/droplets"] += [droplet(3), droplet(4, "theirs-too")]
    # It is not complete yet.
    api.refusals["DELETE /v2/droplets/3"] = 422
    assert hooks.failed(LOST)
    assert api.writes == ["DELETE /v2/droplets/3", "DELETE /v2/droplets/3"]
    [warning] = warnings
    assert "droplet slipway-test (ID 3) was created by a request whose answer was lost" in warning


def test_what_a_repeated_request_has_made_twice_is_deleted_but_the_one_that_the_state_gets(
    api: AccountApi, warnings: list[str]
) -> None:
    hooks = Hooks("registry-bucket-key", {"name": "slipway-test-registry"})
    api.things["/v2/spaces/keys"] = [{"name": "slipway-test-registry", "access_key": "DO-former"}]
    hooks.before()
    api.things["/v2/spaces/keys"] += [
        {"name": "slipway-test-registry", "access_key": "DO-lost"},
        {"name": "slipway-test-registry", "access_key": "DO-own"},
    ]
    hooks.after("DO-own")
    assert api.writes == ["DELETE /v2/spaces/keys/DO-lost"]
    assert "Spaces key slipway-test-registry (ID DO-lost)" in warnings[0]


@pytest.mark.parametrize(
    "errors",
    [
        ["droplet 3 did not become active"],
        ["operation canceled"],
        [LOST, LOST, LOST],
    ],
    ids=["the provider has recorded it", "somebody has stopped the engine", "too often"],
)
def test_nothing_is_deleted_that_the_state_gets_or_that_nobody_asked_to_repeat(
    errors: list[str], api: AccountApi
) -> None:
    hooks = Hooks("server-droplet", SERVER)
    hooks.before()
    api.things["/v2/droplets"] = [droplet(3)]
    assert not hooks.failed(*errors)
    assert not hooks.failed(LOST, operation="delete")
    assert api.writes == []


def test_what_was_there_before_is_never_deleted_and_an_error_of_the_api_hides_no_other(
    api: AccountApi, warnings: list[str]
) -> None:
    api.things["/v2/volumes"] = [{"id": "v", "name": "slipway-test-data", "region": {"slug": "nyc3"}}]
    hooks = Hooks("server-data", {"name": "slipway-test-data", "region": "nyc3"})
    hooks.before()
    assert not hooks.failed("422 must be unique")
    api.things["/v2/volumes"].append({"id": "w", "name": "slipway-test-data", "region": {"slug": "nyc3"}})
    api.refusals["DELETE /v2/volumes/w"] = 500
    assert not hooks.failed(LOST)
    assert "could not be put right: DigitalOcean refused DELETE /v2/volumes/w: 500" in warnings[0]


@pytest.mark.parametrize(
    ("name", "path", "inputs", "thing"),
    [
        ("ssh-key", "/v2/account/keys", {"publicKey": "ssh-ed25519 A\n"}, {"id": 7, "public_key": "ssh-ed25519 A"}),
        ("dns-domain", "/v2/domains", {"name": "example.test"}, {"name": "example.test"}),
        ("network-vpc", "/v2/vpcs", {"name": "n"}, {"id": "v", "name": "n", "default": False}),
        ("public-access-firewall", "/v2/firewalls", {"name": "f"}, {"id": "f1", "name": "f"}),
        (
            "dns-caa",
            "/v2/domains/example.test/records",
            {"domain": "example.test", "type": "CAA", "name": "gitlab", "value": "letsencrypt.org."},
            {"id": 9, "type": "CAA", "name": "gitlab", "data": "letsencrypt.org"},
        ),
    ],
)
def test_things_of_each_kind_are_recognised(
    name: str, path: str, inputs: dict[str, Any], thing: dict[str, Any], api: AccountApi
) -> None:
    api.things[path] = []
    hooks = Hooks(name, inputs)
    hooks.before()
    api.things[path] = [thing]
    # The provider's message about a zone names it, whether it has recorded it or not.
    assert hooks.failed(f"POST {path}: unexpected EOF; domain 'example.test'")
    assert api.writes == [f"DELETE {path}/{thing.get('id') or thing['name']}"]


def test_a_network_that_became_the_default_of_its_region_is_left_for_the_next_update(api: AccountApi) -> None:
    hooks = Hooks("network-vpc", {"name": "n"})
    hooks.before()
    api.things["/v2/vpcs"] = [{"id": "v", "name": "n", "default": True}]
    assert not hooks.failed(LOST)
    assert api.writes == []


def test_a_reserved_address_that_appeared_is_named_and_left_alone(api: AccountApi, warnings: list[str]) -> None:
    hooks = Hooks("server-address", {"region": "nyc3"})
    hooks.before()
    api.things["/v2/reserved_ips"] = [{"ip": "203.0.113.7", "droplet": None, "region": {"slug": "nyc3"}}]
    assert not hooks.failed(LOST)
    assert "pulumi import --stack test" in warnings[0]
    assert "reservedIp:ReservedIp server-address 203.0.113.7 --parent" in warnings[0]
    api.things["/v2/reserved_ips"].append({"ip": "203.0.113.8", "droplet": None, "region": {"slug": "nyc3"}})
    hooks.after("203.0.113.8")
    assert "203.0.113.7 appeared" in warnings[1]
    assert "doctl compute reserved-ip delete 203.0.113.7" in warnings[1]
    assert api.writes == []


@pytest.mark.parametrize("there", [4711, 12, None])
def test_an_address_that_is_assigned_already_is_assigned_once_more(
    there: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    droplet_, sent = there, []

    def request(path: str, body: Any = None, **_: Any) -> Any:
        nonlocal droplet_
        if body is not None:
            sent.append((path, body))
            droplet_ = None
        if path.endswith("/actions"):
            return {"actions": [{"status": "completed"}]}
        return {"reserved_ip": {"droplet": {"id": droplet_} if droplet_ else None}}

    monkeypatch.setattr("components.api.request", request)
    hooks = Hooks("server-address-assignment", {"ipAddress": "203.0.113.7", "dropletId": 4711.0})
    # One that points elsewhere is somebody else's.
    assert hooks.failed("422 The reserved IP is already assigned.") is (there == 4711)
    assert sent == ([("/v2/reserved_ips/203.0.113.7/actions", {"type": "unassign"})] if there == 4711 else [])


IN_A_CLUSTER = {"clusterId": "c1", "name": "gitlab"}


def test_what_a_cluster_does_not_know_of_yet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLUSTER_SPREADS_SECONDS", 0)
    unknown = "POST https://api.digitalocean.com/v2/databases/c1/users: 404 (request) cluster not found"
    for name in ("databases-user", "databases-gitlab", "databases-postgresql-firewall", "databases-valkey-firewall"):
        hooks = Hooks(name, IN_A_CLUSTER)
        assert hooks.failed(unknown)
        assert not hooks.failed(unknown, unknown, unknown)
        assert not hooks.failed("POST …: 422 invalid user name")
        assert not hooks.failed(unknown, operation="delete")


@pytest.mark.parametrize(("name", "path"), [("databases-user", "users"), ("databases-gitlab", "dbs")])
@pytest.mark.parametrize("is_new", [True, False], ids=["of a new cluster", "of one that has others"])
def test_a_user_or_database_of_a_lost_answer_is_deleted_and_the_create_repeated(
    name: str, path: str, is_new: bool, api: AccountApi, warnings: list[str]
) -> None:
    place = f"/v2/databases/c1/{path}"
    if not is_new:
        api.things[place] = [{"name": "doadmin"}]
    hooks = Hooks(name, IN_A_CLUSTER)
    hooks.before()
    api.things[place] = [{"name": "doadmin"}, {"name": "gitlab"}]
    assert hooks.failed(LOST)
    assert api.writes == [f"DELETE {place}/gitlab"]
    assert len(warnings) == 1
    # One that was there before is nobody's to delete.
    api.things[place] = [{"name": "gitlab"}]
    hooks.before()
    assert not hooks.failed(LOST)


@pytest.mark.parametrize(
    ("component", "parent", "name"),
    [
        ("RegistryBucket", "registry-bucket", "registry-bucket-bucket"),
        ("ObjectBuckets", "object-buckets", "object-buckets-ci-secure-files"),
    ],
)
def test_a_bucket_whose_answer_was_lost_is_named_with_the_line_that_imports_it(
    warnings: list[str], component: str, parent: str, name: str
) -> None:
    engine = run_program(objectStorage={"storage": "spaces"})
    hook = engine.error_hooks[f"{name}-on-error"]
    urn = "urn:pulumi:test::slipway::"
    inputs = {"name": "slipway-test-registry-0a1b2c3d", "region": "nyc3"}
    own = "digitalocean:index/spacesBucket:SpacesBucket"
    for error, lines in (("AccessDenied: Access Denied", 0), ("BucketAlreadyOwnedByYou: …", 1)):
        args = pulumi.ErrorHookArgs(
            f"{urn}slipway:index:{component}${own}::{name}",
            "",
            name,
            own,
            inputs,
            failed_operation="create",
            errors=[error],
        )
        assert asyncio.run(hook.callback(args)) is False  # type: ignore[arg-type]
        assert len(warnings) == lines
    assert warnings[0].splitlines()[1] == (
        f"pulumi import --stack test --generate-code=false --protect=false {own} {name} "
        f"nyc3,{inputs['name']} --parent 'parent={urn}slipway:index:{component}::{parent}' "
        f"--provider 'provider={urn}slipway:index:{component}$pulumi:providers:digitalocean::{parent}-maker'"
    )


def test_an_attachment_whose_answer_was_lost_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL", 0)
    states = iter(["in-progress", "in-progress", "completed", "completed"])

    def request(path: str, *_: Any, **__: Any) -> Any:
        if path.endswith("/actions"):
            return {"actions": [{"status": next(states)}]}
        return {"volume": {"droplet_ids": [4711]}}

    monkeypatch.setattr("components.api.request", request)
    assert Hooks("server-data-attachment", {"volumeId": "v", "dropletId": 4711.0}).failed(LOST)
    assert not Hooks("server-data-attachment", {"volumeId": "v", "dropletId": 4712.0}).failed(LOST)
