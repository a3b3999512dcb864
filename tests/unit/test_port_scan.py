"""Which ports of a machine are open: by connections of anybody, and by nmap's scan of all of them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import ports
from tools.clients import CheckError


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made.getsockname()[1]


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that answers nothing, as behind a firewall that drops: its queue of connections is full."""
    monkeypatch.setattr(ports, "_PATIENCE", 0.2)
    with socket.socket() as made, socket.socket() as first, socket.socket() as second:
        made.bind(("127.0.0.1", 0))
        made.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(made.getsockname())
        yield made.getsockname()[1]


def test_an_open_port_is_told_from_one_that_refuses_and_one_that_says_nothing(listener: int, silent: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    assert ports.connect("127.0.0.1", [listener, refusing, silent]) == {listener}


def test_more_ports_than_a_process_may_have_files_are_tried(listener: int) -> None:
    wanted = {*range(1, 400), listener}
    assert listener in ports.connect("127.0.0.1", wanted)
    assert ports._AT_ONCE < 256


def test_an_error_of_this_machine_does_not_make_a_port_look_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("asyncio.open_connection", fail)
    with pytest.raises(CheckError, match=r"port 22 of 203\.0\.113\.20 cannot be tried: Too many open files"):
        ports.connect("203.0.113.20", [22])


def test_all_ports_are_scanned_half_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "Host: 203.0.113.20 ()\\tPorts: 22/open/tcp//ssh///, 25/filtered/tcp////, 5555/open/tcp//x///\\tIgnored: 9"
    program = tmp_path / "nmap"
    program.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/words\nprintf "{line}\\n"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ports, "may_send_packets", lambda: True)
    assert ports.scan("203.0.113.20") == {22, 5555}
    assert {"--privileged", "-sS", "-p-"} <= {*(tmp_path / "words").read_text().split()}


def test_a_scan_of_all_ports_without_the_rights_says_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(CheckError, match=r"needs the rights of root.*sudo; or leave out --all-ports"):
        ports.scan("203.0.113.20")
