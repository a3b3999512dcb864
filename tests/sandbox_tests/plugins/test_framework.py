"""What all provider plugins have in common: values, checks, differences, names, installation."""

from __future__ import annotations

import importlib.metadata
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import grpc  # type: ignore[import-untyped]
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from tests.sandbox.plugins.base.framework import Call, Checker, Field, Fields, Kind, Resource
from tests.sandbox.plugins.base.properties import (
    UNKNOWN,
    Asset,
    Properties,
    Secret,
    Unknown,
    decode,
    encode,
    has_unknown,
)
from tests.sandbox.plugins.base.server import autoname
from tests.sandbox.plugins.install import install
from tools.pulumi import required_plugins


class Thing(Resource):
    """A resource with one input of every sort."""

    full_name = "test:index:Thing"
    outputs = ("made",)
    inputs: ClassVar[Fields] = {
        "name": Field(required=True, replace=True, normal=str.lower),
        "count": Field(Kind.INTEGER, default=1),
        "place": Field(computed=True, replace=True),
        "tags": Field(Kind.LIST, items=Kind.STRING, unordered=True),
        "steps": Field(Kind.LIST, items=Kind.STRING),
        "rules": Field(Kind.LIST, fields={"port": Field(required=True), "open": Field(Kind.BOOLEAN)}, unordered=True),
        "grown": Field(Kind.INTEGER, replace=lambda old, new: new < old),
        "policy": Field(Kind.MAP, fields={"on": Field(Kind.BOOLEAN), "often": Field(computed=True)}),
    }

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        raise NotImplementedError


def check(values: Properties) -> tuple[Properties, list[str]]:
    checker = Checker()
    checked = checker.check(Thing.inputs, values)
    return checked, [f"{failure.path}: {failure.reason}" for failure in checker.failures]


def differences(old: Properties, new: Properties) -> dict[str, bool]:
    return dict(Thing().differences(old, new))


def test_values_survive_the_round_trip_to_the_engine() -> None:
    values = {"s": "x", "i": 3, "f": 0.5, "b": False, "l": [1, {"a": []}], "u": [UNKNOWN], "none": None}
    back = decode(encode(values))
    assert back.keys() == values.keys() - {"none"}
    assert {name: back[name] for name in "sifbl"} == {name: values[name] for name in "sifbl"}
    assert back["u"][0] is UNKNOWN
    assert isinstance(back["i"], int)


def test_secrets_are_marked_on_the_way_out_and_unwrapped_on_the_way_in() -> None:
    struct = encode({"password": Secret("p")})
    assert struct.fields["password"].struct_value.fields[rpc._special_sig_key].string_value == rpc._special_secret_sig
    assert decode(struct) == {"password": "p"}
    assert "p" not in repr(Secret("p")).removeprefix("<secret>")


def test_an_unknown_value_is_found_at_any_depth_and_equals_nothing() -> None:
    assert has_unknown({"a": [{"b": UNKNOWN}]})
    assert not has_unknown({"a": [{"b": None}]})
    assert {"a": Unknown()} != {"a": UNKNOWN}
    assert [UNKNOWN] != ["x"]


def test_assets_are_equal_if_their_contents_are() -> None:
    one = Asset(archive=False, fields={"path": "a", "hash": "1"})
    assert one == Asset(archive=False, fields={"path": "b", "hash": "1"})
    assert one != Asset(archive=False, fields={"path": "a", "hash": "2"})
    assert one != Asset(archive=True, fields={"path": "a", "hash": "1"})


def test_defaults_are_filled_in_and_simple_types_converted() -> None:
    checked, wrong = check({"name": 5, "rules": [{"port": 22, "open": "true"}]})
    assert checked == {"name": "5", "count": 1, "rules": [{"port": "22", "open": True}]}
    assert wrong == []


def test_unknown_values_pass_every_check() -> None:
    checked, wrong = check({"name": UNKNOWN, "count": UNKNOWN, "tags": [UNKNOWN], "rules": [{"port": UNKNOWN}]})
    assert wrong == []
    assert checked["count"] is UNKNOWN


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name: missing required property"),
        ({"name": "n", "colour": 1}, "colour: unknown property; the sandbox's plugin supports count"),
        ({"name": "n", "count": "two"}, "count: expected a whole number, got str"),
        ({"name": "n", "count": True}, "count: expected a whole number, got bool"),
        ({"name": "n", "tags": "t"}, "tags: expected a list, got str"),
        ({"name": "n", "rules": [{"open": True}]}, "rules[0].port: missing required property"),
        ({"name": "n", "rules": [{"port": "1", "x": 1}]}, "rules[0].x: unknown property"),
        ({"name": "n", "rules": ["22"]}, "rules[0]: expected a map, got str"),
    ],
)
def test_an_input_that_does_not_match_the_schema_is_refused_with_its_path(values: Properties, message: str) -> None:
    _, wrong = check(values)
    assert len(wrong) == 1
    assert wrong[0].startswith(message)


def test_order_and_normal_forms_make_no_difference() -> None:
    rules = [{"port": "1", "open": None}, {"port": "2"}]
    old = {"name": "Name", "tags": ["a", "b"], "steps": ["1", "2"], "rules": rules}
    assert differences(old, {**old, "name": "name", "tags": ["b", "a"], "rules": [{"port": "2"}, {"port": "1"}]}) == {}
    assert differences(old, {**old, "steps": ["2", "1"]}) == {"steps": False}


def test_a_change_replaces_only_where_the_schema_says_so() -> None:
    old = {"name": "a", "count": 1, "grown": 5}
    assert differences(old, {**old, "name": "b", "count": 2}) == {"name": True, "count": False}
    assert differences(old, {**old, "grown": 6}) == {"grown": False}
    assert differences(old, {**old, "grown": 4}) == {"grown": True}
    assert differences(old, {**old, "name": UNKNOWN}) == {"name": True}


def test_an_input_that_the_remote_side_fills_in_may_be_left_out() -> None:
    assert differences({"name": "a", "place": "here"}, {"name": "a"}) == {}
    assert differences({"name": "a", "place": "here"}, {"name": "a", "place": "there"}) == {"place": True}
    assert differences({"name": "a", "count": 2}, {"name": "a"}) == {"count": False}


def test_a_refresh_changes_only_inputs_that_were_given_and_have_changed() -> None:
    old = {"name": "Name", "tags": ["b", "a"]}
    state = {"name": "name", "tags": ["a", "c"], "place": "here", "count": 3, "made": "today"}
    assert Thing().refreshed_inputs(old, state) == {"name": "Name", "tags": ["a", "c"]}


def test_a_map_that_the_remote_side_fills_in_may_be_given_in_part() -> None:
    given, there = {"on": True}, {"on": True, "often": "daily"}
    assert differences({"name": "a", "policy": there}, {"name": "a", "policy": given}) == {}
    assert differences({"name": "a", "policy": given}, {"name": "a", "policy": there}) == {"policy": False}
    assert differences({"name": "a", "policy": there}, {"name": "a", "policy": {"often": "daily"}}) == {"policy": False}
    assert Thing().refreshed_inputs({"policy": given}, {"policy": there}) == {"policy": given}
    drifted = Thing().refreshed_inputs({"policy": given}, {"policy": {"on": False, "often": "daily"}})
    assert drifted == {"policy": {"on": False}}


def test_an_import_keeps_the_inputs_that_are_not_empty() -> None:
    state = {"name": "n", "count": 1, "tags": [], "place": "here", "made": "today"}
    assert Thing().imported_inputs(state) == {"name": "n", "count": 1, "place": "here"}


def naming(**options: Any) -> provider_pb2.CheckRequest:
    urn = "urn:pulumi:test::small::test:index:Thing::logical"
    return provider_pb2.CheckRequest(urn=urn, randomSeed=b"seed", **options)


def test_a_name_is_the_logical_name_and_seven_digits_and_stays_from_preview_to_update() -> None:
    name = autoname(naming())
    assert name.startswith("logical-")
    assert len(name) == len("logical-") + 7
    assert name == autoname(naming())


def test_a_name_proposed_by_the_engine_is_used() -> None:
    options = provider_pb2.CheckRequest.AutonamingOptions(proposed_name="proposed")
    assert autoname(naming(autonaming=options)) == "proposed"


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    home, binaries = tmp_path / "home", tmp_path / "bin"
    install(home, binaries, Path(sys.executable))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    install(home, binaries, Path(sys.executable))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == files
    plugins = {f"pulumi-resource-{name}" for name, _ in required_plugins()}
    assert {path.name for path in files} == {"pulumi-language-python", *plugins}
    assert all(os.access(path, os.X_OK) for path in files)


def test_a_plugin_carries_the_version_of_its_sdk(tmp_path: Path) -> None:
    install(tmp_path, tmp_path / "bin", Path(sys.executable))
    version = importlib.metadata.version("pulumi-digitalocean")
    assert (tmp_path / "plugins" / f"resource-digitalocean-v{version}" / "pulumi-resource-digitalocean").is_file()


@contextmanager
def plugin(folder: Path, name: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A plugin that runs, and its port."""
    install(folder, folder / "bin", Path(sys.executable))
    (launcher,) = folder.glob(f"plugins/resource-{name}-v*/pulumi-resource-{name}")
    with subprocess.Popen([launcher], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield process, port
        if process.poll() is None:
            process.terminate()


@pytest.mark.parametrize("name", sorted(name for name, _ in required_plugins()))
def test_a_plugin_prints_its_port_and_exits_cleanly(tmp_path: Path, name: str) -> None:
    with plugin(tmp_path, name) as (process, port):
        assert port > 0
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert errors == ""


def test_a_plugin_serves_requests_concurrently(tmp_path: Path) -> None:
    def create(number: int) -> str:
        # Each makes its own file and waits for all the others': one after the other would never end.
        command = f"cd {tmp_path}; touch {number}.here; until [ $(ls *.here | wc -l) -eq 40 ]; do sleep 0.05; done"
        request = provider_pb2.CreateRequest(
            urn="urn:pulumi:test::small::command:local:Command::it", properties=encode({"create": command})
        )
        return str(stub.Create(request, timeout=60).id)

    with plugin(tmp_path, "command") as (_, port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = provider_pb2_grpc.ResourceProviderStub(channel)
        with ThreadPoolExecutor(40) as pool:
            assert len(set(pool.map(create, range(40)))) == 40


def test_a_plugin_ends_with_the_engine(tmp_path: Path) -> None:
    install(tmp_path, tmp_path / "bin", Path(sys.executable))
    (launcher,) = tmp_path.glob("plugins/resource-random-v*/pulumi-resource-random")
    # A shell in the engine's place: it tells the plugin's number, waits for its port and is killed.
    script = '"$0" & echo $!; wait'
    with subprocess.Popen(["sh", "-c", script, launcher], stdout=subprocess.PIPE, text=True) as engine:
        assert engine.stdout is not None
        number = int(engine.stdout.readline())
        assert int(engine.stdout.readline()) > 0
        watched = os.pidfd_open(number)
        engine.kill()
        ready, _, _ = select.select([watched], [], [], 10)
        os.close(watched)
    assert ready


def test_the_protocol_is_had_without_the_sdk_which_can_be_imported_afterwards() -> None:
    script = """
import sys
from tests.sandbox.plugins.base import server
assert not [name for name in sys.modules if name.startswith("pulumi") and "runtime.proto" not in name]
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2
assert provider_pb2 is server.provider_pb2
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
