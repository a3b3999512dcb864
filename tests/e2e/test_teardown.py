"""A stack that is destroyed again and again, each time in another kind of trouble: it always ends.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pydo
import pytest

from components.token_scopes import needed
from tests.e2e.control import Control
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tests.sandbox.digitalocean.scopes import scope_of
from tools.clients import Docker, Outputs, try_run
from tools.environment import ROOT
from tools.pipelines import project_of, until
from tools.stack import stack_file


@pytest.fixture(scope="module")
def api() -> pydo.Client:
    """A client of the account's API."""
    return pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, api: pydo.Client) -> Iterator[Stack]:
    """A stack whose VPC is not the default one of its region; destroyed at the end."""
    default = api.vpcs.create(body={"name": "default-fra1", "region": "fra1"})["vpc"]
    assert default["default"]
    made = Stack.create(
        "teardown",
        tmp_path_factory.mktemp("stack"),
        SANDBOX,
        domain="teardown.test",
        region="fra1",
        removal="keep-data",
        projects=[{"path": "hello", "runners": [RUNNER["name"]], "pipeline": False}],
        runners=[RUNNER],
    )
    made.set_secret("projects[0].variables.KEY.value", "the-value-of-a-test")
    assert not stack_file("teardown").exists()
    yield made
    made.remove()


@pytest.fixture(scope="module", autouse=True)
def asked_before(control: Control) -> int:
    """The number of the last request to the API before these tests."""
    return max((int(one["id"]) for one in control.requests()), default=0)


def tool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a tool as `make` does."""
    return try_run(sys.executable, "-m", "tools", *words, timeout=900, cwd=ROOT)


def down(stack: Stack) -> subprocess.CompletedProcess[str]:
    """Run what `make down` runs."""
    return tool("down", "--stack", stack.name, "--config-file", str(stack.file), "--yes")


def test_a_destroy_that_keeps_data_asks_nothing_of_a_server_that_is_gone(
    stack: Stack, api: pydo.Client, control: Control
) -> None:
    stack.up()
    records = api.domains.list_records("teardown.test")["domain_records"]
    [record] = [one["id"] for one in records if one["type"] == "A"]
    api.domains.update_record("teardown.test", record, body={"type": "A", "data": "203.0.113.9"})
    for droplet in api.droplets.list(name="slipway-teardown")["droplets"]:
        api.droplets.destroy(droplet["id"])
    until(lambda: not api.droplets.list(name="slipway-teardown")["droplets"], "the server is deleted")
    done = down(stack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "volume slipway-teardown-data, 10 GiB" in done.stdout
    assert "Spaces key slipway-teardown-registry-maker, with full access" in done.stdout
    left = [str(thing) for things in control.resources().values() for thing in things if "teardown" in str(thing)]
    names = ("slipway-teardown-data", "slipway-teardown-registry", "teardown.test")
    assert [thing for thing in left if not any(name in thing for name in names)] == []
    strays = tool("strays", "--stack", stack.name)
    assert strays.returncode == 0, strays.stdout + strays.stderr


def test_what_it_left_in_gitlab_is_replaced_by_the_next_up(stack: Stack) -> None:
    stack.up()
    stack.up("--expect-no-changes")
    outputs = stack.outputs()
    project = project_of(outputs)
    assert [one.key for one in project.variables.list(get_all=True)] == ["KEY"]
    assert [one.name for one in project.deploytokens.list(get_all=True)] == ["pull"]
    [runner] = project.runners.list(type="project_type", get_all=True)
    assert outputs.gitlab().runners.get(runner.id).status == "online"


def test_a_stack_whose_state_was_lost_comes_back_on_its_kept_data(stack: Stack, api: pydo.Client) -> None:
    before = stack.outputs()
    with Docker.session() as docker:
        docker.login(before.registry, before.user, before.password)
        image = f"{before.registry}/root/hello:kept"
        docker.make_image(image)
        digest = docker.push(image)
        docker.forget(image)
    project, token = project_of(before).id, before.projects[0]["deploy_token"]
    done = down(stack)
    assert done.returncode == 0, done.stdout + done.stderr
    stack.run("stack", "rm", "--force", "--yes", settings_file=False)
    stack.init()

    [volume] = api.volumes.list(name="slipway-teardown-data")["volumes"]
    refused = stack.attempt("preview")
    assert refused.returncode != 0
    assert f"pulumi config set --stack teardown --path recover.volume {volume['id']}" in refused.stdout
    assert "pulumi config set --stack teardown --path recover.domain true" in refused.stdout
    done = tool(
        "recover", "--stack", stack.name, "--config-file", str(stack.file), "--address", before.address, "--yes"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert stack.changes() == {}
    after = stack.outputs()
    assert after.address == before.address
    assert project_of(after).id == project
    assert after.projects[0]["deploy_token"] == token
    assert after.storage
    assert before.storage
    assert after.storage["bucket"] == before.storage["bucket"]
    assert [one.key for one in project_of(after).variables.list(get_all=True)] == ["KEY"]
    with Docker.session() as docker:
        docker.login(after.registry, after.user, after.api_token)
        assert docker.pull(f"{after.registry}/root/hello@{digest}") == digest
        docker.forget(f"{after.registry}/root/hello@{digest}")
    strays = tool("strays", "--stack", stack.name)
    assert strays.returncode == 0, strays.stdout + strays.stderr
    again = tool("recover", "--stack", stack.name, "--config-file", str(stack.file), "--yes")
    assert again.returncode == 1
    assert "nothing was changed" in again.stderr


def test_what_is_in_the_way_of_the_network_is_named_before_anything_is_deleted(
    stack: Stack, api: pydo.Client, control: Control
) -> None:
    stack.set(removal="everything")
    stack.up()
    [vpc] = [one for one in stack.resources().values() if one["type"].endswith(":Vpc")]
    body = {"name": "theirs", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-13-x64", "vpc_uuid": vpc["id"]}
    theirs = api.droplets.create(body=body)["droplet"]["id"]
    before = len(control.requests())
    done = down(stack)
    assert done.returncode == 1
    assert f"droplet theirs (ID {theirs}) is in the VPC" in done.stderr
    assert f"doctl compute droplet delete {theirs}" in done.stderr
    assert control.writes_since(before) == []
    until(lambda: api.droplets.get(theirs)["droplet"]["status"] == "active", "their droplet is active")
    api.droplets.destroy(theirs)


def test_a_destroy_ends_with_a_busy_runner_a_full_bucket_a_server_that_is_off_and_after_a_kill(
    stack: Stack, api: pydo.Client, control: Control
) -> None:
    outputs = stack.outputs()
    _keep_busy(outputs)
    _fill(outputs)
    outputs.ssh("sudo gitlab-ctl stop")
    [server] = api.droplets.list(name="slipway-teardown")["droplets"]
    api.droplet_actions.post(server["id"], body={"type": "power_off"})
    until(lambda: api.droplets.get(server["id"])["droplet"]["status"] == "off", "the server is off")
    # A destroy that is killed has deleted things without recording it.
    engine = stack.start("destroy", "--yes", "--skip-preview")
    until(lambda: not api.droplets.list(name="slipway-teardown")["droplets"], "the server is deleted")
    stack.kill(engine)
    # The lines of the page about environments, without `make`.
    page = (ROOT / "docs/environments.md").read_text()
    lines = re.findall(r"(?m)^pulumi ((?:destroy|refresh --target) .+)$", page)
    assert len(lines) == 3
    for line in lines:
        done = stack.attempt(*shlex.split(line), "--yes", "--skip-preview")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "teardown" not in str(control.resources())
    assert "Nothing of this stack is left in the account." in down(stack).stdout


def test_an_update_that_was_killed_leaves_a_droplet_that_is_named_and_removed(
    stack: Stack, api: pydo.Client, control: Control
) -> None:
    engine = stack.start("up", "--yes", "--skip-preview")
    until(lambda: api.droplets.list(name="slipway-teardown")["droplets"], "the server is being created", 120)
    stack.kill(engine)
    [orphan] = api.droplets.list(name="slipway-teardown")["droplets"]
    refused = down(stack)
    assert refused.returncode == 1
    assert f"doctl compute droplet delete {orphan['id']}" in refused.stderr
    listed = tool("strays", "--stack", stack.name)
    assert listed.returncode == 2
    assert f"Droplet slipway-teardown (ID {orphan['id']})" in listed.stdout
    removed = tool("strays", "--stack", stack.name, "--yes")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    _delete_records_of_no_state(stack, api)
    done = down(stack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "teardown" not in str(control.resources())
    assert tool("strays", "--stack", stack.name).returncode == 0


def test_the_scopes_that_are_checked_were_enough_for_all_of_it(control: Control, asked_before: int) -> None:
    asked = [one for one in control.requests() if one["id"] > asked_before]
    used = {scope for one in asked if (scope := scope_of(one["method"], one["path"]))}
    assert {"droplet:create", "block_storage:create", "vpc:delete"} <= used
    assert used - {"snapshot:read"} <= needed(spaces=True, alerts=True)


def _delete_records_of_no_state(stack: Stack, api: pydo.Client) -> None:
    """What `down` asks for: it keeps a zone with records that nobody can tell to be the stack's.

    `strays` knows the names that the stack files of this checkout give, and this one is elsewhere.
    """
    zone = "teardown.test"
    known = {one["id"].rpartition(",")[2] for one in stack.resources().values() if one["type"].endswith(":DnsRecord")}
    for record in api.domains.list_records(zone)["domain_records"]:
        if record["name"] == "gitlab" and str(record["id"]) not in known:
            api.domains.delete_record(zone, record["id"])


def _keep_busy(outputs: Outputs) -> None:
    """Start a job that outlasts the test."""
    project = project_of(outputs)
    pipeline = "job: {script: [sleep 3600]}\n"
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": pipeline}
    project.commits.create({"branch": "main", "commit_message": "Keep the runner busy", "actions": [action]})
    until(lambda: [job for job in project.jobs.list(get_all=True) if job.status == "running"], "the job is running")


def _fill(outputs: Outputs) -> None:
    """Put more objects into the bucket than one request lists or deletes."""
    import boto3  # noqa: PLC0415 - slow to import

    storage: dict[str, Any] = outputs.storage or {}
    client = boto3.client(
        "s3",
        endpoint_url=storage["endpoint"],
        region_name=storage["region"],
        aws_access_key_id=storage["access_key"],
        aws_secret_access_key=storage["secret_key"],
    )
    for number in range(1001):
        client.put_object(Bucket=storage["bucket"], Key=f"many/{number}", Body=b"")
