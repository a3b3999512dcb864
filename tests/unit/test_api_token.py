"""`python -m tools renew-token`: which tokens it replaces, and how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools import cli, processes
from tools.api_token import TARGETS

#: Plays the CLI: prints what a stack has, and records other commands.
PULUMI = """#!/bin/sh
case "$1 $2" in
  "stack export") cat "$STATE" ;;
  "stack output") printf '%s\\n' "$TOKEN" ;;
  *) printf '%s\\n' "$*" >>"$STATE.commands"; exit "${CODE:-0}" ;;
esac
"""


@dataclass(frozen=True)
class World:
    """A GitLab that accepts one token, and a stack on it."""

    state: Path
    patch: pytest.MonkeyPatch

    def renew(self, token: str) -> object:
        """Run the command with a stack that has `token`; its exit code, or the error that it ends with."""
        self.patch.setenv("TOKEN", token)
        self.patch.setattr(sys, "argv", ["tools", "renew-token", "--stack", "s"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    @property
    def commands(self) -> list[str]:
        """The Pulumi commands that were run besides reading."""
        commands = self.state.with_name("state.commands")
        return commands.read_text().splitlines() if commands.exists() else []


@pytest.fixture
def gitlab() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if (self.path, self.headers["PRIVATE-TOKEN"]) == ("/api/v4/user", "good") else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v4/"
        server.shutdown()
        thread.join()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gitlab: str) -> World:
    program = tmp_path / "bin/pulumi"
    program.parent.mkdir()
    program.write_text(PULUMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    # The real one waits for a signal, which a thread of the test process could take.
    monkeypatch.setattr(processes, "run_attached", lambda command, _: subprocess.run(command, check=False).returncode)
    monkeypatch.setenv("STATE", str(tmp_path / "state"))
    resources = [
        {"urn": f"urn:pulumi:s::slipway::{target}", "type": target.rpartition("::")[0]}
        for target in (*TARGETS, "other::gitlab-package")
    ]
    resources[3]["inputs"] = {"baseUrl": gitlab}  # type: ignore[assignment]
    (tmp_path / "state").write_text(json.dumps({"deployment": {"resources": resources}}))
    return World(tmp_path / "state", monkeypatch)


def test_a_token_that_gitlab_accepts_stays(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert (world.renew("good"), world.commands) == (0, [])
    assert "GitLab accepts it" in capsys.readouterr().out


def test_a_token_that_gitlab_rejects_is_replaced_alone_and_where_it_is_used(world: World) -> None:
    assert world.renew("expired") == 0
    [command] = world.commands
    urns = [f"urn:pulumi:s::slipway::{target}" for target in TARGETS]
    assert command.split() == [
        *("up", "--stack", "s", "--yes", "--skip-preview", "--target-replace", urns[0]),
        *(word for urn in urns for word in ("--target", urn)),
    ]


def test_a_gitlab_that_does_not_respond_is_no_reason_to_stop(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    state = json.loads(world.state.read_text())
    state["deployment"]["resources"][3]["inputs"]["baseUrl"] = "http://127.0.0.1:9/api/v4/"
    world.state.write_text(json.dumps(state))
    assert (world.renew("expired"), world.commands) == (0, [])
    assert "GitLab cannot be asked" in capsys.readouterr().out


def test_a_stack_without_anything_in_gitlab_needs_no_token(world: World) -> None:
    for deployment in ("{}", '{"resources": [{"urn": "urn:pulumi:s::slipway::other::x", "type": "other"}]}'):
        world.state.write_text(f'{{"deployment": {deployment}}}')
        assert (world.renew("expired"), world.commands) == (0, [])


def test_a_token_that_cannot_be_replaced_ends_with_what_to_do(world: World) -> None:
    world.patch.setenv("CODE", "255")
    error = str(world.renew("expired"))
    assert error.startswith("error: GitLab does not accept the stack's API token")
    assert error.endswith("Run pulumi up first")
