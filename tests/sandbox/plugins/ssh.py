"""SSH for the `command` plugin: connects to a machine, runs commands, copies files.

Never reads the user's own SSH configuration, keys or known hosts: only the program defines a connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import asyncssh

from tests.sandbox.plugins.base.framework import Call, PluginError
from tests.sandbox.plugins.base.properties import Asset, Properties
from tests.sandbox.plugins.cancellation import until_cancelled
from tests.sandbox.plugins.command_output import Outcome, Recorder

#: Seconds that a machine has to take its leave.
_GOODBYE = 3
#: Seconds between two dials, as the official plugin waits.
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.1, 1.5, 5.0
#: Go asks a silent peer after so many seconds whether it is still there, then at such intervals, so many times at most
#: (package net, `tcpkeepalive`). A peer that never answers is given up after 150 seconds.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 15, 15, 9


@asynccontextmanager
async def connected(call: Call, connection: Properties) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """An authenticated connection, closed afterwards. A user who stops the engine does not wait for it.

    Anything that goes wrong counts as a failed dial, another host key and a refused login too: a machine that has just
    started may still get its keys.

    Raises:
        PluginError: `dialErrorLimit` dials have failed (-1: never).
    """
    opened = await until_cancelled(call, _dial_repeatedly(call, connection))
    try:
        yield opened
    finally:
        opened.close()
        try:
            await asyncio.wait_for(opened.wait_closed(), _GOODBYE)
        except (OSError, asyncssh.Error, TimeoutError):
            opened.abort()


async def _dial_repeatedly(call: Call, connection: Properties) -> asyncssh.SSHClientConnection:
    limit, failed, pause = connection.get("dialErrorLimit", 10), 0, _FIRST_PAUSE
    while True:
        try:
            return await _dial(connection)
        except (OSError, asyncssh.Error, TimeoutError) as error:
            failed += 1
            reason = str(error) or type(error).__name__
            if failed >= limit >= 0:
                raise PluginError(f"after {failed} failed attempts: {connection['host']}: {reason}") from error
            call.log("debug", f"Dial {failed}/{limit} failed: {reason}")
        await asyncio.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


async def _dial(connection: Properties) -> asyncssh.SSHClientConnection:
    agent = connection.get("agentSocketPath") or os.environ.get("SSH_AUTH_SOCK")
    if agent:
        _, writer = await asyncio.open_unix_connection(agent)
        writer.close()
    opened = await _socket(connection)
    try:
        return await asyncssh.connect(
            connection["host"],
            int(connection.get("port", 22)),
            sock=opened,
            config=None,
            username=connection.get("user", "root"),
            password=connection.get("password"),
            client_keys=_client_keys(connection),
            agent_path=agent,
            known_hosts=_known_hosts(connection),
            # The limit of a dial ends with the TCP connection: a server that never says anything is waited for.
            login_timeout=0,
            preferred_auth=("publickey", "keyboard-interactive", "password"),
        )
    except BaseException:
        opened.close()
        raise


async def _socket(connection: Properties) -> socket.socket:
    """A TCP connection that notices a peer which is gone."""
    host, port = connection["host"], int(connection.get("port", 22))
    async with asyncio.timeout(connection.get("perDialTimeout", 15) or None):
        [(family, kind, protocol, _, address), *_] = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        opened = socket.socket(family, kind, protocol)
        try:
            opened.setblocking(False)
            await asyncio.get_running_loop().sock_connect(opened, address)
        except BaseException:
            opened.close()
            raise
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
    return opened


def _client_keys(connection: Properties) -> list[asyncssh.SSHKey] | None:
    key = connection.get("privateKey")
    if not key:
        return None
    try:
        return [asyncssh.import_private_key(key, connection.get("privateKeyPassword"))]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise PluginError(f"connection.privateKey: {error}") from error


def _known_hosts(connection: Properties) -> Any:
    """The one key that is good, or None: any key is."""
    line = connection.get("hostKey")
    if not line:
        return None
    try:
        return [asyncssh.import_public_key(line)], [], []
    except asyncssh.KeyImportError as error:
        raise PluginError(f"connection.hostKey: {error}") from error


@dataclass(frozen=True)
class Task:
    """A command line, and what it gets: its input, variables that it must have, and those that it gets if it may."""

    command: str
    stdin: str
    environment: Mapping[str, str]
    previous: Mapping[str, str]


async def run(call: Call, connection: Properties, task: Task, recorder: Recorder) -> Outcome:
    """Run a command under the user's shell; its output goes to the recorder. Once it has started, it runs to its end.

    Raises:
        PluginError: no connection, a variable of `environment` is refused by the server, or the command failed.
    """
    async with connected(call, connection) as ssh:
        if refused := await _refused(ssh, task.environment):
            raise PluginError(f"could not set environment variable {refused!r}: ssh: setenv failed")
        previous = task.previous
        if refused := await _refused(ssh, previous):
            call.log("warning", f"Unable to set '{refused}': the SSH server must be told to accept it (AcceptEnv)")
            previous = {}
        try:
            process = await ssh.create_process(task.command, env={**previous, **task.environment}, encoding=None)
        except asyncssh.Error as error:
            raise PluginError(f"{error.reason}: running {task.command!r}") from error
        try:
            await recorder.follow(process.stdout, process.stderr, _feed(process, task.stdin))
            await process.wait_closed()
        except* (OSError, asyncssh.Error) as lost:
            call.log("debug", f"the connection to {connection['host']} is lost: {lost.exceptions}")
    return recorder.outcome(task.command, _failure(process))


async def _feed(process: asyncssh.SSHClientProcess[bytes], stdin: str) -> None:
    # A command that does not read its input may be gone before it is written.
    with suppress(OSError, asyncssh.Error):
        process.stdin.write(stdin.encode())
        process.stdin.write_eof()
        await process.stdin.drain()


async def _refused(ssh: asyncssh.SSHClientConnection, environment: Mapping[str, str]) -> str | None:
    """A variable that the server does not let through: asyncssh asks for it without waiting for the answer."""
    for name, value in environment.items():
        probe = await ssh.run(f"printenv {name}", env={name: value}, check=False)
        if probe.exit_status != 0:
            return name
    return None


def _failure(process: asyncssh.SSHClientProcess[bytes]) -> str | None:
    if process.exit_signal:
        return f"Process exited from signal {process.exit_signal[0]}"
    if process.exit_status is None:
        return "wait: remote command exited without exit status or exit signal"
    return f"Process exited with status {process.exit_status}" if process.exit_status else None


async def copy(call: Call, connection: Properties, source: Asset, remote_path: str) -> None:
    """Copy a file, a text or a folder over SFTP, with the folders above it; into `remote_path` if that is a folder.

    Raises:
        PluginError: no connection, or the copy failed.
    """
    async with connected(call, connection) as ssh:
        try:
            async with ssh.start_sftp_client() as sftp:
                await sftp.makedirs(str(PurePosixPath(remote_path).parent), exist_ok=True)
                if "text" in source.fields:
                    async with sftp.open(remote_path, "w", encoding="utf-8") as file:
                        await file.write(source.fields["text"])
                else:
                    await sftp.put(source.fields["path"], remote_path, recurse=source.archive)
        except (OSError, asyncssh.Error) as error:
            raise PluginError(f"copying to {connection['host']}:{remote_path}: {error}") from error
