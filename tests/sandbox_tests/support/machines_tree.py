"""A small sandbox for the tests of machines: private namespaces with a machine engine and a `MachineBackend`.

`MachinesTree` starts this file as a program in new namespaces and talks to it: one JSON object a line on its standard
input, one answer a line on its standard output. When the test process goes, so does everything in there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import tenacity
import uvicorn

from tests.moments import in_real_time
from tests.sandbox.cloud.authority import Authority
from tests.sandbox.layout import SPACES_ADDRESSES, SPACES_SUFFIX, Layout, current
from tests.sandbox.machines import network
from tests.sandbox.machines.backend import MachineBackend
from tests.sandbox.machines.engine import Engine
from tests.sandbox.machines.image.build import build, load
from tests.sandbox.machines.spaces import Spaces, spaces_command, spaces_environment
from tests.sandbox.machines.spaces_front import create_spaces_front

IMAGE = "debian-13-x64"
REGION = "nyc3"


def _pack(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def _unpack(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))  # noqa: S301 - between our own two processes


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a command inside the tree ended."""

    code: int
    output: str

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.code == 0


class MachinesTree:
    """The test's end: calls the backend, and runs commands in any of the tree's places."""

    def __init__(self, layout: Layout, cache: Path) -> None:
        self.layout = layout
        self._cache = cache
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
        process = subprocess.Popen(
            [*command, sys.executable, "-m", __name__, str(self.layout.root), str(self._cache)],
            cwd=current().root,
            # Containers have the clock of the kernel, and so has object storage, which is written in Go.
            env=in_real_time(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            process.kill()
            process.wait()
            raise RuntimeError("the tree did not start; see standard error")
        return process

    def crash(self) -> None:
        """Kill everything at once, as when the computer loses power, and start again from what is on disk."""
        self._process.kill()
        # Dead first, and only then without input: an end of input would let it end in good order.
        self._process.wait()
        self._process.communicate()
        self._process = self._start()

    def close(self) -> None:
        """End the tree in good order."""
        self._process.communicate(timeout=60)
        for group in Path("/sys/fs/cgroup").glob(f"*/{self.layout.name}"):
            # A group goes once those below it are gone.
            for below in sorted(group.rglob("*/"), reverse=True):
                below.rmdir()
            group.rmdir()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the backend, and return or raise what it does."""
        packed = _pack(arguments)
        return self._ask({"call": method, "arguments": packed})

    def run(self, place: str, *command: str, stdin: str = "", timeout_s: float = 20) -> Finished:
        """Run a command in `cloud`, `workstation`, or a machine by its number."""
        answer = self._ask({"run": command, "place": place, "stdin": stdin, "timeout": timeout_s})
        return Finished(*answer)

    def eventually(self, place: str, *command: str, within_s: float = 20, stdin: str = "") -> Finished:
        """Run a command until it succeeds; the last result when it never does."""
        end = time.monotonic() + within_s
        while not (result := self.run(place, *command, stdin=stdin)).ok and time.monotonic() < end:
            time.sleep(0.1)
        return result

    def background(self, place: str, *command: str) -> None:
        """Start a command that runs on until the tree ends."""
        finished = self.run(place, "sh", "-c", 'exec "$@" > /dev/null 2>&1 < /dev/null &', "sh", *command)
        assert finished.ok, finished.output

    def restart_backend(self) -> None:
        """End the backend and start a new one, as a restart of the cloud's process does."""
        self._ask({"restart": True})

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the tree has ended")
        outcome, packed = json.loads(answer)
        value = _unpack(packed)
        if outcome == "error":
            raise value
        return value


@contextlib.contextmanager
def machines_tree(cache: Path) -> Iterator[MachinesTree]:
    """A running tree with its own state, removed afterwards. Image and tools come from `cache`."""
    build(IMAGE, cache)
    with tempfile.TemporaryDirectory(prefix="machines-", dir=cache) as folder:
        tree = MachinesTree(Layout(Path(folder)), cache)
        with contextlib.closing(tree):
            yield tree


# Inside the tree


def _place(place: str, layout: Layout, engine: Engine) -> list[str]:
    match place:
        case "cloud":
            return []
        case "workstation":
            return ["ip", "netns", "exec", network.WORKSTATION_NAMESPACE]
        case machine:
            host = ["docker", "--host", f"unix://{layout.engine_socket}"]
            return [*host, "exec", "--interactive", engine.name(int(machine))]


async def _run(question: dict[str, Any], layout: Layout, engine: Engine) -> Finished:
    process = await asyncio.create_subprocess_exec(
        *_place(question["place"], layout, engine),
        *question["run"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(question["stdin"].encode()), question["timeout"])
    except TimeoutError:
        process.kill()
        return Finished(124, "timeout")
    return Finished(process.returncode or 0, output.decode(errors="replace"))


@contextlib.asynccontextmanager
async def _engine(layout: Layout, cache: Path) -> AsyncIterator[Engine]:
    log = (layout.root / "engine.log").open("wb")
    with log:
        process = await asyncio.create_subprocess_exec(
            *("dockerd", "--bridge", "none", "--iptables=false", "--ip-forward=false"),
            *("--host", f"unix://{layout.engine_socket}", "--data-root", str(layout.state / "engine")),
            *("--exec-root", str(layout.run / "docker"), "--pidfile", str(layout.run / "docker.pid")),
            *("--cgroup-parent", f"/{layout.name}"),
            stdout=log,
            stderr=log,
        )
        try:
            engine = await asyncio.to_thread(_connect, layout)
            await asyncio.to_thread(_load, engine, layout, cache)
            yield engine
            engine.close()
        finally:
            process.terminate()
            await process.wait()


@tenacity.retry(wait=tenacity.wait_fixed(0.05), stop=tenacity.stop_after_delay(30), reraise=True)
def _connect(layout: Layout) -> Engine:
    if not layout.engine_socket.exists():
        raise TimeoutError("the engine did not start")
    engine = Engine(layout)
    engine.client.ping()
    return engine


def _load(engine: Engine, layout: Layout, cache: Path) -> None:
    mirror = layout.root / "mirror.gpg"
    mirror.write_bytes(b"")
    load(
        engine.client,
        IMAGE,
        cache=cache,
        ca_certificate=layout.ca_certificate,
        mirror_keyring=mirror,
        progress=lambda line: print(line, file=sys.stderr),
    )


async def _answer(question: dict[str, Any], backend: MachineBackend, layout: Layout, engine: Engine) -> list[str]:
    try:
        if "call" in question:
            arguments = _unpack(question["arguments"])
            value = await getattr(backend, question["call"])(*arguments)
        else:
            value = dataclasses.astuple(await _run(question, layout, engine))
        outcome = "value"
    except Exception as error:
        outcome, value = "error", error
    return [outcome, _pack(value)]


def _private_run(layout: Layout) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "slipway-run", "/run"], check=True)
    (Path("/run") / "lock").mkdir()
    hosts = layout.run.with_suffix(".hosts")
    names = [
        f"{SPACES_ADDRESSES[REGION]} {name}{REGION}.{SPACES_SUFFIX}"
        for name in ("", "mine.", "other.", "third.", "absent.")
    ]
    hosts.write_text("\n".join(("127.0.0.1 localhost", *names, "")))
    subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
    layout.run.mkdir(mode=0o700)
    layout.state.mkdir(parents=True, exist_ok=True)


@contextlib.asynccontextmanager
async def _spaces(layout: Layout, spaces: Spaces) -> AsyncIterator[None]:
    """The S3 server of one region with its front, under its real name and a certificate of the tree's authority."""
    domain = f"{REGION}.{SPACES_SUFFIX}"
    chain, key = Authority(layout.ca_certificate.parent).issue("spaces", [domain, f"*.{domain}"])
    servers = [
        await asyncio.create_subprocess_exec(
            *spaces_command(layout, REGION, generic=generic),
            env=spaces_environment(layout),
            stdout=asyncio.subprocess.DEVNULL,
        )
        for generic in (False, True)
    ]
    front = uvicorn.Server(
        uvicorn.Config(
            create_spaces_front(spaces, REGION),
            host=str(SPACES_ADDRESSES[REGION]),
            port=443,
            ssl_certfile=chain,
            ssl_keyfile=key,
            log_level="warning",
        )
    )
    task = asyncio.create_task(front.serve())
    try:
        yield
    finally:
        front.should_exit = True
        await task
        for server in servers:
            server.terminate()
            await server.wait()


@contextlib.asynccontextmanager
async def _backend(layout: Layout) -> AsyncIterator[MachineBackend]:
    async with MachineBackend(layout) as backend, _spaces(layout, backend.spaces):
        yield backend


async def _serve(layout: Layout, cache: Path) -> None:
    async with _engine(layout, cache) as engine, contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(_backend(layout))
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            question = json.loads(line)
            if "restart" in question:
                await stack.aclose()
                backend = await stack.enter_async_context(_backend(layout))
                question = {"call": "spaces_buckets", "arguments": _pack(())}
            print(json.dumps(await _answer(question, backend, layout, engine)), flush=True)
        await backend.reset()


if __name__ == "__main__":
    own = Layout(Path(sys.argv[1]))
    _private_run(own)
    Authority(own.ca_certificate.parent)
    if not (own.cache / "bin").exists():
        (own.cache / "bin").symlink_to(Path(sys.argv[2]) / "bin")
    network.prepare_cloud_network()
    network.prepare_workstation()
    asyncio.run(_serve(own, Path(sys.argv[2])))
