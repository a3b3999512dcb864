"""`make verify`: what it asks of the machine that it runs on."""

from __future__ import annotations

import os
import subprocess

import pytest

from tools import verify
from tools.clients import CheckError, Docker, Outputs

OUTPUTS = Outputs({"registry": "gitlab.example.com:5555", "server_address": "203.0.113.20"})


def scans(monkeypatch: pytest.MonkeyPatch, user: int, opened: str = "22 80 443 5555") -> list[str]:
    """The scanner's command line, for a user; these ports are open."""
    commands: list[str] = []

    def run(*command: str, timeout: int) -> str:
        commands.extend([*command, str(timeout)])
        return "Ports: " + ", ".join(f"{port}/open/tcp//x///" for port in opened.split())

    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(verify, "run", run)
    return commands


def test_root_scans_all_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    command = scans(monkeypatch, 0)
    assert verify.ports_are_closed(OUTPUTS) == "open: 22, 80, 443, 5555; closed: the other 65531"
    assert {"-sS", "-p-"} <= {*command}


def test_without_root_the_ports_of_services_are_scanned_by_whole_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    command = scans(monkeypatch, 1000)
    assert "run as root to scan all 65535" in verify.ports_are_closed(OUTPUTS)
    assert "-sT" in command
    assert "-sS" not in command
    [ports] = [word for word in command if word.startswith("-p")]
    assert ports.endswith(",5555")


@pytest.mark.parametrize("user", [0, 1000])
def test_an_open_port_that_should_be_closed_is_reported(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scans(monkeypatch, user, "22 80 443 5432 5555")
    with pytest.raises(CheckError, match=r"open ports: \[22, 80, 443, 5432, 5555\], expected"):
        verify.ports_are_closed(OUTPUTS)


class Registry(Docker):
    """A Docker client of a registry that accepts one password."""

    accepted = "glpat-token"

    def try_login(self, registry: str, user: str, password: str) -> subprocess.CompletedProcess[str]:
        """Log in."""
        return subprocess.CompletedProcess(["docker", registry, user], int(password != self.accepted), "", "denied")


@pytest.mark.parametrize(
    ("accepted", "said"), [("first", "logs in to r.test;"), ("glpat-token", "not with the password of the outputs")]
)
def test_a_password_that_an_administrator_changed_is_no_failure(
    accepted: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "accepted", accepted)
    monkeypatch.setattr(verify, "Docker", Registry)
    access = {"gitlab_admin_user": "root", "gitlab_admin_password": "first", "gitlab_api_token": "glpat-token"}
    assert said in verify.login_is_checked(Outputs({"registry": "r.test", **access}))
    with pytest.raises(CheckError, match="docker login: denied"):
        verify.login_is_checked(
            Outputs({"registry": "r.test", **access, "gitlab_api_token": "", "gitlab_admin_password": ""})
        )
