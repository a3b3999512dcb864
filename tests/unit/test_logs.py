"""`python -m tools logs`: which logs of which machine it prints, and that what is followed ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gitlab
import pytest

from tests.sandbox_tests.support.waiting import eventually
from tests.unit.status_world import SERVER, VALUES, World, host_key, machine, state, world
from tools import logs as module
from tools.clients import Outputs
from tools.environment import ROOT
from tools.job_log import JobLog, printable
from tools.logs import Wish
from tools.progress import ToolError
from tools.state import StackState

__all__ = ["world"]

#: Plays a machine: `ssh` runs the command here, with logs in a folder of the test instead of the machine's.
PROGRAMS = {
    "sudo": 'exec "$@"',
    "ssh": 'for last; do :; done; case "$*" in *198.51.100.7*) export HOST=server ;; *) export HOST=other ;; esac\n'
    'exec bash -c "$last"',
    "journalctl": 'echo "$HOST: $*"; case "$*" in *--follow*) echo $$ >"$WORLD/follower"; exec sleep 600 ;; esac',
    "find": 'cat "$WORLD/found"',
    "tail": 'echo "$*"; printf "\\033]0;title\\007evil\\n"',
}


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the played machines."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("WORLD", str(tmp_path))
    (tmp_path / "found").write_text("3.5 /var/log/gitlab/puma/current\n20.1 /var/log/gitlab/nginx/current\n")
    monkeypatch.setattr(Outputs, "of_stack", lambda _: Outputs(VALUES))
    monkeypatch.setattr(StackState, "of_stack", lambda _: state())
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], part: str, lines: int = 7, **more: Any) -> list[str]:
    assert module.logs("test", Wish(part, lines, False, **more)) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("machines")
def test_the_logs_of_gitlab_are_those_of_all_its_services_and_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = "/var/log/gitlab/puma/current /var/log/gitlab/nginx/current"
    assert shown(capsys, "gitlab") == [f"--verbose --lines 7 {files}", "]0;titleevil"]


@pytest.mark.usefixtures("machines")
def test_the_logs_of_a_runner_come_from_its_machine_and_those_of_backups_from_the_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "--no-pager --output=short-iso --unit {} --lines 7"
    runner = words.format("gitlab-runner --unit slipway-docker-hub-cache")
    assert shown(capsys, "runner") == [f"other: {runner}"]
    assert shown(capsys, "backup") == [f"server: {words.format('slipway-backup')}"]


def test_the_logs_of_a_target_are_those_of_its_containers_alone(
    machines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "delivery-target-hello-demo"
    target = machine(name, "203.0.113.8")
    target["urn"] = target["urn"].replace("digitalocean", "slipway:index:Delivery$slipway:index:Target$digitalocean", 1)
    monkeypatch.setattr(StackState, "of_stack", lambda _: state(target, host_key(name)))
    docker = '#!/bin/bash\n[ "$1" = ps ] && printf "web\\nworker\\n" || echo "$*"\n'
    (machines / "docker").write_text(docker)
    (machines / "docker").chmod(0o755)
    assert sorted(shown(capsys, "target")) == [f"{one}: logs --tail 7 {one}" for one in ("web", "worker")]
    assert len(shown(capsys, "runner")) == 1
    (machines / "docker").write_text("#!/bin/bash\n")
    assert module.logs("test", Wish("target", 7, False)) == 1
    assert capsys.readouterr().out == "no container is on this machine\n"


@pytest.mark.usefixtures("machines")
def test_lines_of_several_machines_have_the_name_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    second = (machine("delivery-docker-2", "203.0.113.4"), host_key("delivery-docker-2"))
    monkeypatch.setattr(StackState, "of_stack", lambda _: state(*second))
    lines = sorted(shown(capsys, "runner"))
    assert [line.split(" │ ")[0] for line in lines] == [f"slipway-test-delivery-docker-{number}" for number in (1, 2)]


def test_a_log_that_cannot_be_read_is_an_error(machines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machines / "found").write_text("")
    assert module.logs("test", Wish("gitlab", 7, False)) == 1
    assert capsys.readouterr().out == "no log of gitlab has been written within a day\n"
    (machines / "ssh").write_text("#!/bin/sh\necho 'Connection refused' >&2\nexit 255\n")
    assert module.logs("test", Wish("registry", 7, True)) == 1
    assert capsys.readouterr().out == "Connection refused\n"


def test_a_stack_without_runners_says_so(machines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del machines
    bare = {"deployment": {"resources": [SERVER, host_key("server")]}}
    monkeypatch.setattr(StackState, "of_stack", lambda _: StackState("test", bare))
    for part, words in (("runner", "no runners"), ("target", "no droplet that a project is deployed to")):
        with pytest.raises(ToolError, match=f"this stack has {words}"):
            module.logs("test", Wish(part, 7, False))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_what_is_followed_ends_on_the_machine_when_it_ends_here(end: signal.Signals, machines: Path) -> None:
    code = (
        "import signal, tests.unit.test_status as t, tools.clients as c, tools.state as s, tools.logs as l\n"
        # Whoever started the tests may have told them to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "c.Outputs.of_stack = lambda _: c.Outputs(t.VALUES)\ns.StackState.of_stack = lambda _: t.state()\n"
        "l.logs('test', l.Wish('backup', 7, True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout
    assert b"--follow" in process.stdout.readline()
    follower = machines / "follower"
    eventually(lambda: follower.exists() and follower.read_text().strip())
    process.send_signal(end)
    process.wait(timeout=60)
    eventually(lambda: not Path(f"/proc/{follower.read_text().strip()}").exists())
    process.stdout.close()


def test_the_last_job_of_the_stacks_projects_is_shown_or_the_one_that_is_named(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outputs, "gitlab", _default_timeout(Outputs.gitlab))
    jobs = {number: {"id": number, "name": "build", "status": "success", "web_url": f"u/{number}"} for number in (3, 4)}
    world.api["/projects/root%2Fhello/jobs"] = [jobs[4]]
    world.api |= {f"/projects/root%2Fhello/jobs/{number}": job for number, job in jobs.items()}
    monkeypatch.setattr(JobLog, "new_lines", lambda *_: ["one", "two", "three"])
    assert shown(capsys, "job", 2) == ["root/hello: job 4 build, success: u/4", "two", "three"]
    assert shown(capsys, "job", 9, job=3)[0] == "root/hello: job 3 build, success: u/3"
    with pytest.raises(ToolError, match="no job 5 in the projects of this stack: root/hello"):
        module.logs("test", Wish("job", 7, False, 5))


def test_a_job_is_followed_until_it_ends(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outputs, "gitlab", _default_timeout(Outputs.gitlab))
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    job = {"id": 4, "name": "build", "status": "running", "web_url": "u/4"}
    world.api |= {"/projects/root%2Fhello/jobs": [job], "/projects/root%2Fhello/jobs/4": job}
    calls: list[str] = []

    def written(_: JobLog, status: str) -> list[str]:
        calls.append(status)
        if len(calls) == 3:
            job["status"] = "failed"
        return [f"line {len(calls)}"]

    monkeypatch.setattr(JobLog, "new_lines", written)
    assert module.logs("test", Wish("job", 7, True)) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [*(f"line {number}" for number in range(1, 5)), "build: failed"]


def _default_timeout(make: Any) -> Any:
    def client(outputs: Outputs, timeout: float = 30) -> gitlab.Gitlab:
        made: gitlab.Gitlab = make(outputs, timeout)
        return made

    return client


class Trace:
    """The log of a job as GitLab has it so far."""

    def __init__(self) -> None:
        self.content = b""
        self.jobs = self

    def get(self, _: int, *, lazy: bool) -> Trace:
        assert lazy
        return self

    def trace(self) -> bytes:
        return self.content


def test_each_line_of_a_log_comes_once_and_whole() -> None:
    trace: Any = Trace()
    log = JobLog(trace, 4)
    trace.content = b"\x1b[32;1mfirst\x1b[0;m\nsec"
    assert log.new_lines("running") == ["first"]
    trace.content += b"ond\n\nthird"
    assert log.new_lines("running") == ["second"]
    assert log.new_lines("success") == ["third"]
    assert log.new_lines("success") == []


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("section_start:1:step\r\x1b[0Kvisible", "visible"),
        ("\x1b[?25lhidden cursor\x1b[2J", "hidden cursor"),
        ("tab\tstays, bell\x07 goes", "tab\tstays, bell goes"),
        ("10%\r20%\r", "10%20%"),
        ("\x9b31mred", "31mred"),
    ],
)
def test_nothing_in_a_log_steers_the_terminal(raw: str, text: str) -> None:
    assert printable(raw) == text
