"""The program's proof of a bucket against a real S3 server: it names the right that a key lacks, each of them."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.rendering import script
from tests.sandbox_tests.support.registry_service import LIMITED, Store, bucket

pytestmark = pytest.mark.real_time("the S3 server is written in Go")

ON_BUCKET = ("ListBucket", "ListBucketMultipartUploads")
ON_OBJECTS = ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A bucket, and a key without any right to it."""
    with bucket(tmp_path_factory.mktemp("s3")) as found:
        yield found


def allow(store: Store, *lacking: str) -> None:
    """Give the key every right but some."""
    rights = {"arn:aws:s3:::images": ON_BUCKET, "arn:aws:s3:::images/*": ON_OBJECTS}
    statements = [
        {
            "Effect": "Allow",
            "Principal": {"AWS": [LIMITED["access"]]},
            "Action": [f"s3:{action}" for action in actions if action not in lacking],
            "Resource": resource,
        }
        for resource, actions in rights.items()
    ]
    store.client.put_bucket_policy(
        Bucket="images", Policy=json.dumps({"Version": "2012-10-17", "Statement": statements})
    )


def prove(store: Store, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the proof as the machine does; time passes only while it sleeps."""
    values = {
        "FQDN": "gitlab.example.test",
        "LIMIT_SECONDS": "9",
        "S3_ACCESS_KEY": LIMITED["access"],
        "S3_BUCKET": "images",
        "S3_ENDPOINT": store.options["s3_v2"]["regionendpoint"],
        "S3_REGION": "us-east-1",
        "S3_SECRET_KEY": LIMITED["secret"],
        "TMPDIR": str(folder),
    }
    assigned = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    played = "sleep() { SECONDS=$((SECONDS + 60)); }"
    text = "\n".join([script("prelude.sh"), *assigned, script("object-storage.sh"), played, "verify_bucket </dev/null"])
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)


def test_a_key_with_all_rights_passes_and_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    allow(store)
    done = prove(store, tmp_path)
    assert (done.returncode, done.stderr) == (
        0,
        "registry: the key can list, read, write, upload in parts and delete in bucket images\n",
    )
    assert store.size() == 0
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket="images")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lacking", [*ON_BUCKET, *ON_OBJECTS])
def test_the_right_that_a_key_lacks_is_named(store: Store, tmp_path: Path, lacking: str) -> None:
    allow(store, lacking)
    done = prove(store, tmp_path)
    assert done.returncode == 1
    [message] = done.stderr.splitlines()
    assert message.startswith("error: the registry's key may not ")
    assert f"(403 AccessDenied); nothing was changed. Check the key; it needs the right s3:{lacking}" in message
