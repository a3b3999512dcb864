"""A test mail, sent by GitLab itself."""

from __future__ import annotations

import secrets
import shlex
import subprocess

from components.rendering import script
from tools.clients import CheckError, Outputs, try_run

#: Rails takes up to two minutes to start, and gives up on a mail server that does not respond after half a minute.
_SECONDS = 240


def mail_is_sent(outputs: Outputs) -> str:
    """GitLab sends a mail with its own settings, and the mail server accepts it. Delivery is not checked.

    Raises:
        CheckError: the mail server did not accept it, or GitLab did not answer in time.
    """
    mail = outputs.mail or {}
    subject = f"Test mail of {outputs.host}"
    body = f"<p>GitLab at {outputs.url} can send mail. This one has the number {secrets.token_hex(4)}.</p>"
    command = shlex.join(["sudo", "gitlab-rails", "runner", "-", mail["test_recipient"], subject, body])
    with outputs.ssh_files() as options:
        login = (*options, f"{outputs.ssh_user}@{outputs.address}")
        try:
            done = try_run("ssh", *login, command, stdin=script("send-test-mail.rb"), timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            # The message of the error is the command line.
            raise CheckError(f"{mail['server']}: no answer within {_SECONDS} s") from None
    if done.returncode != 0:
        raise CheckError(f"{mail['server']} did not accept the test mail: {_reason(done.stderr)}")
    return f"{mail['server']} accepted a mail from {mail['from']} to {mail['test_recipient']}"


def _reason(stderr: str) -> str:
    """What Ruby says about the failure, or the last line if it says nothing."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    named = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (named or lines or ["no reason was given"])[-1]
