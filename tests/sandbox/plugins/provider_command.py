"""Provider `command`: local and remote commands, and files copied to remote machines.

Any change of an input except `triggers` runs `update`, or `create` again if there is none; `triggers` replace the
resource. `delete` uses the connection in the state. A preview connects to nothing. A command or an update that fails is
not recorded: the state keeps the inputs from before. Neither a timeout nor a user who stops the engine ends a command
that runs on another machine; both end the dials before it (pulumi-command 1.2.1, `remote/commandOutputs.go`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import ClassVar

from tests.sandbox.plugins.base.framework import Call, Failure, Field, Fields, Kind, PluginError, Provider, Resource
from tests.sandbox.plugins.base.properties import Asset, Properties, has_unknown
from tests.sandbox.plugins.base.server import main
from tests.sandbox.plugins.cancellation import until_cancelled
from tests.sandbox.plugins.command_output import Outcome, Recorder

_GRACE = 5.0
"""Seconds that a command which is asked to end may take."""

_CONNECTION = Field(
    Kind.MAP,
    required=True,
    fields={
        "host": Field(required=True),
        "user": Field(default="root"),
        "port": Field(Kind.NUMBER, default=22),
        "privateKey": Field(),
        "privateKeyPassword": Field(),
        "password": Field(),
        "agentSocketPath": Field(),
        "hostKey": Field(),
        "dialErrorLimit": Field(Kind.INTEGER, default=10),
        "perDialTimeout": Field(Kind.INTEGER, default=15),
    },
)
_TRIGGERS = Field(Kind.LIST, replace=True)
_COMMAND_INPUTS = {
    "create": Field(),
    "update": Field(),
    "delete": Field(),
    "stdin": Field(),
    "environment": Field(Kind.MAP, items=Kind.STRING),
    "triggers": _TRIGGERS,
    "logging": Field(choices=("stdout", "stderr", "stdoutAndStderr", "none")),
    "addPreviousOutputInEnv": Field(Kind.BOOLEAN),
}


class _Command(Resource):
    """A command at each step of a resource's life."""

    outputs = ("stdout", "stderr")
    changed_by_update = frozenset({"stdout", "stderr"})

    def run(self, call: Call, properties: Properties, command: str, previous: Mapping[str, str]) -> Outcome:
        """Run one command to its end."""
        raise NotImplementedError

    def _step(self, call: Call, properties: Properties, command: str | None, old: Properties) -> Outcome:
        if not command:
            return Outcome()
        previous = {}
        if old and properties.get("addPreviousOutputInEnv") is not False:
            previous = {f"PULUMI_COMMAND_{name.upper()}": old.get(name) or "" for name in self.outputs}
        return self.run(call, properties, command, previous)

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        outcome = self._step(call, inputs, inputs.get("create"), {})
        return f"{call.name}{os.urandom(4).hex()}", {"stdout": outcome.stdout, "stderr": outcome.stderr}

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del identifier
        outcome = self._step(call, inputs, inputs.get("update") or inputs.get("create"), old)
        return {"stdout": outcome.stdout, "stderr": outcome.stderr}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        self._step(call, state, state.get("delete"), state)


class RemoteCommand(_Command):
    """A command on another machine, over SSH."""

    full_name = "command:remote:Command"
    inputs: ClassVar[Fields] = {"connection": _CONNECTION, **_COMMAND_INPUTS}

    def run(self, call: Call, properties: Properties, command: str, previous: Mapping[str, str]) -> Outcome:
        from tests.sandbox.plugins import ssh  # noqa: PLC0415 - slow to import, and not needed at preview

        recorder = Recorder(call, properties.get("logging", "stdoutAndStderr"))
        task = ssh.Task(command, properties.get("stdin", ""), properties.get("environment", {}), previous)
        return asyncio.run(ssh.run(call, properties["connection"], task, recorder))


class LocalCommand(_Command):
    """A command on this machine. Files that it makes are not taken: `assetPaths` and `archivePaths` are refused."""

    full_name = "command:local:Command"
    inputs: ClassVar[Fields] = {**_COMMAND_INPUTS, "dir": Field(), "interpreter": Field(Kind.LIST, items=Kind.STRING)}

    def run(self, call: Call, properties: Properties, command: str, previous: Mapping[str, str]) -> Outcome:
        return asyncio.run(until_cancelled(call, self._run(call, properties, command, previous)))

    async def _run(self, call: Call, properties: Properties, command: str, previous: Mapping[str, str]) -> Outcome:
        recorder = Recorder(call, properties.get("logging", "stdoutAndStderr"))
        try:
            process = await asyncio.create_subprocess_exec(
                *properties.get("interpreter", ["/bin/sh", "-c"]),
                command,
                cwd=properties.get("dir"),
                env={**os.environ, **previous, **properties.get("environment", {})},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise PluginError(f"{error}: running {command!r}") from error
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            await recorder.follow(process.stdout, process.stderr, _feed(process.stdin, properties.get("stdin", "")))
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        return recorder.outcome(command, _failure(status))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the command and what it started to end, then make it end."""
    for way in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, way)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE)
            return


async def _feed(writer: asyncio.StreamWriter, stdin: str) -> None:
    # A command that does not read its input may be gone before it is written.
    with suppress(BrokenPipeError, ConnectionResetError):
        writer.write(stdin.encode())
        await writer.drain()
    writer.close()


def _failure(status: int) -> str | None:
    if status < 0:
        return f"signal: {signal.Signals(-status).name}"
    return f"exit status {status}" if status else None


class CopyToRemote(Resource):
    """A file or a folder on another machine. Stays there when the resource is deleted, and is never looked at again."""

    full_name = "command:remote:CopyToRemote"
    inputs: ClassVar[Fields] = {
        "connection": _CONNECTION,
        "source": Field(Kind.ASSET, required=True),
        "remotePath": Field(required=True),
        "triggers": _TRIGGERS,
    }

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        source = inputs["source"]
        if isinstance(source, Asset) and not has_unknown(source.fields):
            given = source.fields.keys() & {"text", "path", "uri", "assets"}
            if not given & ({"path"} if source.archive else {"text", "path"}):
                yield Failure("source", "must be a FileAsset, a StringAsset or a FileArchive of a path")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        self._copy(call, inputs)
        return f"{call.name}{os.urandom(4).hex()}", {}

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del identifier
        if old.get("source") != inputs["source"] or old.get("remotePath") != inputs["remotePath"]:
            self._copy(call, inputs)
        return {}

    def _copy(self, call: Call, inputs: Properties) -> None:
        from tests.sandbox.plugins import ssh  # noqa: PLC0415 - slow to import, and not needed at preview

        asyncio.run(ssh.copy(call, inputs["connection"], inputs["source"], inputs["remotePath"]))


class Command(Provider):
    """The provider; it needs no configuration."""

    name = "command"
    distribution = "pulumi-command"
    resources = (RemoteCommand(), LocalCommand(), CopyToRemote())


if __name__ == "__main__":
    main(Command())
