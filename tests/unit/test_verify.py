"""`make verify`: what it asks of the machine that it runs on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from types import SimpleNamespace

import httpx
import pytest

from tools import ports, verify
from tools.clients import CheckError, Docker, Outputs

OUTPUTS = Outputs({"registry": "gitlab.example.com:5555", "server_address": "203.0.113.20"})
DEPLOYED = Outputs({**OUTPUTS.values, "projects": [], "backup": None})


def accepting(monkeypatch: pytest.MonkeyPatch, opened: set[int]) -> list[int]:
    """A server on which these ports are open; returns those that were tried."""
    tried: list[int] = []

    def connect(address: str, wanted: Iterable[int]) -> set[int]:
        assert address == "203.0.113.20"
        tried.extend(wanted)
        return opened & {*tried}

    monkeypatch.setattr(ports, "connect", connect)
    monkeypatch.setattr(ports, "scan", lambda _: opened)
    return tried


def test_the_ports_of_services_are_tried_by_connections_that_anybody_can_make(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = accepting(monkeypatch, {22, 80, 443, 5555, 40000})
    said = verify.checks_of(DEPLOYED)["Ports"](OUTPUTS)
    assert said.startswith("open: 22, 80, 443, 5555; closed: the other ")
    assert said.endswith(" that services use (--all-ports tries all)")
    assert {22, 2376, 5432, 5555, 8080} <= {*tried}
    assert len(tried) < 2000


def test_all_ports_are_scanned_if_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    accepting(monkeypatch, {22, 80, 443, 5555})
    check = verify.checks_of(DEPLOYED, all_ports=True)["Ports"]
    assert check(OUTPUTS) == "open: 22, 80, 443, 5555; closed: the other 65531"
    accepting(monkeypatch, {22, 80, 443, 5555, 40000})
    with pytest.raises(CheckError, match=r"open ports: \[22, 80, 443, 5555, 40000\], expected"):
        check(OUTPUTS)


@pytest.mark.parametrize("opened", [{22, 80, 443, 5432, 5555}, {22, 80}, set[int]()])
def test_an_open_port_that_should_be_closed_is_reported(opened: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    accepting(monkeypatch, opened)
    with pytest.raises(CheckError, match=re.escape(f"open ports: {sorted(opened)}, expected")):
        verify.ports_are_closed(OUTPUTS)


def test_a_page_that_is_not_served_is_reported_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = Outputs({**OUTPUTS.values, "gitlab_url": "https://gitlab.example.com"})

    def wait(*_: object, **__: object) -> None:
        # This one comes without a text.
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(httpx, "get", wait)
    with pytest.raises(CheckError, match=r"^https://gitlab\.example\.com/users/sign_in does not answer: ReadTimeout$"):
        verify.gitlab_is_ready(outputs)
    monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(502))
    with pytest.raises(CheckError, match=r"sign_in answers 502$"):
        verify.gitlab_is_ready(outputs)


@pytest.mark.parametrize("status", ["success", "failed"])
@pytest.mark.parametrize("files", [["README.md", ".gitlab-ci.yml"], ["README.md", ".gitlab-ci.yml", "app"]])
def test_a_new_project_waits_for_its_code_and_one_with_code_has_to_be_green(
    status: str, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = SimpleNamespace(
        path_with_namespace="root/shop", default_branch="main", repository_tree=lambda **_: [{"path": x} for x in files]
    )
    monkeypatch.setattr(verify, "project_of", lambda *_: project)
    monkeypatch.setattr(verify, "last_pipeline", lambda _: SimpleNamespace(status=status))
    monkeypatch.setattr(verify, "times_of", lambda _: {"build": 2.0})
    outputs = Outputs({"projects": [{"docker_pull": "docker pull shop"}]})
    if status == "success":
        assert verify.pipelines_are_green(outputs) == "root/shop: build 2 s"
    elif "app" not in files:
        assert "root/shop: nothing to build yet, push your repository" in verify.pipelines_are_green(outputs)
    else:
        with pytest.raises(CheckError, match="root/shop: pipeline failed"):
            verify.pipelines_are_green(outputs)


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


def test_a_job_leaves_out_and_names_what_it_has_no_programs_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = Outputs({**OUTPUTS.values, "gitlab_url": "https://gitlab.example.com"})
    monkeypatch.setattr(Outputs, "of_stack", lambda _: outputs)
    monkeypatch.setattr(verify, "cache_checks", lambda *_: {})
    monkeypatch.setattr(verify, "CHECKS", {name: lambda _: "holds" for name in ("DNS", "TLS", "Login")})
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "docker" else f"/usr/bin/{name}")
    assert verify.verify(None, available=True) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 hold\nLogin: left out, because docker cannot be run here\n" in shown
    engine = subprocess.CompletedProcess(["docker"], 1, "", "Cannot connect to the Docker daemon")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(verify, "try_run", lambda *_: engine)
    assert verify.verify(None, available=True) == 0
    assert "Login: left out, because docker cannot be run here\n" in capsys.readouterr().out
    # With all clients present, nothing is left out.
    assert verify.verify(None) == 0
    assert "3 of 3 hold\n" in capsys.readouterr().out


def test_every_check_that_needs_a_program_says_so() -> None:
    known = {**verify.CHECKS, **verify.PROJECT_CHECKS, **verify.BACKUP_CHECKS, **verify.MAIL_CHECKS}
    known |= verify.METRICS_CHECKS
    known["Cache"] = lambda _: "of machines, which are in the state"
    assert verify.PROGRAMS.keys() <= known.keys()
    # These use Python alone.
    assert known.keys() - verify.PROGRAMS.keys() == {"Ports", "TLS", "GitLab", "Pipeline"}
