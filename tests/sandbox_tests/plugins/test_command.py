"""The provider `command`: against a real SSH server, alone and run by the real engine."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.sandbox.plugins import ssh
from tests.sandbox.plugins.base.framework import Call, PluginError
from tests.sandbox.plugins.base.properties import Asset
from tests.sandbox.plugins.provider_command import CopyToRemote, LocalCommand, RemoteCommand
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.ssh_server import SshServer, ssh_server
from tests.sandbox_tests.support.waiting import eventually


@pytest.fixture
def server() -> Iterator[SshServer]:
    with ssh_server() as running:
        yield running


class Log(list[tuple[str, str]]):
    """What a call told the engine."""

    def call(self, **changes: Any) -> Call:
        return Call(
            session=None,
            urn="urn:pulumi:test::small::command:remote:Command::it",
            name="it",
            cancelled=threading.Event(),
            log=lambda severity, message: self.append((severity, message)),
            **changes,
        )

    def lines(self, severity: str = "info") -> list[str]:
        return [message for kind, message in self if kind == severity]


def create(server: SshServer, log: Log | None = None, **inputs: Any) -> dict[str, Any]:
    inputs.setdefault("connection", server.connection())
    _, outputs = RemoteCommand().create((log if log is not None else Log()).call(), inputs)
    return outputs


def text_asset(text: str) -> Asset:
    return Asset(archive=False, fields={"text": text, "hash": hashlib.sha256(text.encode()).hexdigest()})


def test_a_command_gets_its_input_and_returns_both_outputs(server: SshServer) -> None:
    outputs = create(server, create="read word; echo got $word; echo problem >&2", stdin="ünïcode\n")
    assert outputs == {"stdout": "got ünïcode", "stderr": "problem"}


def test_a_command_without_input_gets_end_of_file(server: SshServer) -> None:
    assert create(server, create="cat; echo end")["stdout"] == "end"


def test_a_command_that_ignores_its_input_is_no_error(server: SshServer) -> None:
    assert create(server, create="true", stdin="x" * 1_000_000)["stdout"] == ""


def test_nothing_runs_and_nothing_connects_without_a_command(server: SshServer) -> None:
    assert create(server) == {"stdout": "", "stderr": ""}
    assert server.connections == 0


def test_another_host_key_than_the_pinned_one_is_refused(server: SshServer) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    with pytest.raises(PluginError, match=r"after 1 failed attempts: 127\.0\.0\.1: Host key is not trusted"):
        create(server, connection=server.connection(hostKey=other), create="true")
    assert server.commands == []


def test_any_host_key_is_accepted_if_none_is_pinned(server: SshServer) -> None:
    assert create(server, connection=server.connection(hostKey=None), create="echo in")["stdout"] == "in"


def test_another_user_key_is_refused(server: SshServer) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(PluginError, match="Permission denied"):
        create(server, connection=server.connection(privateKey=other), create="true")


def test_the_limit_of_failed_dials_is_kept(server: SshServer) -> None:
    log = Log()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    connection = server.connection(port=port, dialErrorLimit=3)
    with pytest.raises(PluginError, match="after 3 failed attempts"):
        create(server, log, connection=connection, create="true")
    assert [line.partition(" failed")[0] for line in log.lines("debug")] == ["Dial 1/3", "Dial 2/3"]


def test_a_machine_that_answers_late_is_reached(server: SshServer) -> None:
    port = free_port()
    late = SshServer()
    late.host_key, late.user_key, late.port = server.host_key, server.user_key, port
    results: list[dict[str, Any]] = []
    log = Log()
    connection = server.connection(port=port, dialErrorLimit=-1)
    thread = threading.Thread(target=lambda: results.append(create(late, log, connection=connection, create="echo in")))
    thread.start()
    eventually(lambda: log.lines("debug"))
    with ssh_server(late):
        thread.join(20)
    assert [result["stdout"] for result in results] == ["in"]


def test_a_failure_reports_the_command_its_status_and_its_output(server: SshServer) -> None:
    with pytest.raises(PluginError) as failure:
        create(server, create="echo before; echo problem >&2; exit 3", stdin="a secret")
    message = str(failure.value)
    assert message.startswith('Process exited with status 3: running "echo before; echo problem >&2; exit 3":\n')
    assert "before\n" in message
    assert "problem\n" in message
    assert "a secret" not in message


@pytest.mark.parametrize(
    ("logging", "lines"),
    [("stdout", ["o"]), ("stderr", ["e"]), ("stdoutAndStderr", ["e", "o"]), (None, ["e", "o"]), ("none", [])],
)
def test_the_engine_shows_the_output_selected_by_logging(
    server: SshServer, logging: str | None, lines: list[str]
) -> None:
    log = Log()
    inputs = {"logging": logging} if logging else {}
    assert create(server, log, create="echo o; echo e >&2", **inputs) == {"stdout": "o", "stderr": "e"}
    assert sorted(log.lines()) == lines


def test_a_variable_that_the_server_accepts_is_set(server: SshServer) -> None:
    assert create(server, create="echo $LC_WORD", environment={"LC_WORD": "w"})["stdout"] == "w"


def test_a_variable_that_the_server_refuses_is_an_error(server: SshServer) -> None:
    with pytest.raises(PluginError, match="could not set environment variable 'WORD'"):
        create(server, create="echo ran", environment={"WORD": "w"})
    assert "echo ran" not in server.commands


def test_previous_output_that_the_server_refuses_is_only_a_warning(server: SshServer) -> None:
    log, old = Log(), {"stdout": "before", "stderr": ""}
    inputs = {"connection": server.connection(), "create": "echo again"}
    assert RemoteCommand().update(log.call(), "it", old, inputs)["stdout"] == "again"
    assert len(log.lines("warning")) == 1
    quiet = Log()
    RemoteCommand().update(quiet.call(), "it", old, {**inputs, "addPreviousOutputInEnv": False})
    assert quiet.lines("warning") == []


def test_an_update_runs_the_update_command_or_else_the_create_command(server: SshServer) -> None:
    inputs = {"connection": server.connection(), "create": "echo c", "update": "echo u"}
    assert RemoteCommand().update(Log().call(), "it", {}, inputs)["stdout"] == "u"
    assert RemoteCommand().update(Log().call(), "it", {}, {**inputs, "update": None})["stdout"] == "c"


def test_only_triggers_replace_the_resource() -> None:
    old = {"create": "a", "connection": {"host": "h"}, "triggers": [1]}
    new = {"create": "b", "connection": {"host": "i"}, "triggers": [2]}
    assert dict(RemoteCommand().differences(old, new)) == {"create": False, "connection": False, "triggers": True}
    assert dict(RemoteCommand().differences(old, old)) == {}


def test_dials_and_local_commands_end_at_the_timeout_and_a_command_on_a_machine_does_not(server: SshServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    unreachable = server.connection(port=port, dialErrorLimit=-1)
    for resource, inputs in (
        (RemoteCommand(), {"connection": unreachable, "create": "true"}),
        (LocalCommand(), {"create": "sleep 60"}),
    ):
        with pytest.raises(PluginError, match="context deadline exceeded"):
            resource.create(Log().call(timeout=0.5), inputs)
    running = {"connection": server.connection(), "create": "sleep 2; echo done"}
    assert RemoteCommand().create(Log().call(timeout=1), running)[1]["stdout"] == "done"


def test_a_silent_machine_is_asked_as_often_as_go_asks(server: SshServer) -> None:
    opened = asyncio.run(ssh._socket(server.connection()))
    with opened:
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert [opened.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [15, 15, 9]
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@pytest.mark.machines
def test_a_command_whose_machine_disappears_fails_once_the_machine_has_not_answered() -> None:
    program = [sys.executable, "-m", "tests.sandbox_tests.support.dead_connection"]
    done = subprocess.run(
        ["unshare", "--net", *program],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout == (
        "wait: remote command exited without exit status or exit signal: "
        'running "echo started; sleep 600":\nstarted\n\n'
    ), done.stderr


def test_text_is_copied_and_parent_folders_are_created(server: SshServer, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "text"
    inputs = {"connection": server.connection(), "source": text_asset("früh\n"), "remotePath": str(target)}
    CopyToRemote().create(Log().call(), inputs)
    assert target.read_text() == "früh\n"


def test_a_file_is_copied_into_an_existing_folder(server: SshServer, tmp_path: Path) -> None:
    source, folder = tmp_path / "source.txt", tmp_path / "folder"
    source.write_text("content")
    folder.mkdir()
    asset = Asset(archive=False, fields={"path": str(source), "hash": "1"})
    inputs = {"connection": server.connection(), "source": asset, "remotePath": str(folder)}
    CopyToRemote().create(Log().call(), inputs)
    assert (folder / "source.txt").read_text() == "content"


def test_a_folder_is_copied_whole(server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "leaf").write_text("leaf")
    asset = Asset(archive=True, fields={"path": str(tmp_path / "tree"), "hash": "1"})
    inputs = {"connection": server.connection(), "source": asset, "remotePath": str(tmp_path / "copy")}
    CopyToRemote().create(Log().call(), inputs)
    assert (tmp_path / "copy" / "sub" / "leaf").read_text() == "leaf"


def test_a_copy_is_replaced_only_if_its_content_or_path_changes(server: SshServer, tmp_path: Path) -> None:
    inputs = {"connection": server.connection(), "source": text_asset("one"), "remotePath": str(tmp_path / "one")}
    elsewhere = {**inputs, "connection": server.connection(user="somebody")}
    CopyToRemote().update(Log().call(), "it", inputs, elsewhere)
    assert not (tmp_path / "one").exists()
    CopyToRemote().update(Log().call(), "it", inputs, {**inputs, "source": text_asset("two")})
    assert (tmp_path / "one").read_text() == "two"
    CopyToRemote().delete(Log().call(), "it", inputs)
    assert (tmp_path / "one").exists()


def test_a_remote_asset_and_an_archive_of_assets_are_refused() -> None:
    base = {"connection": {"host": "h"}, "remotePath": "/x"}
    remote = Asset(archive=False, fields={"uri": "https://example.com"})
    assets = Asset(archive=True, fields={"assets": {}})
    for source, wrong in ((remote, ["source"]), (assets, ["source"]), (text_asset("fine"), [])):
        assert [failure.path for failure in CopyToRemote().validate({**base, "source": source})] == wrong


def test_a_local_command_runs_in_its_folder_with_its_variables_and_interpreter(tmp_path: Path) -> None:
    inputs = {
        "create": "print(os.environ['WORD'], os.getcwd(), sys.stdin.read())",
        "interpreter": ["python3", "-c", "import os, sys; exec(sys.argv[1])"],
        "dir": str(tmp_path),
        "environment": {"WORD": "w"},
        "stdin": "i",
    }
    _, outputs = LocalCommand().create(Log().call(), inputs)
    assert outputs["stdout"] == f"w {tmp_path} i"
    with pytest.raises(PluginError, match="exit status 4"):
        LocalCommand().create(Log().call(), {"create": "exit 4"})


def config(server: SshServer, tmp_path: Path, **changes: object) -> dict[str, object]:
    return {
        "port": server.port,
        "key": server.user_key.export_private_key().decode(),
        "hostKey": server.host_key.export_public_key().decode(),
        "create": f"cat >> {tmp_path}/runs",
        "stdin": "the-secret\n",
        "trigger": "1",
        "text": "some text",
        "path": str(tmp_path / "copied"),
        **changes,
    }


def test_the_engine_runs_updates_replaces_and_deletes_a_command(server: SshServer, tmp_path: Path) -> None:
    runs, deleted = tmp_path / "runs", tmp_path / "deleted"
    engine = Engine(tmp_path / "engine", "commands", config(server, tmp_path, delete=f"echo x >> {deleted}"))
    assert engine.changes() == {"create": 3}
    assert server.connections == 0
    up = engine.up()
    assert "the-secret" not in up
    assert runs.read_text() == "the-secret\n"
    assert (tmp_path / "copied").read_text() == "some text"
    assert engine.changes() == {"same": 3}

    engine.configure({"create": f"cat >> {runs}; echo changed"})
    assert engine.changes() == {"same": 2, "update": 1}
    engine.up()
    assert runs.read_text() == "the-secret\n" * 2
    assert engine.outputs() == {"stdout": "changed"}
    assert not deleted.exists()

    engine.configure({"trigger": "2", "text": "other text"})
    assert engine.changes() == {"same": 1, "update": 1, "replace": 1}
    engine.up()
    assert runs.read_text() == "the-secret\n" * 3
    assert deleted.read_text() == "x\n"
    assert (tmp_path / "copied").read_text() == "other text"

    state = engine.run("stack", "export")
    assert "the-secret" not in state
    assert "PRIVATE KEY" not in state
    engine.destroy()
    assert deleted.read_text() == "x\n" * 2


def test_a_user_who_stops_the_engine_waits_for_the_command_that_runs(server: SshServer, tmp_path: Path) -> None:
    started, stopped = tmp_path / "started", tmp_path / "stopped"
    settings = config(server, tmp_path, create=f"touch {started}; until [ -e {stopped} ]; do sleep 0.1; done")
    engine = Engine(tmp_path / "engine", "commands", settings)
    running = engine.start("up", "--yes", "--skip-preview")
    assert running.stdout
    eventually(lambda: started.exists() or running.poll() is not None, 60)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    line = next(line for line in running.stdout if "Attempting to gracefully shut down" in line or "cancel" in line)
    assert line
    stopped.touch()
    running.communicate(timeout=20)
    assert "command" in engine.resources()
