"""An installation with machines that are not there and a GitLab that is somewhere else.

Steps on machines go to the SSH server of the test, as scripts that print what the program reads. `WHOLE_PROGRAM` is
JSON: where the program, that server and GitLab are.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command.remote import ConnectionArgs

from components import gitlab, remote, spaces
from components.rendering import script

known: dict[str, Any] = json.loads(os.environ["WHOLE_PROGRAM"])
STEPS = Path(__file__).with_name("steps")


class GitLab(gitlab.GitLab):
    """GitLab, once its steps have run, is the one of the test."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url = self.api_token_expires.apply(lambda _: str(known["gitlab"]))
        self.api_token = pulumi.Output.secret(self.api_token.apply(lambda _: str(known["token"])))


def connection(self: remote.Machine) -> ConnectionArgs:
    """The way to the server of the test."""
    return ConnectionArgs(
        host="127.0.0.1",
        port=known["port"],
        user=self.user,
        private_key=known["key"],
        host_key=known["hostKey"],
        dial_error_limit=3,
    )


def step(name: str) -> str:
    """What runs in the place of a script; libraries are left out."""
    own = STEPS / name
    return script(name) if name == "prelude.sh" else (own if own.exists() else STEPS / "other.sh").read_text()


gitlab.GitLab = GitLab  # type: ignore[misc]
remote.Machine.connection = connection  # type: ignore[method-assign]
remote.script = step  # type: ignore[attr-defined]
spaces._KEY_SPREADS_SECONDS = 0  # type: ignore[misc]
