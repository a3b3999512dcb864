"""The life of one stack, in order: nothing, up, unchanged, changed, broken, mended, destroyed.

The tests build on each other: each leaves the stack as the next one needs it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pydo
import pytest

from tests.e2e.control import READS, Control
from tests.e2e.leaks import ProcessWatch, found_in, secret_values
from tests.e2e.stack import SANDBOX, Stack
from tools import verify
from tools.clients import CheckError, Docker, Outputs, run, temporary_project, try_run
from tools.pipelines import until

WATCH = ProcessWatch()
#: When the machine started, as its first process tells.
_STARTED = "cut -d' ' -f22 /proc/1/stat"


@pytest.fixture(scope="module")
def foreign(control: Control) -> dict[str, Any]:
    """What the cloud held before the first test: that of another stack, perhaps."""
    return control.resources()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, foreign: dict[str, Any]) -> Iterator[Stack]:
    """An empty stack with the settings of the sandbox and a domain of its own; destroyed at the end."""
    assert "e2e" not in str(foreign)
    folder = tmp_path_factory.mktemp("stack")
    made = Stack.create("e2e", folder, SANDBOX, domain="e2e.test", projects=[], runners=[])
    yield made
    made.remove()


def assert_all_holds(outputs: Outputs) -> None:
    """Every line of `make verify` holds."""
    assert [f"{one.name}: {one.measured}" for one in verify.measure(outputs) if not one.holds] == []


def remote(outputs: Outputs, command: str) -> str:
    """Standard output of a root shell on the server."""
    return outputs.ssh(f"sudo bash -c {shlex.quote(command)}")


def test_a_preview_of_an_empty_stack_shows_the_whole_graph_and_only_reads(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    operations = {step["op"] for step in stack.preview()["steps"]}
    assert operations == {"create"}
    assert len(stack.changes()) > 35
    assert control.writes_since(before) == []


def test_mistakes_are_told_together_at_preview_without_a_traceback(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.set(registry={"port": 443, "storrage": "spaces"}, adminCidrs=["nowhere"])
    done = stack.attempt("preview")
    stack.set(registry=None, adminCidrs=["192.0.2.10/32"])
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "3 errors in the configuration; nothing was changed." in said
    for path in ("registry.port: 443", "registry.storrage: is not a setting", "adminCidrs: 'nowhere'"):
        assert path in said
    assert "Traceback" not in said
    assert control.requests()[before:] == []


def test_up_makes_all_of_it_and_every_promise_holds(stack: Stack) -> None:
    with WATCH.running():
        stack.up()
    assert_all_holds(stack.outputs())


def test_a_second_up_changes_nothing_and_writes_nothing(stack: Stack, control: Control) -> None:
    before = len(control.requests())
    stack.up("--expect-no-changes")
    assert control.writes_since(before) == []


def test_a_refresh_finds_no_drift(stack: Stack) -> None:
    stack.run("refresh", "--yes", "--skip-preview", "--expect-no-changes")


def test_the_api_has_no_gap_that_the_program_fell_into(control: Control) -> None:
    assert control.gaps() == []
    assert {one["method"] for one in control.requests()} - READS


def test_no_secret_is_in_state_process_list_journal_logs_or_user_data(stack: Stack) -> None:
    outputs = stack.outputs()
    values = secret_values(outputs)
    droplets = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"]).droplets.list()["droplets"]
    assert "slipway-e2e" in [droplet["name"] for droplet in droplets]
    places = {
        "state": stack.run("stack", "export", settings_file=False),
        "processes during the first up": WATCH.text,
        "journal": remote(outputs, "journalctl --no-pager"),
        "cloud-init logs": remote(outputs, "cat /var/log/cloud-init*.log"),
        "user_data": remote(outputs, "curl -sS http://169.254.169.254/metadata/v1/user-data"),
        "droplet as the API shows it": json.dumps(droplets),
        "processes on the server": remote(outputs, "ps -eww -o args="),
    }
    assert "#cloud-config" in places["user_data"]
    assert "gitlab-ctl reconfigure" in WATCH.text
    assert "glpat-" not in WATCH.text
    assert {place: found_in(text, values) for place, text in places.items() if found_in(text, values)} == {}


def test_no_file_that_others_can_read_holds_a_secret(stack: Stack) -> None:
    outputs = stack.outputs()
    for name, value in secret_values(outputs).items():
        assert files_with(outputs, value) == [CONTROL], name


def test_the_first_contact_key_opens_nothing_any_more(stack: Stack) -> None:
    outputs = stack.outputs()
    offered = run("ssh-keyscan", "-t", "ecdsa,ed25519,rsa", outputs.address)
    assert {line.split()[1] for line in offered.splitlines() if not line.startswith("#")} == {"ssh-ed25519"}


def test_passwords_and_root_are_refused_by_ssh(stack: Stack) -> None:
    outputs = stack.outputs()
    with outputs.ssh_files() as options:
        root = try_run("ssh", *options, f"root@{outputs.address}", "true")
        password = try_run("ssh", "-o", "PreferredAuthentications=password", *options, f"slipway@{outputs.address}")
    assert "Permission denied (publickey)" in root.stderr
    assert "Permission denied (publickey)" in password.stderr


def test_a_machine_with_another_host_key_on_the_same_address_is_refused(stack: Stack) -> None:
    outputs = stack.outputs()
    key = "/etc/ssh/ssh_host_ed25519_key"
    with other_host_key(outputs, key):
        stack.set(server={"image": "debian-13-x64", "volumeSizeGb": 10, "authorizedKeys": [PUBLIC_KEY]})
        done = stack.attempt("up", "--yes", "--skip-preview")
        with pytest.raises(CheckError, match="Host key verification failed"):
            outputs.ssh("true")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "host key" in said.lower()
    assert found_in(said, secret_values(outputs)) == []


def test_an_authorized_key_is_an_update_in_place(stack: Stack) -> None:
    assert stack.changes() == {"server-preparation": "update"}
    stack.up()
    assert PUBLIC_KEY in remote(stack.outputs(), "cat /home/slipway/.ssh/authorized_keys")


def test_names_ports_and_networks_change_in_place(stack: Stack) -> None:
    stack.set(hostname="git", adminCidrs=["192.0.2.0/24"], registry={"port": 5050})
    changes = stack.changes()
    assert "server-droplet" not in changes
    assert {"create", "delete"}.isdisjoint(changes.values())
    stack.up()
    outputs = stack.outputs()
    assert outputs.registry == "git.e2e.test:5050"
    assert_all_holds(outputs)
    stack.set(hostname=None, registry=None)
    stack.up()
    assert stack.outputs().registry == "gitlab.e2e.test:5555"


def test_storage_moves_to_the_filesystem_by_an_update_of_few_nodes(stack: Stack) -> None:
    stack.set(registry={"storage": "filesystem"})
    changes = stack.changes()
    assert changes.pop("registry-storage") == "update"
    assert changes.pop("registry-login") == "update"
    assert set(changes.values()) <= {"delete", "update"}
    assert all(name.startswith(("registry-bucket", "slipway-e2e")) for name in changes)
    stack.up()
    assert_all_holds(stack.outputs())


def test_storage_moves_to_a_given_bucket(stack: Stack) -> None:
    with given_bucket() as s3:
        secret = s3.pop("secretKey")
        stack.set(registry={"storage": "s3", "s3": s3})
        stack.set_secret("registry.s3.secretKey", secret)
        assert {"create", "replace", "delete"}.isdisjoint(stack.changes().values())
        stack.up()
        assert_all_holds(stack.outputs())

        assert found_in(stack.run("stack", "export", settings_file=False), {"given secret key": secret}) == []

        stack.set_secret("registry.s3.secretKey", "wrong")
        done = stack.attempt("up", "--yes", "--skip-preview")
        assert done.returncode != 0
        assert "the registry's key may not list bucket" in done.stdout + done.stderr
        assert_all_holds(Outputs({**stack.outputs().values, "registry_storage": _storage({**s3, "secretKey": secret})}))

        stack.set(registry={"storage": "filesystem"})
        stack.up()


def test_a_run_that_is_killed_is_continued_by_the_next(stack: Stack) -> None:
    stack.set(registry={"storage": "spaces"})
    engine = stack.start("up", "--yes", "--skip-preview")
    assert engine.stdout
    for line in engine.stdout:
        if "registry-storage" in line and "updating" in line:
            break
    engine.send_signal(signal.SIGKILL)
    engine.communicate()
    stack.run("cancel", "--yes", settings_file=False)
    stack.up()
    assert_all_holds(stack.outputs())


def test_a_reboot_changes_nothing(stack: Stack) -> None:
    outputs = stack.outputs()
    boot = remote(outputs, _STARTED)
    with pytest.raises(CheckError):
        remote(outputs, "systemctl reboot; sleep 60")
    until(lambda: _rebooted(outputs, boot), "the server is there again")
    assert_all_holds(outputs)
    stack.up("--expect-no-changes")


def test_a_droplet_that_is_replaced_keeps_address_host_key_data_and_images(stack: Stack) -> None:
    before = stack.outputs()
    with kept_image(before) as (image, digest):
        droplet = f"urn:pulumi:{stack.name}::slipway::{DROPLET}::server-droplet"
        stack.up("--target-replace", droplet, "--target-dependents")
        stack.up("--expect-no-changes")
        after = stack.outputs()
        assert after.values == before.values
        assert_all_holds(after)
        assert pulled(after, image) == digest


def test_kept_data_outlives_a_destroy_and_serves_the_next_up(stack: Stack, control: Control) -> None:
    stack.set(removal="keep-data", registry={"storage": "filesystem"})
    stack.up()
    stack.set(registry={"storage": "spaces"})
    stack.up()
    stack.set(registry={"storage": "filesystem"})
    assert "registry-bucket-bucket" not in stack.changes()
    stack.set(registry={"storage": "spaces"})
    before = stack.outputs()
    with kept_image(before) as (image, digest):
        refused = stack.attempt("destroy", "--yes", "--skip-preview")
        assert refused.returncode != 0
        assert "protected" in refused.stdout + refused.stderr
        stack.run("destroy", "--yes", "--skip-preview", "--exclude-protected")
        left = [str(thing) for things in control.resources().values() for thing in things if "e2e" in str(thing)]
        assert all(any(kept in thing for kept in ("slipway-e2e-data", "registry", "e2e.test")) for thing in left), left
        assert not [thing for thing in left if "vcpus" in thing]

        stack.set(removal="everything")
        stack.up()
        after = stack.outputs()
        assert after.storage
        assert before.storage
        assert after.storage["bucket"] == before.storage["bucket"]
        assert_all_holds(after)
        assert pulled(after, image) == digest


def test_destroy_leaves_nothing(stack: Stack, control: Control, foreign: dict[str, Any]) -> None:
    stack.run("destroy", "--yes", "--skip-preview")
    assert control.resources() == foreign


#: A file that is planted to prove that the search would find one.
CONTROL = "/var/lib/misc/control"
DROPLET = "slipway:index:GitLabServer$digitalocean:index/droplet:Droplet"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJgnNkZXhM4x1u7yZkA2mcBKR8F5oL4m4yGcmQ1yR0pW second"


def files_with(outputs: Outputs, value: str) -> list[str]:
    """World-readable files on the server that hold `value`, and one that is there to prove that they would be found.

    The value goes over standard input into a file for root alone: no command line has it.
    """
    search = f"""
    pattern=$(mktemp --tmpdir=/root) && cat >"$pattern"
    cp "$pattern" {CONTROL} && chmod 644 {CONTROL}
    find /etc /opt /var /tmp /root /home /srv /usr/local -xdev -type f -perm /o+r -exec grep -lsF -f "$pattern" {{}} +
    find /mnt/gitlab -type f -perm /o+r -exec grep -lsF -f "$pattern" {{}} +
    rm "$pattern" {CONTROL}
    """
    with outputs.ssh_files() as options:
        target = f"{outputs.values['server_ssh_user']}@{outputs.address}"
        found = run("ssh", *options, target, f"sudo bash -c {shlex.quote(search)}", stdin=f"{value}\n")
    return found.splitlines()


@contextmanager
def other_host_key(outputs: Outputs, key: str) -> Iterator[None]:
    """Let the server show another host key, and put the right one back by way of that other one."""
    make = f"ssh-keygen -q -t ed25519 -N '' -C impostor -f {key}.new && mv {key}.new {key} && cat {key}.new.pub"
    impostor = remote(outputs, f"mv {key} {key}.right; {make}; rm {key}.new.pub; systemctl restart ssh").strip()
    try:
        yield
    finally:
        trusting = Outputs({**outputs.values, "server_ssh_host_key": impostor})
        remote(trusting, f"mv {key}.right {key}; systemctl restart ssh")


@contextmanager
def kept_image(outputs: Outputs) -> Iterator[tuple[str, str]]:
    """An image in a project that is there until the end of the block, with its digest."""
    with temporary_project(outputs) as path, Docker.session() as docker:
        image = f"{outputs.registry}/{path}:kept"
        docker.login(outputs.registry, outputs.user, outputs.password)
        docker.make_image(image)
        digest = docker.push(image)
        docker.forget(image)
        yield image, digest


def pulled(outputs: Outputs, image: str) -> str:
    """Digest of an image that is pulled now."""
    with Docker.session() as docker:
        docker.login(outputs.registry, outputs.user, outputs.password)
        digest = docker.pull(image)
        docker.forget(image)
        return digest


@contextmanager
def given_bucket() -> Iterator[dict[str, str]]:
    """A bucket that the stack did not make, and a key for it, as the section registry.s3 wants them."""
    api = pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])
    key = api.spaces_key.create({"name": "given", "grants": [{"bucket": "", "permission": "fullaccess"}]})["key"]
    endpoint, bucket = "https://fra1.digitaloceanspaces.com", "given-to-the-stack"
    client = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key["access_key"],
        aws_secret_access_key=key["secret_key"],
    )
    made = client.create_bucket(Bucket=bucket)
    try:
        yield {
            "bucket": bucket,
            "endpoint": endpoint,
            "region": "us-east-1",
            "accessKey": key["access_key"],
            "secretKey": key["secret_key"],
        }
    finally:
        made.objects.delete()
        made.delete()
        api.spaces_key.delete(access_key=key["access_key"])


def _storage(s3: dict[str, Any]) -> dict[str, Any]:
    renamed = {"accessKey": "access_key", "secretKey": "secret_key"}
    return {renamed.get(key, key): value for key, value in s3.items()}


def _rebooted(outputs: Outputs, boot: str) -> bool:
    try:
        now = remote(outputs, _STARTED)
        # A shell that ends with the machine may have said nothing.
        return now.strip().isdigit() and now != boot and _serves(outputs)
    except (CheckError, subprocess.TimeoutExpired):
        return False


def _serves(outputs: Outputs) -> bool:
    """Whether registry and GitLab answer, which start one after the other."""
    ways = ((f"https://{outputs.registry}/v2/", "401"), (f"{outputs.url}/users/sign_in", "200"))
    asked = [try_run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url) for url, _ in ways]
    return [answer.stdout for answer in asked] == [expected for _, expected in ways]
