"""The end of `make up`, and `make open` on a real account: what they say, and what they keep to themselves."""

from __future__ import annotations

import webbrowser
from typing import Any

import pytest

from tools import browse, summary
from tools.clients import CheckError, Outputs
from tools.progress import ToolError
from tools.verify import Certificate

URL = "https://gitlab.example.test"
IMAGE = "gitlab.example.test:5555/root/hello"
HELLO = {
    "url": f"{URL}/root/hello",
    "docker_pull": f"docker pull {IMAGE}:latest",
    "docker_run": f"docker run --rm --publish 3000:3000 {IMAGE}:latest",
}
VALUES: dict[str, Any] = {
    "gitlab_url": URL,
    "gitlab_admin_user": "root",
    "gitlab_admin_password": "the-password",
    "docker_login": "docker login --username root gitlab.example.test:5555",
    "projects": [HELLO],
}


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str = "", **more: Any) -> str:
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs({**VALUES, **more}))
    summary.summary("test", arguments)
    return capsys.readouterr().out


def test_an_update_ends_with_ten_lines_that_say_what_is_there_and_what_comes_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        said(monkeypatch, capsys)
        == f"""
Your GitLab is up, and every check holds.
  GitLab    {URL}, as root
  Registry  docker login --username root gitlab.example.test:5555
  Project   {URL}/root/hello
  Image     docker run --rm --publish 3000:3000 {IMAGE}:latest
  make open     sign in with your browser; with PASSWORD=1 it shows the password
  make demo     commit a change, and watch it being built, tested and released
  make status   how all of it is, in seconds; make logs says more
  make shell    a shell with pulumi, docker and ssh for it
  make down     remove it; what is protected stays

"""
    )


def test_commands_for_another_stack_name_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(monkeypatch, capsys, "STACK=staging").splitlines()
    commands = [line for line in lines if line.startswith("  make ")]
    assert len(commands) == 5
    assert all("STACK=staging  " in line for line in commands)
    texts = ("sign in", "commit", "how all", "a shell", "remove it")
    assert len({line.index(text) for line, text in zip(commands, texts, strict=True)}) == 1


@pytest.mark.parametrize(
    ("projects", "words", "missing"),
    [
        ([], "none yet: add some to the stack file", "make demo"),
        ([{"url": f"{URL}/root/other"}], f"Project   {URL}/root/other\n", "Image"),
        ([{"url": f"{URL}/a/b"}, HELLO], f"{URL}/a/b, and 1 more", "docker pull"),
        ([{**HELLO, "docker_run": None}], f"docker pull {IMAGE}:latest", "make demo"),
    ],
)
def test_only_what_the_stack_has_is_shown(
    projects: list[Any], words: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said(monkeypatch, capsys, projects=projects)
    assert words in shown
    assert missing not in shown
    assert len(shown.strip().splitlines()) <= 10
    assert "the-password" not in shown


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser was sent to, on a machine with a desktop."""
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", found.append)
    monkeypatch.setattr(browse, "has_desktop", lambda: True)
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs(VALUES))
    monkeypatch.setattr(browse, "certificate_of", lambda *_: Certificate("R12", 60))
    return found


def test_a_real_stack_is_opened_under_its_own_address(opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    browse.browse("test", show_password=False)
    assert opened == [URL]
    shown = capsys.readouterr().out
    assert f"GitLab is at  {URL}\n" in shown
    assert "user          root\n" in shown
    assert "Its certificate is trusted here: issued by R12, 60 days left." in shown
    assert "the-password" not in shown


def test_the_password_is_shown_only_to_those_who_ask(opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    browse.browse("test", show_password=True)
    assert "password      the-password  (unless it was changed in GitLab)" in capsys.readouterr().out
    assert opened == [URL]


def test_without_a_desktop_the_address_is_all_there_is(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browse, "has_desktop", lambda: False)
    browse.browse("test", show_password=False)
    assert opened == []
    assert URL in capsys.readouterr().out


@pytest.mark.parametrize(
    ("platform", "environment", "found"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "w"}, True),
        ("darwin", {}, True),
    ],
)
def test_a_desktop_is_known_by_what_shows_windows(
    platform: str, environment: dict[str, str], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert browse.has_desktop() is found


def test_a_certificate_that_this_machine_does_not_accept_is_explained(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Certificate:
        raise OSError("certificate verify failed: self-signed certificate")

    monkeypatch.setattr(browse, "certificate_of", refuse)
    browse.browse("test", show_password=False)
    shown = capsys.readouterr().out
    assert "does not accept its certificate, or does not reach it (certificate verify failed: self-signed" in shown
    assert "certificate.caCertificate or certificate.acmeStaging" in shown
    assert opened == [URL]


@pytest.mark.parametrize(
    "command", [lambda: summary.summary(None, ""), lambda: browse.browse(None, show_password=False)]
)
def test_a_stack_that_was_never_deployed_is_an_error_in_one_line(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str | None) -> Outputs:
        raise CheckError("stack that is selected is not deployed: run `pulumi up` first")

    monkeypatch.setattr(Outputs, "of_stack", fail)
    with pytest.raises(ToolError, match="is not deployed"):
        command()
