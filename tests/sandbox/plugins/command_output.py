"""Output of a command while it runs: kept for the state, and reported to the engine line by line."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from tests.sandbox.plugins.base.framework import Call, PluginError

_CHUNK = 65536


class Reader(Protocol):
    """A stream of bytes."""

    async def read(self, n: int = -1, /) -> bytes:
        """At most `n` bytes; none at the end."""


@dataclass(frozen=True)
class Outcome:
    """What a command that succeeded has written, without the last newline."""

    stdout: str = ""
    stderr: str = ""


class Recorder:
    """Owns the output of one command. `logging` says which of it the engine shows: that of the plugin's schema."""

    def __init__(self, call: Call, logging: str) -> None:
        self._call = call
        self._logged = {
            "stdout": logging in ("stdout", "stdoutAndStderr"),
            "stderr": logging in ("stderr", "stdoutAndStderr"),
        }
        self._streams = {"stdout": "", "stderr": ""}
        self._all = ""

    async def follow(self, stdout: Reader, stderr: Reader, feed: Coroutine[Any, Any, None]) -> None:
        """Take everything from both streams, while the command is fed with its input."""
        async with asyncio.TaskGroup() as group:
            group.create_task(feed)
            group.create_task(self._follow("stdout", stdout))
            group.create_task(self._follow("stderr", stderr))

    async def _follow(self, name: str, reader: Reader) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        line = ""
        while chunk := await reader.read(_CHUNK):
            text = decoder.decode(chunk)
            self._streams[name] += text
            self._all += text
            *lines, line = (line + text).split("\n")
            for whole in lines:
                self._log(name, whole)
        if line:
            self._log(name, line)

    def _log(self, name: str, line: str) -> None:
        if self._logged[name]:
            self._call.log("info", line)

    def outcome(self, command: str, failure: str | None) -> Outcome:
        """What was written.

        Raises:
            PluginError: there was a failure; with the command line and all its output, in the order that it came.
        """
        if failure:
            raise PluginError(f"{failure}: running {json.dumps(command, ensure_ascii=False)}:\n{self._all}")
        return Outcome(self._streams["stdout"].removesuffix("\n"), self._streams["stderr"].removesuffix("\n"))
