"""The sandbox's GitLab in a browser of the machine that the sandbox runs on: `python -m tests.sandbox open`."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import ssl
import sys

import httpx

from tests.sandbox.cloud import namespaces
from tests.sandbox.cloud.front import Front
from tests.sandbox.cloud.lifecycle import SandboxError
from tests.sandbox.cloud.workstation import TRUST, command_environment, prepare_folders
from tests.sandbox.digitalocean.server import listen, serving
from tests.sandbox.layout import Layout
from tools.browse import credentials
from tools.clients import CheckError, Outputs

#: The port, if it is free and nobody asks for another.
PORT = 8929


def open_gitlab(layout: Layout, stack: str, port: int | None, *, show_password: bool) -> int:
    """Serve a stack's GitLab on a loopback port, until Ctrl-C or the end of the sandbox; returns an exit code.

    Raises:
        SandboxError: no sandbox is running, or the port is in use.
    """
    init = namespaces.find(layout)
    if init is None:
        raise SandboxError("no sandbox is running: start one with make up")
    host = socket.gethostname()
    # A socket stays in the network that it was made in: this one in the machine's, all others in the sandbox.
    with _listener(port) as listener:
        environment = command_environment(layout)
        prepare_folders(layout)
        namespaces.enter(init, namespaces.WORKSTATION)
        # This process belongs to the machine, and may have no threads from here on. Its child belongs to the sandbox,
        # and is gone with it.
        child = os.fork()
        if child == 0:
            os.environ.clear()
            os.environ.update(environment)
            os._exit(_serve_stack(listener, stack, host, show_password=show_password))
    return _wait(child)


def _wait(child: int) -> int:
    """Wait for the child's end; the terminal sends Ctrl-C to both."""
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGKILL:
        print("The sandbox was stopped.")
        return 0
    return code


def _serve_stack(listener: socket.socket, stack: str, host: str, *, show_password: bool) -> int:
    try:
        asyncio.run(_serve(listener, Outputs.of_stack(stack), host, show_password=show_password))
    except CheckError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _listener(port: int | None) -> socket.socket:
    try:
        return listen("127.0.0.1", PORT if port is None else port)
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL} or port is not None:
            raise SandboxError(f"port {port or PORT} of 127.0.0.1 cannot be used: {error.strerror}") from error
        return listen("127.0.0.1", 0)


async def _serve(listener: socket.socket, outputs: Outputs, host: str, *, show_password: bool) -> None:
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    tls = ssl.create_default_context(cafile=str(TRUST))
    transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)
    async with transport, serving(Front(outputs.url, transport, tls).app, listener):
        port = listener.getsockname()[1]
        print(explained(outputs, host, port, show_password=show_password), flush=True)
        await interrupted.wait()


def explained(outputs: Outputs, host: str, port: int, *, show_password: bool) -> str:
    """What somebody in front of a browser has to know."""
    return "\n".join([
        "",
        f"  GitLab is at  http://127.0.0.1:{port}",
        "",
        *credentials(outputs, show_password=show_password),
        "",
        f"  Only this machine reaches that port. Behind it, requests go to {outputs.url}, in the sandbox's",
        "  network, over TLS: the certificate is from the sandbox's own Let's Encrypt, and is checked here. Your",
        "  browser has nothing to trust, and nothing is added to what your machine trusts.",
        "",
        f"  From another machine:  ssh -L {port}:127.0.0.1:{port} {host}, then the same address there.",
        "  Ctrl-C closes the port.",
        "",
    ])  # fmt: skip
