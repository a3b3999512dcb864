"""The scripts of a deploy job: what reaches the machine and how, and what runs there afterwards, whatever happens.

`ssh` runs what it gets on this machine, and a Docker client of the tests keeps the containers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.build_pipeline import pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.unit.engine import ROOT
from tests.unit.stack_file_corpus import PUBLIC_KEY

SSH = """#!/bin/sh
printf '%s\\n' "$@" >"$FAKE_DOCKER/ssh-arguments"
for word; do case $word in UserKnownHostsFile=*) cp "${word#*=}" "$FAKE_DOCKER/known_hosts" ;; esac; done
cat >"$FAKE_DOCKER/input"
[ ! -e "$FAKE_DOCKER/ssh-says" ] || { cat "$FAKE_DOCKER/ssh-says" >&2; exit 255; }
sh -s <"$FAKE_DOCKER/input"
"""
OLD, NEW = (f"registry.test:5050/root/{name}@sha256:{digit * 64}" for name, digit in (("hello", "1"), ("hello", "2")))
TOKEN = "gldt-it's\nsecret"  # noqa: S105 - an example
ENVIRONMENT: dict[str, Any] = {
    "name": "staging",
    "host": "203.0.113.7",
    "user": "deploy",
    "hostKey": PUBLIC_KEY,
    "publish": ["80:3000", "127.0.0.1:53:53/udp"],
    "variables": ["GREETING"],
    "healthCheck": {"command": "test 'a' = \"a\"", "timeoutSeconds": 1},
}


class Target:
    """A machine and the deploy jobs that reach it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = folder / "tools"
        tools.mkdir()
        docker = f'#!/bin/sh\nexec {sys.executable} -I -S {ROOT}/tests/unit/fake_docker.py "$@"\n'
        for name, text in (("docker", docker), ("ssh", SSH)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.write({"containers": {}, "images": [], "logins": []})

    def write(self, state: dict[str, Any]) -> None:
        (self.folder / "state.json").write_text(json.dumps(state))

    @property
    def state(self) -> Any:
        return json.loads((self.folder / "state.json").read_text())

    @property
    def running(self) -> dict[str, str]:
        """The image of each container that runs."""
        return {name: one["image"] for name, one in self.state["containers"].items() if one["status"] == "running"}

    def deploy(self, image: str, **variables: str) -> tuple[int, str]:
        """Run the deploy job of a pipeline; its exit code and output."""
        settings = ProjectSettings.model_validate({"path": "Hello", "deploy": [ENVIRONMENT]})
        text = yaml.safe_load(pipeline_of(settings, Builder.BUILDAH, None, None, SupplyChain()))
        [name] = [one for one in text if one.startswith("deploy:")]
        script = "\n".join(["set -e", *text[name]["before_script"], *text[name]["script"]])
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        (work / "image.txt").write_text(f"{image}\n")
        (work / "deployed.txt").unlink(missing_ok=True)
        key = self.folder / "id"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        environment = {
            "PATH": f"{self.folder / 'tools'}:/usr/bin:/bin",
            "FAKE_DOCKER": str(self.folder),
            "CI_COMMIT_REF_NAME": "main",
            "CI_ENVIRONMENT_NAME": "staging",
            "CI_PROJECT_PATH": "root/hello",
            "CI_REGISTRY": "registry.test:5050",
            "GREETING": "it's\n$HOME",
            "SLIPWAY_DEPLOY_HOST": "203.0.113.7",
            "SLIPWAY_DEPLOY_HOST_KEY": PUBLIC_KEY,
            "SLIPWAY_DEPLOY_KEY": str(key),
            "SLIPWAY_DEPLOY_PORT": "2222",
            "SLIPWAY_DEPLOY_REGISTRY_TOKEN": TOKEN,
            "SLIPWAY_DEPLOY_REGISTRY_USER": "hello-pull",
            "SLIPWAY_DEPLOY_USER": "deploy",
            **variables,
        }
        environment = {name: value for name, value in environment.items() if value}
        done = subprocess.run(
            ["sh", "-c", script], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def handed_on(self) -> str | None:
        """What the job leaves as an artifact."""
        file = self.folder / "work" / "deployed.txt"
        return file.read_text().strip() if file.exists() else None


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_the_released_digest_runs_with_its_ports_and_variables_and_comes_back_after_a_reboot(target: Target) -> None:
    code, output = target.deploy(OLD)
    assert code == 0, output
    assert target.state["containers"] == {
        "hello-staging": {
            "image": OLD,
            "status": "running",
            "lost": False,
            "label": "root/hello staging",
            "publish": ["80:3000", "127.0.0.1:53:53/udp"],
            "restart": "unless-stopped",
            "environment": {"GREETING": "it's\n$HOME"},
        }
    }
    assert target.handed_on == OLD


def test_what_is_secret_reaches_the_machine_on_standard_input_alone_and_stays_on_no_disk(target: Target) -> None:
    _, output = target.deploy(OLD)
    said = output + (target.folder / "ssh-arguments").read_text() + (target.folder / "calls").read_text()
    assert "gldt-" not in said
    assert "$HOME" not in said
    [(folder, password)] = target.state["logins"]
    assert password == TOKEN
    assert not Path(folder).exists()
    assert "gldt-" in (target.folder / "input").read_text()


def test_the_connection_is_pinned_to_the_host_key_of_the_settings_and_to_nothing_else(target: Target) -> None:
    target.deploy(OLD)
    words = (target.folder / "ssh-arguments").read_text().split()
    for one in ("StrictHostKeyChecking=yes", "HostKeyAlias=target", "GlobalKnownHostsFile=none", "BatchMode=yes"):
        assert one in words
    assert words[words.index("-F") + 1] == "none"
    assert (words[words.index("-p") + 1], words[words.index("-l") + 1]) == ("2222", "deploy")
    assert (target.folder / "known_hosts").read_text() == f"target {PUBLIC_KEY}\n"


@pytest.mark.parametrize("kind", ["broken", "sick"])
def test_a_broken_release_is_stopped_beside_the_old_container_which_never_stops(target: Target, kind: str) -> None:
    target.deploy(OLD)
    (target.folder / "calls").unlink()
    code, output = target.deploy(NEW.replace("hello", kind))
    assert code == 1
    assert "error: the release is broken, so nothing was changed" in output
    assert target.running == {"hello-staging": OLD}
    assert set(target.state["containers"]) == {"hello-staging"}
    calls = (target.folder / "calls").read_text()
    assert "stop " not in calls
    assert "rename " not in calls
    assert target.handed_on is None


def test_a_release_that_fails_only_after_the_exchange_is_removed_and_the_old_one_put_back(target: Target) -> None:
    target.deploy(OLD)
    code, output = target.deploy(NEW.replace("hello", "loses"))
    assert code == 1
    assert "so the old one was put back" in output
    assert target.running == {"hello-staging": OLD}
    assert set(target.state["containers"]) == {"hello-staging"}


def test_a_first_release_that_is_broken_leaves_nothing(target: Target) -> None:
    code, output = target.deploy(NEW.replace("hello", "broken"))
    assert code == 1
    assert "hello-staging does not run yet" in output
    assert target.state["containers"] == {}


@pytest.mark.parametrize("moment", ["stop ", "update "])
def test_a_job_that_was_killed_is_settled_by_the_next_one(target: Target, moment: str) -> None:
    target.deploy(OLD)
    (target.folder / "kill-at").write_text(moment)
    code, _ = target.deploy(NEW)
    assert code != 0
    code, output = target.deploy(NEW.replace("hello", "broken"))
    assert code == 1, output
    assert target.running == {"hello-staging": OLD}
    code, output = target.deploy(NEW)
    assert code == 0, output
    assert target.running == {"hello-staging": NEW}
    assert set(target.state["containers"]) == {"hello-staging"}


def test_the_last_image_stays_for_a_way_back_that_needs_no_registry_and_older_ones_go(target: Target) -> None:
    third = NEW.replace("2" * 64, "3" * 64)
    for image in (OLD, NEW, third):
        assert target.deploy(image)[0] == 0
    assert target.state["images"] == [NEW, third]
    before = len(target.state["logins"])
    assert target.deploy(NEW)[0] == 0
    assert len(target.state["logins"]) == before
    assert target.running == {"hello-staging": NEW}


def test_an_image_that_the_registry_no_longer_has_changes_nothing_and_says_what_keeps_images(target: Target) -> None:
    target.deploy(OLD)
    code, output = target.deploy(NEW.replace("hello", "gone"))
    assert code == 1
    assert "keepImages and keepTags" in output
    assert target.running == {"hello-staging": OLD}


def test_a_container_that_somebody_else_started_under_the_name_stays(target: Target) -> None:
    target.deploy(OLD)
    state = target.state
    state["containers"]["hello-staging"]["label"] = "<no value>"
    target.write(state)
    code, output = target.deploy(NEW)
    assert code == 1
    assert "was started by somebody else" in output
    assert target.running == {"hello-staging": OLD}


@pytest.mark.parametrize(
    ("variables", "says", "message"),
    [
        ({"SLIPWAY_DEPLOY_KEY": ""}, "", "GitLab gives it to jobs of protected branches only: protect main"),
        ({"GREETING": ""}, "", "GREETING is none of the variables of this job"),
        ({}, "Host key verification failed.", "203.0.113.7 has another host key than the one in hostKey"),
        ({}, "deploy@203.0.113.7: Permission denied (publickey).", "restrict ssh-ed25519 AAAA"),
        ({}, "ssh: connect to host 203.0.113.7 port 2222: Connection refused", "the connection to 203.0.113.7 failed"),
    ],
)
def test_what_keeps_the_job_from_the_machine_is_named(
    target: Target, variables: dict[str, str], says: str, message: str
) -> None:
    if says:
        (target.folder / "ssh-says").write_text(f"{says}\n")
    code, output = target.deploy(OLD, **variables)
    assert code == 1
    assert message in output
    assert target.state["containers"] == {}


def test_a_tag_is_never_deployed(target: Target) -> None:
    code, output = target.deploy("registry.test:5050/root/hello:latest")
    assert code == 1
    assert "has no digest" in output
    assert not (target.folder / "input").exists()
