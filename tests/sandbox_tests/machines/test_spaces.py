"""Object storage: a key may do what it was granted, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.digitalocean.state.backend import Grant
from tests.sandbox.layout import SPACES_SUFFIX
from tests.sandbox.machines.spaces import GrantError
from tests.sandbox_tests.support.machines_tree import REGION, MachinesTree

pytestmark = pytest.mark.machines

_CLIENT = Path(__file__).with_name("spaces_client.py")
_LIFECYCLE = {
    "Rules": [
        {
            "ID": "unfinished",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
        }
    ]
}


class Client:
    """Calls object storage from the workstation with one key."""

    def __init__(self, tree: MachinesTree, key: str, secret: str, style: str = "virtual") -> None:
        self._tree = tree
        self._asked = {
            "endpoint": f"https://{REGION}.{SPACES_SUFFIX}",
            "region": REGION,
            "trust": str(tree.layout.ca_certificate),
            "key": key,
            "secret": secret,
            "style": style,
        }

    def __call__(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        asked = json.dumps({**self._asked, "calls": calls})
        finished = self._tree.run("workstation", sys.executable, str(_CLIENT), stdin=asked)
        assert finished.ok, finished.output
        answers: list[Any] = json.loads(finished.output.splitlines()[-1])
        return answers


@pytest.fixture(scope="module")
def owner(tree: MachinesTree) -> Client:
    """A key that may do everything, with two buckets and an object in each."""
    tree.call("put_spaces_key", "OWNERKEY", "owner-secret", [Grant("", "fullaccess")])
    client = Client(tree, "OWNERKEY", "owner-secret")
    made = client(
        ("create_bucket", {"Bucket": "mine", "ACL": "private"}),
        ("create_bucket", {"Bucket": "other"}),
        ("put_object", {"Bucket": "mine", "Key": "a/b", "Body": "hello"}),
        ("put_object", {"Bucket": "other", "Key": "x", "Body": "secret"}),
    )
    assert made == ["ok"] * 4
    return client


def test_buckets_are_reported_with_their_region(tree: MachinesTree, owner: Client) -> None:
    assert tree.call("spaces_buckets") == {"mine": REGION, "other": REGION}
    assert owner(("list_buckets", {})) == [["mine", "other"]]


def test_every_full_access_key_sees_all_buckets_of_the_account(tree: MachinesTree, owner: Client) -> None:
    del owner
    tree.call("put_spaces_key", "SECONDOWNER", "second", [Grant("", "fullaccess")])
    second = Client(tree, "SECONDOWNER", "second", style="path")
    assert second(("list_buckets", {}), ("get_object", {"Bucket": "mine", "Key": "a/b"})) == [
        ["mine", "other"],
        "hello",
    ]


@pytest.mark.parametrize("style", ["virtual", "path"])
def test_a_read_key_can_only_read_its_bucket(tree: MachinesTree, owner: Client, style: str) -> None:
    del owner
    tree.call("put_spaces_key", "READER", "reader", [Grant("mine", "read")])
    answers = Client(tree, "READER", "reader", style)(
        ("list_objects_v2", {"Bucket": "mine"}),
        ("get_object", {"Bucket": "mine", "Key": "a/b"}),
        ("put_object", {"Bucket": "mine", "Key": "c", "Body": "no"}),
        ("delete_object", {"Bucket": "mine", "Key": "a/b"}),
        ("get_object", {"Bucket": "other", "Key": "x"}),
        ("list_objects_v2", {"Bucket": "other"}),
    )
    assert answers == [["a/b"], "hello", "AccessDenied", "AccessDenied", "AccessDenied", "AccessDenied"]


def test_a_read_write_key_writes_objects_but_cannot_create_or_configure_buckets(
    tree: MachinesTree, owner: Client
) -> None:
    del owner
    tree.call("put_spaces_key", "WRITER", "writer", [Grant("mine", "readwrite")])
    answers = Client(tree, "WRITER", "writer")(
        ("put_object", {"Bucket": "mine", "Key": "w", "Body": "written"}),
        ("get_object", {"Bucket": "mine", "Key": "w"}),
        ("create_multipart_upload", {"Bucket": "mine", "Key": "big"}),
        ("delete_object", {"Bucket": "mine", "Key": "w"}),
        ("list_objects_v2", {"Bucket": "mine"}),
        ("create_bucket", {"Bucket": "third"}),
        ("delete_bucket", {"Bucket": "mine"}),
        ("put_bucket_lifecycle_configuration", {"Bucket": "mine", "LifecycleConfiguration": _LIFECYCLE}),
        ("put_object", {"Bucket": "other", "Key": "w", "Body": "no"}),
    )
    assert answers == ["ok", "written", "ok", "ok", ["a/b"], *["AccessDenied"] * 4]


def test_a_grant_can_change_and_a_revoked_key_is_refused_at_once(tree: MachinesTree, owner: Client) -> None:
    del owner
    reading = ("get_object", {"Bucket": "mine", "Key": "a/b"})
    tree.call("put_spaces_key", "CHANGING", "changing", [Grant("mine", "read")])
    client = Client(tree, "CHANGING", "changing")
    assert client(reading) == ["hello"]
    tree.call("put_spaces_key", "CHANGING", "changing", [Grant("other", "read")])
    assert client(reading, ("get_object", {"Bucket": "other", "Key": "x"})) == ["AccessDenied", "secret"]
    tree.call("delete_spaces_key", "CHANGING")
    assert client(reading) == ["InvalidAccessKeyId"]


def test_a_wrong_secret_and_an_unknown_permission_are_refused(tree: MachinesTree, owner: Client) -> None:
    del owner
    assert Client(tree, "OWNERKEY", "wrong")(("list_buckets", {})) == ["SignatureDoesNotMatch"]
    with pytest.raises(GrantError, match="no permission 'write'"):
        tree.call("put_spaces_key", "BAD", "bad", [Grant("mine", "write")])


def test_lifecycle_rules_are_stored_returned_and_removed(owner: Client) -> None:
    bucket = {"Bucket": "mine"}
    before, put, kept, deleted, after, foreign = owner(
        ("get_bucket_lifecycle_configuration", bucket),
        ("put_bucket_lifecycle_configuration", {**bucket, "LifecycleConfiguration": _LIFECYCLE}),
        ("get_bucket_lifecycle_configuration", bucket),
        ("delete_bucket_lifecycle", bucket),
        ("get_bucket_lifecycle_configuration", bucket),
        ("get_bucket_lifecycle_configuration", {"Bucket": "absent"}),
    )
    assert (before, put, deleted, after) == ("NoSuchLifecycleConfiguration", "ok", "ok", "NoSuchLifecycleConfiguration")
    assert kept[0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 3}
    assert foreign == "NoSuchBucket"
