"""The scripts of a deploy job: what reaches the machine and how, and what runs there afterwards, whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.deploy_target import NEW, OLD, TOKEN, Target
from tests.unit.stack_file_corpus import PUBLIC_KEY


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
            "labels": {"slipway.environment": "root/hello staging"},
            "publish": ["80:3000", "127.0.0.1:53:53/udp"],
            "restart": "unless-stopped",
            "environment": {"GREETING": "it's\n$HOME"},
            "network": None,
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
    state["containers"]["hello-staging"]["labels"] = {}
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
