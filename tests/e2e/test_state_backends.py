"""State in a Space: the program, the locks of a machine that is gone, and operations that a killed update left."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.e2e.backends import state_in
from tests.e2e.images import given_bucket
from tools.environment import ROOT
from tools.stack import stack_file

STACK, DOCUMENTED = "remote", "https://nyc3.digitaloceanspaces.com"
DOCUMENT = ROOT / "docs" / "environments.md"
LOCK = f".pulumi/locks/organization/slipway/{STACK}/0b7c7c5e-0000-4000-8000-000000000000.json"
PENDING = "urn:pulumi:remote::slipway::digitalocean:index/tag:Tag::killed"


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """A Space for states, and the key to it."""
    with given_bucket("states-of-a-team") as bucket:
        yield bucket


@pytest.fixture(scope="module")
def pulumi(bucket: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulumi]:
    """Pulumi with the state in the bucket, and a stack that has a few resources."""
    assert f"s3://BUCKET?endpoint={DOCUMENTED}&region=nyc3" in DOCUMENT.read_text()
    file = tmp_path_factory.mktemp("stack") / f"Pulumi.{STACK}.yaml"
    settings: dict[str, Any] = {"domain": "remote.test", "adminCidrs": ["192.0.2.10/32"], "removal": "everything"}
    settings |= {"server": {"image": "debian-13-x64"}, "registry": {"storage": "filesystem"}}
    file.write_text(yaml.safe_dump({"config": {f"slipway:{name}": value for name, value in settings.items()}}))
    pulumi = Pulumi(state_in(bucket), file)
    pulumi.run("stack", "init", "--no-select", STACK)
    # It has the salt of the passphrase, and would stay after a crash.
    stack_file(STACK).unlink()
    pulumi.run("up", *pulumi.options, "--yes", "--skip-preview", "--target", "**::admin-key*")
    yield pulumi
    pulumi.run("destroy", *pulumi.options, "--yes", "--skip-preview")
    pulumi.run("stack", "rm", "--yes", STACK)


def client_of(bucket: dict[str, str]) -> Any:
    """A client of the store that the bucket is in."""
    return boto3.client(
        "s3",
        endpoint_url=bucket["endpoint"],
        region_name="fra1",
        aws_access_key_id=bucket["accessKey"],
        aws_secret_access_key=bucket["secretKey"],
    )


class Pulumi:
    """The CLI in one environment."""

    def __init__(self, environment: dict[str, str], file: Path) -> None:
        self._environment = environment
        self.options = ["--stack", STACK, "--config-file", str(file)]

    def attempt(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return subprocess.run(
            ["pulumi", "--non-interactive", *words],
            cwd=ROOT,
            env=self._environment,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
        )

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Run a command that has to succeed."""
        done = self.attempt(*words, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_a_preview_reads_the_state_and_the_names_in_it_from_the_bucket(pulumi: Pulumi) -> None:
    steps = json.loads(pulumi.run("preview", *pulumi.options, "--json"))["steps"]
    operations = {step["urn"].rsplit("::", 1)[1]: step["op"] for step in steps}
    state = json.loads(pulumi.run("stack", "export", "--stack", STACK))["deployment"]["resources"]
    known = {one["urn"].rsplit("::", 1)[1] for one in state}
    assert "admin-key" in known
    assert {operations[name] for name in known & operations.keys()} <= {"same", "update"}
    assert operations["server-droplet"] == "create"


def test_the_lock_of_a_machine_that_is_gone_is_named_and_cancel_removes_it(
    pulumi: Pulumi, bucket: dict[str, str]
) -> None:
    content = {"pid": 4711, "username": "ci", "hostname": "gone", "timestamp": "2026-11-26T08:00:00Z"}
    client = client_of(bucket)
    client.put_object(Bucket=bucket["bucket"], Key=LOCK, Body=json.dumps(content))
    done = pulumi.attempt("refresh", *pulumi.options, "--yes", "--skip-preview")
    assert done.returncode != 0
    assert "the stack is currently locked by 1 lock(s)" in done.stdout + done.stderr
    assert "ci@gone (pid 4711)" in done.stdout + done.stderr
    assert "`pulumi cancel --yes STACK`" in DOCUMENT.read_text()
    pulumi.run("cancel", "--yes", STACK)
    pulumi.run("refresh", *pulumi.options, "--yes", "--skip-preview")


def test_an_operation_that_a_killed_update_left_is_named_and_cleared(pulumi: Pulumi, bucket: dict[str, str]) -> None:
    client, place = client_of(bucket), {"Bucket": bucket["bucket"], "Key": f".pulumi/stacks/slipway/{STACK}.json"}
    state = json.loads(client.get_object(**place)["Body"].read())
    resource = {"urn": PENDING, "custom": True, "type": "digitalocean:index/tag:Tag"}
    # `pulumi stack import` would drop it.
    state["checkpoint"]["latest"]["pending_operations"] = [{"resource": resource, "type": "creating"}]
    client.put_object(**place, Body=json.dumps(state))
    done = pulumi.attempt("up", *pulumi.options, "--yes", "--skip-preview", "--target", "**::admin-key*")
    assert "pending operations from previous deployment" in done.stdout + done.stderr
    assert "`pulumi refresh --clear-pending-creates`" in DOCUMENT.read_text()
    pulumi.run("refresh", "--clear-pending-creates", *pulumi.options, "--yes", "--skip-preview")
    assert not json.loads(pulumi.run("stack", "export", "--stack", STACK))["deployment"].get("pending_operations")


def test_nothing_is_written_into_the_stack_files_of_the_project(pulumi: Pulumi) -> None:
    pulumi.run("preview", *pulumi.options)
    assert not stack_file(STACK).exists()
    status = ["git", "status", "--porcelain", "--untracked-files=no", "stacks"]
    assert subprocess.run(status, cwd=ROOT, check=True, capture_output=True, text=True).stdout == ""
