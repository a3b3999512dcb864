"""An SSH server on loopback for the tests of the `command` plugin: real shell, real files, real SSH."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import asyncssh

from tests.moments import clock_variables

#: Variables that it lets through, as an SSH server's `AcceptEnv` does.
ACCEPTED = "LC_"


async def _pump(source: Any, target: Any) -> None:
    """Pass on what comes, then its end. A target that is gone is no error."""
    with suppress(BrokenPipeError, ConnectionResetError):
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    if isinstance(target, asyncio.StreamWriter):
        target.close()


async def _answer(process: asyncssh.SSHServerProcess[bytes], shell: asyncio.subprocess.Process) -> None:
    feeding = asyncio.create_task(_pump(process.stdin, shell.stdin))
    try:
        await asyncio.gather(_pump(shell.stdout, process.stdout), _pump(shell.stderr, process.stderr))
        process.exit(await shell.wait())
    finally:
        feeding.cancel()


class SshServer:
    """The server. Owns its host key, the one user key that it accepts, and a list of everything that it was asked."""

    def __init__(self) -> None:
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.user_key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self.connections = 0
        self.commands: list[str] = []
        self.running: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        self.stop: Callable[[], object] = lambda: None

    def connection(self, **changes: Any) -> dict[str, Any]:
        """The way to it, as an input of a resource."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "root",
            "privateKey": self.user_key.export_private_key().decode(),
            "hostKey": self.host_key.export_public_key().decode(),
            "dialErrorLimit": 1,
            "perDialTimeout": 15,
            **changes,
        }

    async def run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command. It is waited for to its end, also where the server stops meanwhile."""
        answer = asyncio.create_task(self._run(process))
        self.running.add(answer)
        answer.add_done_callback(self.running.discard)
        await asyncio.shield(answer)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self.commands.append(process.command or "")
        variables = {name: value for name, value in process.env.items() if name.startswith(ACCEPTED)}
        shell = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command or "",
            env={"PATH": os.environ["PATH"], **clock_variables(), **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        ways_to_end = (_answer(process, shell), process.channel.wait_closed(), self.ended.wait())
        tasks = [asyncio.create_task(way) for way in ways_to_end]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            await shell.wait()

    async def serve(self, started: threading.Event) -> None:
        """Serve until `stop` is called."""
        loop, self.ended = asyncio.get_running_loop(), asyncio.Event()
        self.stop = lambda: loop.call_soon_threadsafe(self.ended.set)

        def connected(_: asyncssh.SSHServerConnection) -> None:
            self.connections += 1

        server = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.user_key.export_public_key().decode()),
            process_factory=self.run,
            sftp_factory=True,
            encoding=None,
            acceptor=connected,
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self.ended.wait()
        server.close()
        await server.wait_closed()
        # A process that is left to a closed loop is never reaped.
        await asyncio.gather(*self.running, return_exceptions=True)


@contextmanager
def ssh_server(server: SshServer | None = None) -> Iterator[SshServer]:
    """A server that runs for as long as the context: a new one, or the one that was given."""
    server, started = server or SshServer(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(started)))
    thread.start()
    assert started.wait(10)
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
