"""The test mail of `make verify`, and the settings of mail that contradict each other."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from components.settings import SettingsError, load
from tests.unit.engine import ENCRYPTED, REQUIRED, as_config, project_defaults, run_program
from tools import mail, verify
from tools.clients import CheckError, Outputs

MAIL = {"server": "smtp.example.com:2525", "from": "gitlab@example.com", "test_recipient": "ops@example.com"}
OUTPUTS = Outputs(
    {
        "gitlab_url": "https://gitlab.example.com",
        "server_address": "203.0.113.20",
        "server_ssh_user": "slipway",
        "server_ssh_private_key": "example",
        "server_ssh_host_key": "ssh-ed25519 AAAA",
        "mail": MAIL,
    }
)
#: What Ruby on Rails prints besides, and what the program does about an error.
NOISE = "/opt/gitlab/embedded/lib/x.rb:1: warning: already initialized constant\n"


def server(monkeypatch: pytest.MonkeyPatch, status: int, stderr: str = "") -> list[Any]:
    """A server that answers the test mail like this; the command lines and inputs that it gets."""
    seen: list[Any] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.extend([command[-1], options["input"]])
        return subprocess.CompletedProcess(command, status, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_a_gitlab_that_does_not_answer_in_time_is_an_error_without_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wait(command: tuple[str, ...], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 240)

    monkeypatch.setattr(subprocess, "run", wait)
    with pytest.raises(CheckError, match=r"^smtp\.example\.com:2525: no answer within 240 s$"):
        mail.mail_is_sent(OUTPUTS)


def test_a_stack_that_sends_mail_has_a_check_of_it_and_no_other_has() -> None:
    assert "Mail" in verify.checks_of(OUTPUTS)
    assert "Mail" not in verify.checks_of(Outputs({**OUTPUTS.values, "mail": None}))


def test_gitlab_itself_sends_the_test_mail_to_the_recipient(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = server(monkeypatch, 0, NOISE)
    measured = mail.mail_is_sent(OUTPUTS)
    assert measured == "smtp.example.com:2525 accepted a mail from gitlab@example.com to ops@example.com"
    assert seen[0].startswith("sudo gitlab-rails runner - ops@example.com 'Test mail of gitlab.example.com' '<p>")
    assert "Notify.test_email(*ARGV).deliver_now" in seen[1]


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        (
            f"{NOISE}error: Net::SMTPAuthenticationError: 535 5.7.8 rejected\n",
            "Net::SMTPAuthenticationError: 535 5.7.8",
        ),
        ("sudo: gitlab-rails: command not found\n", "command not found"),
        ("", "no reason was given"),
    ],
)
def test_a_mail_that_is_not_taken_fails_the_check_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, stderr: str, reason: str
) -> None:
    server(monkeypatch, 1, stderr)
    with pytest.raises(CheckError, match=f"smtp.example.com:2525 did not accept the test mail: .*{reason}"):
        mail.mail_is_sent(OUTPUTS)


def errors(**smtp: Any) -> list[str]:
    section = {"address": "smtp.example.com", "from": "gitlab@example.com", **smtp}
    config = as_config({**project_defaults(), **REQUIRED, "smtp": section})
    try:
        load("slipway", "test", config, ENCRYPTED)
    except SettingsError as error:
        return error.errors
    return []


@pytest.mark.parametrize(
    ("smtp", "message"),
    [
        ({"port": 587}, "smtp.port: 587 is blocked by DigitalOcean on all droplets; every mail would time out. "),
        ({"portUnblocked": True}, "smtp.portUnblocked: is true, but 2525 is not a port that is blocked; "),
        ({"port": 465, "portUnblocked": True}, "smtp.port: 465 is for TLS from the start; "),
        ({"userName": "apikey"}, "smtp.userName: is set without a password; "),
        ({"password": "example"}, "smtp.password: is set without userName; "),
        ({"userName": "a", "password": "example", "security": "none"}, "smtp.security: is none; the password would "),
    ],
)
def test_settings_of_mail_that_do_not_go_together_are_refused(smtp: dict[str, Any], message: str) -> None:
    [line] = errors(**smtp)
    assert line.startswith(message)


@pytest.mark.parametrize(
    "smtp",
    [
        {},
        {"port": 587, "portUnblocked": True},
        {"port": 465, "portUnblocked": True, "security": "tls"},
        {"userName": "apikey", "password": "example"},
        {"security": "none"},
    ],
)
def test_settings_of_mail_that_work_are_accepted(smtp: dict[str, Any]) -> None:
    assert errors(**smtp) == []


def test_where_mail_goes_is_an_output_without_its_password() -> None:
    section = {"address": "smtp.example.com", "userName": "apikey", "password": "the-smtp-password"}
    engine = run_program(smtp={**section, "from": "gitlab@example.com"})
    assert engine.exports["mail"] == {**MAIL, "test_recipient": "gitlab@example.com"}
    assert "mail" not in {name for name, value in run_program().exports.items() if value is not None}
