"""`python -m tools`: commands with the tools on PATH, and what they report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.sandbox_tests.support.waiting import eventually
from tools import cli, clients, demo, environment, progress, verify
from tools.environment import ROOT
from tools.progress import ToolError


def program(output: str) -> bytes:
    return f"#!/bin/sh\necho '{output}'\n".encode()


def install(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def test_a_user_keeps_login_and_backend_and_gets_the_tools_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PULUMI_HOME", "PULUMI_CREDENTIALS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = environment.tool_environment(tmp_path)
    assert found["PULUMI_HOME"] == f"{tmp_path}/pulumi-home"
    assert found["PULUMI_CREDENTIALS_PATH"] == "/home/somebody/.pulumi"
    assert found["PATH"] == f"{tmp_path}/bin:{environment.VENV}/bin:/usr/bin:/bin"
    assert not found.keys() & {"PULUMI_BACKEND_URL", "DIGITALOCEAN_TOKEN", "HOME"}


def test_the_login_of_a_user_with_a_pulumi_home_of_their_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_CREDENTIALS_PATH", raising=False)
    monkeypatch.setenv("PULUMI_HOME", "/srv/pulumi")
    assert environment.tool_environment()["PULUMI_CREDENTIALS_PATH"] == "/srv/pulumi"


def execute(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m tools exec` with the tools in a folder."""
    code = "import tools.cli as c, tools.environment as e, pathlib, sys\n"
    code += f"c.tool_environment = lambda: e.tool_environment(pathlib.Path({str(folder)!r}))\n"
    code += f"sys.argv = ['tools', 'exec', '--', *{command!r}]\nc.main()"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM)])
def test_a_command_takes_the_place_of_the_tool_that_starts_it(tmp_path: Path, command: str, code: int) -> None:
    assert execute("sh", "-c", command, folder=tmp_path).returncode == code


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    done = execute("no-such-command", folder=tmp_path)
    assert (done.returncode, done.stderr) == (127, "no-such-command: No such file or directory\n")


def test_a_command_is_looked_up_among_the_tools_first(tmp_path: Path) -> None:
    install(tmp_path / "bin/pulumi", program("the tool"))
    assert execute("pulumi", "--version", folder=tmp_path).stdout == "the tool\n"


def test_a_failed_command_shows_the_end_of_its_output_and_where_the_rest_is(tmp_path: Path) -> None:
    script = "print('beginning'); print('x\\n' * 50); print('the reason'); raise SystemExit(3)"
    with pytest.raises(progress.ToolError) as caught:
        progress.run("making", [sys.executable, "-c", script], tmp_path / "log")
    assert "the reason" in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)
    assert "beginning" not in str(caught.value)


def test_a_long_step_reports_that_it_is_still_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT", 0.01)
    lines: list[str] = []
    with progress.heartbeat("compiling", lines.append):
        eventually(lambda: lines)
    assert lines[0].startswith("compiling: still running after ")


def test_a_client_that_is_not_installed_is_named() -> None:
    with pytest.raises(clients.CheckError, match=r"^pulumi is not installed on this machine, or not on PATH$"):
        clients.Outputs.of_stack("production")


@pytest.mark.parametrize("command", [verify.verify, partial(demo.demo, confirmed=True)])
def test_a_stack_that_was_never_deployed_is_an_error_in_one_line(
    command: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "pulumi", program("{}"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ToolError, match=r"^stack production is not deployed: run `pulumi up` first$"):
        command("production")


def test_a_stack_that_pulumi_does_not_know_is_an_error_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "pulumi", b"#!/bin/sh\necho \"error: no stack named 'production' found\" >&2\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", ["tools", "verify", "--stack", "production"])
    with pytest.raises(SystemExit, match=r"^error: pulumi failed: error: no stack named 'production' found$"):
        cli.main()


def test_an_interrupt_is_left_to_the_command_that_runs(tmp_path: Path) -> None:
    """The command ends in its own time, and what comes after it is done."""
    command = f"trap 'sleep 0.5; exit 7' INT; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    code = f"import os, tools.processes as p; print(p.run_attached(['sh', '-c', {command!r}], os.environ))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    eventually((tmp_path / "ready").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "7\n"
