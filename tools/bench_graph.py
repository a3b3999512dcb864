"""How long an update takes, compared with its operations: what waits for nothing should run side by side."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import yaml
from rich.table import Table

from tools.bench_figures import Comparison
from tools.clients import CheckError, try_run
from tools.environment import VENV

#: Pulumi hides the option that reports events without it; the Automation API sets it as well.
EVENTS: Final = {"PULUMI_DEBUG_COMMANDS": "true"}


@dataclass
class Operations:
    """The seconds of each operation of an update, by URN, as the engine reports their beginning and end.

    `file` is what Pulumi writes its events to. They are read from a pipe and forgotten, because they have the inputs
    and outputs of all resources.
    """

    file: Path
    seconds: dict[str, float] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def recorded(cls, folder: Path) -> Iterator[Operations]:
        """Record the update that reports its events to `file` meanwhile. The file is in `folder`."""
        recording = cls(folder / "events")
        os.mkfifo(recording.file, 0o600)
        reader = threading.Thread(target=recording._read)
        reader.start()
        try:
            yield recording
        finally:
            while reader.is_alive():
                # Pulumi may have failed before it opened the file, and the reader would wait for that.
                with suppress(OSError):
                    os.close(os.open(recording.file, os.O_WRONLY | os.O_NONBLOCK))
                reader.join(0.1)
            recording.file.unlink()

    def _read(self) -> None:
        with self.file.open(encoding="utf-8") as events:
            for line in events:
                self.note(json.loads(line), time.monotonic())

    def note(self, event: Mapping[str, Any], now: float) -> None:
        """Take note of an event that arrived `now`, in seconds."""
        if begun := event.get("resourcePreEvent"):
            self._begun[begun["metadata"]["urn"]] = now
        elif ended := event.get("resOutputsEvent"):
            urn = ended["metadata"]["urn"]
            if urn in self._begun:
                self.seconds[urn] = now - self._begun.pop(urn)


def longest_chain(seconds: Mapping[str, float], resources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the URNs of the chain of dependencies that takes longest, the first operation first.

    `resources` are those of a state, by URN. A component is done when its children are, so it is no operation of its
    own; a provider is one, because its resources wait for it.
    """
    needs = {urn: [*one.get("dependencies", []), _urn(one.get("provider", ""))] for urn, one in resources.items()}

    @cache
    def chain(urn: str) -> tuple[float, tuple[str, ...]]:
        before = max((chain(one) for one in needs[urn] if one in needs), default=(0.0, ()))
        own = seconds.get(urn, 0.0) if resources[urn].get("custom") else 0.0
        return before[0] + own, (*before[1], urn)

    return list(max((chain(urn) for urn in needs), default=(0.0, ()))[1])


def _urn(provider: str) -> str:
    """The URN in a reference to a provider, which ends with its ID."""
    return provider.rpartition("::")[0]


def graph_table(wall: float, seconds: Mapping[str, float], resources: Mapping[str, Mapping[str, Any]]) -> Comparison:
    """How an update that took `wall` seconds compares with its operations, and what it had to wait for longest."""
    operations = {urn: seconds.get(urn, 0.0) for urn, one in resources.items() if one.get("custom")}
    chain = longest_chain(operations, resources)
    longest, total = sum(operations.get(urn, 0.0) for urn in chain), sum(operations.values())
    table = Table("New stack", "Seconds", "Update ÷ this", "Aim")
    table.add_row("the update", f"{wall:.1f}", "1.00", "")
    table.add_row("its longest chain of dependencies", f"{longest:.1f}", f"{wall / longest:.2f}", "≤ 1.10")
    table.add_row("all operations one after another", f"{total:.1f}", f"{wall / total:.2f}", "≤ 0.60")
    slowest = sorted(((operations[urn], urn) for urn in chain if urn in operations), reverse=True)[:5]
    table.caption = "of the chain: " + ", ".join(f"{urn.rpartition('::')[2]} {took:.1f} s" for took, urn in slowest)
    return Comparison(
        table, {"new stack ÷ its longest chain": wall / longest, "new stack ÷ all its operations": wall / total}
    )


@dataclass(frozen=True)
class EmptyProgram:
    """A project of its own that declares nothing: the engine, the language host and the SDK are all that takes time.

    Its state is in `folder`, and a stack there is no stack of the user's.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Write the project, and make its stack."""
        folder.mkdir()
        runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": str(VENV)}}
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "empty", "runtime": runtime}))
        (folder / "__main__.py").write_text("import pulumi\n")
        program = cls(folder)
        program.run("stack", "init")
        return program

    def preview(self) -> None:
        """Preview it."""
        self.run("preview")

    def run(self, *words: str) -> None:
        """Run a Pulumi command.

        Raises:
            CheckError: it failed.
        """
        backend = {"PULUMI_BACKEND_URL": self.folder.as_uri(), "PULUMI_CONFIG_PASSPHRASE": "nothing is secret"}
        command = ("pulumi", *words, "--stack", "empty", "--non-interactive")
        done = try_run(*command, timeout=300, cwd=self.folder, environment=backend)
        if done.returncode != 0:
            raise CheckError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
