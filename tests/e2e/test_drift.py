"""A stack that people have changed behind its back: found in words, and put right by the next update.

The tests run in order and build on each other: each leaves the stack in the state that the next one needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pydo
import pytest

from tests.e2e.stack import SANDBOX, Stack
from tools.clients import Outputs, try_run
from tools.environment import ROOT
from tools.pipelines import commit, project_of, until


@pytest.fixture(scope="module")
def api() -> pydo.Client:
    """A client of the account's API."""
    return pydo.Client(token=os.environ["DIGITALOCEAN_TOKEN"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a project and a runner; destroyed at the end."""
    made = Stack.create("drift", tmp_path_factory.mktemp("stack"), SANDBOX, domain="drift.test")
    made.up()
    yield made
    made.remove()


def drift(stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
    """Run what `make drift` runs."""
    words = ("-m", "tools", "drift", "--stack", stack.name, "--config-file", str(stack.file), *options)
    return try_run(sys.executable, *words, timeout=600, cwd=ROOT)


def status(stack: Stack, within: int = 60) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run what `make status` runs, with time to spare on a busy machine; the exit code, and its parts by name."""
    words = ("-m", "tools", "status", "--stack", stack.name, "--json", "--within", str(within))
    done = try_run(sys.executable, *words, timeout=120, cwd=ROOT)
    assert done.stdout, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["parts"]}


def assert_put_right(stack: Stack) -> None:
    """The next update, as `make up` runs it, leaves no difference."""
    marked = drift(stack, "--mark")
    assert marked.returncode == 0, marked.stdout + marked.stderr
    stack.up()
    again = drift(stack)
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_stack_that_nobody_has_changed_has_no_drift(stack: Stack) -> None:
    found = drift(stack)
    assert found.returncode == 0, found.stdout + found.stderr
    parts = ("Cloud", "Machines", "GitLab", "Projects")
    assert found.stdout.splitlines() == [f"{part}: as the stack left it" for part in parts]


def test_the_status_of_a_healthy_stack_is_known_in_every_part(stack: Stack) -> None:
    code, parts = status(stack)
    healths = {name: part["health"] for name, part in parts.items()}
    # Machines of the sandbox show the disk of the host, whatever is on it.
    full = healths.pop("Disks") == "failing"
    assert code == (2 if full else 0), parts
    # The sandbox's archive has newer releases than those that the stack pins.
    assert healths.pop("Versions") == "notice"
    assert set(healths.values()) == {"healthy"}, parts
    assert parts["Drift"]["text"].startswith("none, compared ")
    assert parts["Runners"]["values"] == {"docker-builder": {"status": "online", "machines": 1, "online": 1}}
    assert parts["Versions"]["values"]["GitLab"]["newest"] == "19.5.0-ce.0"
    assert parts["Registry"]["values"]["bytes"] > 0
    assert {"/", "/mnt/gitlab"} == parts["Disks"]["values"]["slipway-drift"].keys()


def test_what_people_have_changed_is_found_in_words_and_put_right(stack: Stack, api: pydo.Client) -> None:
    outputs = stack.outputs()
    _change_everything(outputs, api)
    found = drift(stack)
    assert found.returncode == 2
    expected = (
        "  firewall slipway-drift-runner: inboundRules",
        "  slipway-drift: /etc/gitlab/gitlab.rb was changed (step gitlab-configuration)",
        "  sign-up is on: everybody can create an account",
        "  project root/hello: sharedRunnersEnabled is true and was false",
        "  the protection of branch main is gone",
        "  file .gitlab-ci.yml: content was changed",
        "  runner docker-builder is gone",
    )
    assert [words for words in expected if words not in found.stdout] == [], found.stdout
    code, parts = status(stack)
    assert (code, parts["GitLab"]["health"], parts["Drift"]["health"]) == (2, "healthy", "failing")
    assert "docker-builder deleted in GitLab" in parts["Runners"]["text"]
    assert_put_right(stack)


def _change_everything(outputs: Outputs, api: pydo.Client) -> None:
    walls = [one for one in api.firewalls.list()["firewalls"] if one["name"] == "slipway-drift-runner"]
    rule = {"protocol": "tcp", "ports": "8080", "sources": {"addresses": ["0.0.0.0/0"]}}
    api.firewalls.add_rules(walls[0]["id"], body={"inbound_rules": [rule]})
    outputs.ssh("echo '# by hand' | sudo tee -a /etc/gitlab/gitlab.rb")
    gitlab = outputs.gitlab()
    settings = gitlab.settings.get()
    settings.signup_enabled = True
    settings.save()
    project = project_of(outputs)
    commit(project, "main", ".gitlab-ci.yml", "job: {script: [echo changed], when: manual}\n")
    project.protectedbranches.delete("main")
    [runner] = project.runners.list(type="project_type", get_all=True)
    gitlab.runners.delete(runner.id)
    project.shared_runners_enabled = True
    project.save()


def test_a_name_that_leads_elsewhere_and_a_revoked_token_hide_nothing_of_the_cloud(
    stack: Stack, api: pydo.Client
) -> None:
    outputs = stack.outputs()
    records = api.domains.list_records("drift.test")["domain_records"]
    [record] = [one["id"] for one in records if one["type"] == "A"]
    api.domains.update_record("drift.test", record, body={"type": "A", "data": "203.0.113.99"})
    named = drift(stack)
    assert named.returncode == 2
    assert f"  DNS record gitlab.drift.test A: value is 203.0.113.99 and was {outputs.address}" in named.stdout
    assert "GitLab: as the stack left it" in named.stdout
    assert f"leads to 203.0.113.99 and not to {outputs.address}" in named.stdout
    tokens = 'User.find_by_username("root").personal_access_tokens.active'
    outputs.ssh(f"sudo gitlab-rails runner '{tokens}.each {{ |token| token.revoke! }}'")
    revoked = drift(stack)
    assert revoked.returncode == 2
    assert "  the stack's API token is not accepted by GitLab: it was revoked" in revoked.stdout
    assert_put_right(stack)
    assert stack.outputs().values["gitlab_api_token"] != outputs.values["gitlab_api_token"]


def test_a_detached_volume_and_a_server_that_is_gone_are_named_and_put_right(stack: Stack, api: pydo.Client) -> None:
    outputs = stack.outputs()
    outputs.ssh("sudo gitlab-ctl stop; sudo umount --lazy /etc/gitlab /var/opt/gitlab /var/log/gitlab /mnt/gitlab")
    [volume] = api.volumes.list(name="slipway-drift-data")["volumes"]
    body = {"type": "detach", "droplet_id": volume["droplet_ids"][0]}
    api.volume_actions.post_by_id(volume["id"], body=body)
    until(lambda: not api.volumes.get(volume["id"])["volume"]["droplet_ids"], "the volume is detached")
    detached = drift(stack)
    assert detached.returncode == 2
    assert f"  the attachment of volume {volume['id']} is gone" in detached.stdout
    assert_put_right(stack)
    page = try_run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{stack.outputs().url}/users/sign_in")
    assert page.stdout == "200", page.stderr
    for droplet in api.droplets.list(name="slipway-drift")["droplets"]:
        api.droplets.destroy(droplet["id"])
    until(lambda: not api.droplets.list(name="slipway-drift")["droplets"], "the server is deleted")
    code, parts = status(stack, within=20)
    failing = {name for name, part in parts.items() if part["health"] == "failing"}
    assert (code, {"GitLab", "Registry", "Certificate"} <= failing) == (2, True), parts
    assert "slipway-drift: cannot be asked" in parts["Disks"]["text"]
    assert "slipway-drift-docker-builder-1: / " in parts["Disks"]["text"]
    gone = drift(stack)
    assert gone.returncode == 2
    assert "  droplet slipway-drift is gone" in gone.stdout
    assert f"  slipway-drift ({outputs.address}): not compared: ssh failed" in gone.stdout
    assert "GitLab:\n  not compared: " in gone.stdout
    assert_put_right(stack)
