"""Buckets and objects of the provider `digitalocean` against a real S3 server on loopback."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.sandbox import layout
from tests.sandbox.plugins.base.framework import Call, Checker, PartlyMadeError, PluginError
from tests.sandbox.plugins.digitalocean.session import Session
from tests.sandbox.plugins.digitalocean.spaces import SpacesBucket, SpacesBucketObject, SpacesError
from tests.sandbox_tests.support.ports import free_port

ACCESS, SECRET = secrets.token_hex(10), secrets.token_hex(20)

pytestmark = pytest.mark.real_time("versitygw is written in Go: its clock cannot be moved, and it refuses other times")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an S3 server that knows `*.nyc3.spaces.test`."""
    folder = tmp_path_factory.mktemp("spaces")
    for name in ("accounts", "buckets", "versions"):
        (folder / name).mkdir()
    port = free_port()
    command = [
        str(layout.current().cache / "bin" / "versitygw"),
        *("--port", f"127.0.0.1:{port}", "--region", "nyc3", "--virtual-domain", "nyc3.spaces.test"),
        *("--iam-dir", str(folder / "accounts"), "--quiet"),
        *("posix", "--versioning-dir", str(folder / "versions"), str(folder / "buckets")),
    ]
    environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        for attempt in Retrying(
            stop=stop_after_delay(10), wait=wait_fixed(0.05), retry=retry_if_exception_type(ConnectionError)
        ):
            with attempt, socket.create_connection(("127.0.0.1", port)):
                pass
        yield port
        process.terminate()


@pytest.fixture
def call(server: int, monkeypatch: pytest.MonkeyPatch) -> Call:
    # The server stands as the proxy, so that nobody has to resolve the names of buckets.
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return calling(ACCESS, SECRET)


def calling(access: str, secret: str) -> Call:
    config = {
        "spacesAccessId": access,
        "spacesSecretKey": secret,
        "spacesEndpoint": "http://{{.Region}}.spaces.test",
    }
    return Call(Session(config), "", "it", threading.Event(), lambda _severity, _message: None)


def bucket_inputs(**inputs: Any) -> dict[str, Any]:
    checker = Checker()
    checked = checker.check(SpacesBucket.inputs, {"name": f"b-{secrets.token_hex(4)}", **inputs})
    assert checker.failures == []
    return checked


def create(call: Call, **inputs: Any) -> tuple[str, dict[str, Any]]:
    checked = bucket_inputs(**inputs)
    identifier, outputs = SpacesBucket().create(call, checked)
    return identifier, checked | outputs


def put(call: Call, bucket: str, **inputs: Any) -> tuple[str, dict[str, Any]]:
    checker = Checker()
    common = {"bucket": bucket, "key": "folder/object", "region": "nyc3"}
    checked = checker.check(SpacesBucketObject.inputs, common | inputs)
    assert [*checker.failures, *SpacesBucketObject().validate(checked)] == []
    identifier, outputs = SpacesBucketObject().create(call, checked)
    return identifier, checked | outputs


def test_a_bucket_has_its_names_as_outputs_and_is_read_back(call: Call) -> None:
    name, state = create(call)
    assert state["bucketUrn"] == f"do:space:{name}"
    assert state["bucketDomainName"] == f"{name}.nyc3.digitaloceanspaces.com"
    found = SpacesBucket().read(call, name, state)
    assert found is not None
    assert found[1]["name"] == name
    imported = SpacesBucket().read(call, f"nyc3,{name}", {})
    assert imported is not None
    assert imported[0] == name
    # As in the official plugin, which does not ask for it: the next update sets it.
    assert "acl" not in imported[1]


def test_a_missing_bucket_is_read_as_missing_and_cannot_be_deleted_again(call: Call) -> None:
    name, state = create(call)
    SpacesBucket().delete(call, name, state)
    assert SpacesBucket().read(call, name, state) is None
    with pytest.raises(PluginError, match="NoSuchBucket"):
        SpacesBucket().delete(call, name, state)


def test_a_bucket_with_objects_is_deleted_only_with_force(call: Call) -> None:
    name, state = create(call)
    put(call, name, content="x")
    with pytest.raises(SpacesError) as failure:
        SpacesBucket().delete(call, name, state)
    assert failure.value.code == "BucketNotEmpty"
    SpacesBucket().delete(call, name, {**state, "forceDestroy": True})
    assert SpacesBucket().read(call, name, state) is None


def test_force_deletes_every_version(call: Call) -> None:
    name, state = create(call, versioning={"enabled": True}, forceDestroy=True)
    found = SpacesBucket().read(call, name, state)
    assert found is not None
    assert found[1]["versioning"] == {"enabled": True}
    for text in ("one", "two"):
        put(call, name, content=text)
    SpacesBucket().delete(call, name, state)
    assert SpacesBucket().read(call, name, state) is None


def test_versioning_is_changed_in_place(call: Call) -> None:
    name, state = create(call)
    SpacesBucket().update(call, name, state, {**state, "versioning": {"enabled": True}})
    found = SpacesBucket().read(call, name, state)
    assert found is not None
    assert found[1]["versioning"] == {"enabled": True}


def test_a_bucket_whose_rules_are_refused_is_kept_in_the_state_without_them(call: Call) -> None:
    rules = [{"enabled": True, "abortIncompleteMultipartUploadDays": 3}]
    with pytest.raises(PartlyMadeError, match="lifecycleRules of bucket") as failure:
        create(call, lifecycleRules=rules)
    assert "lifecycleRules" not in failure.value.outputs
    assert SpacesBucket().read(call, failure.value.identifier, failure.value.outputs) is not None


def test_a_bucket_cannot_be_renamed(call: Call) -> None:
    name, state = create(call)
    with pytest.raises(PluginError, match="cannot be renamed"):
        SpacesBucket().update(call, name, state, {**state, "name": "other"})


def test_only_the_region_replaces_a_bucket() -> None:
    old = bucket_inputs(name="b")
    new = {**old, "region": "fra1", "forceDestroy": True, "acl": "public-read"}
    assert dict(SpacesBucket().differences(old, new)) == {"region": True, "forceDestroy": False, "acl": False}


def test_rules_without_an_id_match_the_ones_that_got_an_id() -> None:
    given = {"lifecycleRules": [{"enabled": True, "abortIncompleteMultipartUploadDays": 3}]}
    found = {"lifecycleRules": [{"id": "rule-0", "enabled": True, "abortIncompleteMultipartUploadDays": 3}]}
    assert dict(SpacesBucket().differences(given, found)) == {}


def test_an_object_is_put_read_changed_and_deleted(call: Call, tmp_path: Path) -> None:
    name, _ = create(call)
    key, state = put(call, name, content="früh", contentType="text/plain", metadata={"who": "me"})
    found = SpacesBucketObject().read(call, key, state)
    assert found is not None
    assert (found[1]["contentType"], found[1]["metadata"]) == ("text/plain", {"who": "me"})
    source = tmp_path / "source"
    source.write_bytes(b"\x00\x01")
    inputs = {item: state[item] for item in SpacesBucketObject.inputs if item in state and item != "content"}
    changed = SpacesBucketObject().update(call, key, state, {**inputs, "source": str(source)})
    assert changed["etag"] != state["etag"]
    client = call.session.spaces("nyc3")
    assert client.get_object(Bucket=name, Key=key)["Body"].read() == b"\x00\x01"
    SpacesBucketObject().delete(call, key, state)
    assert SpacesBucketObject().read(call, key, state) is None


def test_an_object_has_one_source_only() -> None:
    failures = list(SpacesBucketObject().validate({"content": "a", "source": "b"}))
    assert [failure.path for failure in failures] == ["content"]


def test_a_wrong_key_is_reported_without_the_secret(call: Call) -> None:
    del call
    wrong = secrets.token_hex(20)
    with pytest.raises(PluginError) as failure:
        create(calling(ACCESS, wrong))
    assert wrong not in str(failure.value)
