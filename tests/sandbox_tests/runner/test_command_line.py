"""`gitlab-runner` as a command: what it writes, asks, and refuses."""

from __future__ import annotations

import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.sandbox.runner.program.configuration import NEVER, Configuration
from tests.sandbox_tests.support.runner_command import gitlab_runner
from tests.sandbox_tests.support.runner_coordinator import Coordinator

ANOTHER = "glrt-t1_another0another0anot"


def register(config: Path, url: str, *words: object, token: str) -> subprocess.CompletedProcess[str]:
    return gitlab_runner(
        *("register", "--non-interactive", "--config", config, "--url", url, "--executor", "docker"),
        *("--docker-image", "docker:29", "--description", "docker-builder", *words),
        CI_SERVER_TOKEN=token,
    )


def test_registering_writes_the_same_file_as_the_real_one(config: Path, url: str, coordinator: Coordinator) -> None:
    done = register(config, url, "--docker-privileged", "--docker-volumes", "/certs/client", token=coordinator.token)
    assert done.returncode == 0, done.stderr
    assert "Verifying runner... is valid" in done.stderr
    assert "Runner registered successfully" in done.stderr
    document = tomllib.loads(config.read_text())
    assert document["concurrent"] == 1
    (runner,) = document["runners"]
    assert (runner["name"], runner["url"], runner["id"], runner["token"]) == (
        "docker-builder",
        url,
        3,
        coordinator.token,
    )
    assert runner["token_expires_at"] == NEVER
    assert runner["docker"]["privileged"] is True
    assert runner["docker"]["volumes"] == ["/certs/client", "/cache"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert coordinator.managers == [config.with_name(".runner_system_id").read_text()]


def test_the_token_from_the_environment_appears_only_in_the_file(
    config: Path, url: str, coordinator: Coordinator
) -> None:
    done = register(config, url, token=coordinator.token)
    assert coordinator.token not in done.stdout + done.stderr
    assert coordinator.token in config.read_text()


def test_registering_twice_adds_a_second_entry_and_warns(config: Path, url: str, coordinator: Coordinator) -> None:
    register(config, url, token=coordinator.token)
    done = register(config, url, token=coordinator.token)
    assert "WARNING: A runner with this system ID and token has already been registered." in done.stderr
    assert len(tomllib.loads(config.read_text())["runners"]) == 2


@pytest.mark.parametrize(
    "flag",
    [
        "--locked=false",
        "--tag-list=a",
        "--run-untagged",
        "--paused",
        "--maximum-timeout=600",
        "--access-level=ref_protected",
        "--maintenance-note=x",
    ],
)
def test_flags_that_the_server_decides_are_refused_with_an_authentication_token(
    config: Path, url: str, coordinator: Coordinator, flag: str
) -> None:
    done = register(config, url, flag, token=coordinator.token)
    assert done.returncode == 1
    assert "is reserved" in done.stderr
    assert not config.exists()


def test_the_default_of_locked_is_not_refused(config: Path, url: str, coordinator: Coordinator) -> None:
    assert register(config, url, "--locked", token=coordinator.token).returncode == 0


def test_a_wrong_token_is_refused_and_nothing_is_written(config: Path, url: str) -> None:
    done = register(config, url, token=ANOTHER)
    assert done.returncode == 1
    assert "is not valid" in done.stderr
    assert "PANIC: Failed to verify the runner." in done.stderr
    assert not config.exists()


def test_a_server_that_cannot_be_reached_is_named(config: Path) -> None:
    done = register(config, "http://127.0.0.1:1", token=ANOTHER)
    assert done.returncode == 1
    assert "couldn't execute POST against http://127.0.0.1:1/api/v4/runners" in done.stderr


def test_an_unknown_flag_a_missing_value_and_an_unknown_executor_are_refused_by_name(
    config: Path, url: str, coordinator: Coordinator
) -> None:
    assert "flag provided but not defined: -foo" in register(config, url, "--foo", token=coordinator.token).stderr
    done = register(config, url, "--executor", "podman", token=coordinator.token)
    assert "Invalid executor specified" in done.stderr
    assert coordinator.managers == []
    assert "Command frobnicate not found." in gitlab_runner("frobnicate").stderr


def test_flags_take_precedence_over_the_environment(config: Path, url: str, coordinator: Coordinator) -> None:
    done = gitlab_runner(
        *("register", "-n", "-c", config, "-url", url, "--executor=docker", "--docker-image", "a:1"),
        CI_SERVER_TOKEN=coordinator.token,
        DOCKER_IMAGE="b:2",
        DOCKER_VOLUMES="/one,/two",
        RUNNER_NAME="from the environment",
    )
    assert done.returncode == 0, done.stderr
    (runner,) = tomllib.loads(config.read_text())["runners"]
    assert runner["docker"]["image"] == "a:1"
    assert runner["docker"]["volumes"] == ["/one", "/two", "/cache"]
    assert runner["name"] == "from the environment"


def test_a_template_fills_in_what_the_flags_leave_open(
    config: Path, url: str, coordinator: Coordinator, tmp_path: Path
) -> None:
    template = tmp_path / "template.toml"
    template.write_text('[[runners]]\nlimit = 3\n[runners.docker]\nimage = "c:3"\nprivileged = true\n')
    done = register(config, url, "--template-config", template, token=coordinator.token)
    assert done.returncode == 0, done.stderr
    (runner,) = tomllib.loads(config.read_text())["runners"]
    assert (runner["limit"], runner["docker"]["image"], runner["docker"]["privileged"]) == (3, "docker:29", True)
    template.write_text("")
    assert (
        "exactly one [[runners]] entry"
        in register(config, url, "--template-config", template, token=coordinator.token).stderr
    )


def test_verify_reports_dead_runners_and_removes_them_on_request(
    config: Path, url: str, coordinator: Coordinator
) -> None:
    register(config, url, token=coordinator.token)
    assert gitlab_runner("verify", "-c", config).returncode == 0
    coordinator.token = ANOTHER
    assert gitlab_runner("verify", "-c", config).returncode == 1
    assert len(tomllib.loads(config.read_text())["runners"]) == 1
    assert gitlab_runner("verify", "-c", config, "--delete").returncode == 0
    assert "runners" not in config.read_text()


def test_verify_selects_by_flags_and_not_by_the_environment(config: Path, url: str, coordinator: Coordinator) -> None:
    register(config, url, token=coordinator.token)
    done = gitlab_runner("verify", "-c", config, "--url", url, "--token", "glrt-none")
    assert done.returncode == 1
    assert "no runner matches the filtering parameters" in done.stderr
    assert gitlab_runner("verify", "-c", config, CI_SERVER_TOKEN=ANOTHER).returncode == 0


def test_unregister_removes_this_host_from_the_runner_and_the_entry(
    config: Path, url: str, coordinator: Coordinator
) -> None:
    register(config, url, token=coordinator.token)
    assert gitlab_runner("unregister", "-c", config, "--name", "nobody").returncode == 1
    assert gitlab_runner("unregister", "-c", config, "--name", "docker-builder").returncode == 0
    assert coordinator.managers == []
    assert "runners" not in config.read_text()


def test_list_names_every_runner(config: Path, url: str, coordinator: Coordinator) -> None:
    register(config, url, token=coordinator.token)
    listed = gitlab_runner("list", "-c", config).stderr
    assert "docker-builder" in listed
    assert f"URL={url}" in listed


def test_the_version_is_the_packages() -> None:
    assert "Version:      19.3.0" in gitlab_runner("--version").stdout


def test_a_configuration_is_kept_when_it_is_rewritten(tmp_path: Path) -> None:
    text = (
        'concurrent = 4\nlog_format = "json"\n[[runners]]\nname = "ä \\"b\\""\ntoken = "t"\n'
        'environment = ["A=1", \'B=$x\']\n[runners.docker]\nimage = "x"\n[runners.docker.sysctls]\n'
        '"net.ipv4.ip_forward" = "1"\n[[runners.docker.services]]\nname = "docker:dind"\n'
    )
    file = tmp_path / "config.toml"
    file.write_text(text)
    configuration = Configuration(file).load()
    configuration.save()
    assert tomllib.loads(file.read_text()) == {**configuration.document, **tomllib.loads(text)}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("concurrent = \n")
    done = gitlab_runner("list", "-c", tmp_path / "config.toml")
    assert done.returncode == 1
    assert f"decoding {tmp_path / 'config.toml'}" in done.stderr
