"""The API without machines, for experiments: `python -m tests.sandbox.digitalocean --port N --token-file F`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
from pathlib import Path
from typing import Annotated

import typer

from tests.sandbox.digitalocean.app import create_app
from tests.sandbox.digitalocean.control import create_control_app
from tests.sandbox.digitalocean.server import listen, serving
from tests.sandbox.digitalocean.state.cloud import Config
from tests.sandbox.digitalocean.state.memory_backend import MemoryBackend
from tests.sandbox.digitalocean.state.store import Store


def main(
    token_file: Annotated[Path, typer.Option(help="File with the API token; created if it does not exist.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 uses a free one.")] = 0,
    control_port: Annotated[int, typer.Option(help="Port of the control interface on 127.0.0.1.")] = 0,
    state: Annotated[Path | None, typer.Option(help="SQLite file for the state; in memory by default.")] = None,
    delay: Annotated[float, typer.Option(help="Seconds that every operation on a machine takes.")] = 0.2,
) -> None:
    """Serve the emulated API on loopback until interrupted."""
    logging.basicConfig(level=logging.INFO)
    asyncio.run(_run(port, control_port, _token(token_file), state, delay))


def _token(path: Path) -> str:
    if path.exists():
        return path.read_text().strip()
    token = f"dop_v1_{secrets.token_hex(32)}"
    path.touch(mode=0o600)
    path.write_text(token + "\n")
    return token


async def _run(port: int, control_port: int, token: str, state: Path | None, delay: float) -> None:
    store = Store(state)
    app = create_app(store, MemoryBackend(delay=delay), Config(token=token))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    api, control = listen("127.0.0.1", port), listen("127.0.0.1", control_port)
    async with serving(app, api), serving(create_control_app(app), control):
        typer.echo(f"API http://127.0.0.1:{api.getsockname()[1]}")
        typer.echo(f"control http://127.0.0.1:{control.getsockname()[1]}")
        await stop.wait()
    store.close()


if __name__ == "__main__":
    typer.run(main)
