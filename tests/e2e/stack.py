"""A stack for end-to-end tests, driven through the real Pulumi CLI."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml

import tools.stack
from tools.clients import try_run
from tools.environment import ROOT

#: The settings that tests start from, and the runner that they define.
SANDBOX = tools.stack.stack_file("sandbox")
RUNNER: dict[str, Any] = yaml.safe_load(SANDBOX.read_text())["config"]["slipway:runners"][0]


class Stack(tools.stack.Stack):
    """A stack that a test changes while it exists, and whose plans and state it reads."""

    def set_secret(self, path: str, value: str) -> None:
        """Set one encrypted setting; its value is passed on standard input."""
        done = try_run(*self.command(("config", "set", "--secret", "--path", path)), stdin=value, cwd=ROOT)
        if done.returncode != 0:
            raise tools.stack.PulumiError(done.stderr)

    def preview(self) -> dict[str, Any]:
        """Run `pulumi preview --json` and return the parsed result."""
        text = self.run("preview", "--json")
        return dict(json.loads(text[text.index("{") :]))

    def changes(self) -> dict[str, str]:
        """Operations that `pulumi up` would perform, by logical name.

        Omits what is unchanged, components that only show what a step sends, and the numbers of its attempts.
        """
        hidden = re.compile(r"slipway:index:RenderedStep::|random:index/randomId:RandomId::.*-attempt$")
        steps = [step for step in self.preview()["steps"] if not hidden.search(step["urn"])]
        return {step["urn"].rsplit("::", 1)[1]: step["op"] for step in steps if step["op"] not in {"same", "read"}}

    def urn(self, name: str) -> str:
        """The URN of the resource with a logical name."""
        [urn] = [urn for urn in self.resources() if urn.endswith(f"::{name}")]
        return urn

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a Pulumi command in the background."""
        return subprocess.Popen(
            self.command(words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def kill(self, command: subprocess.Popen[str]) -> None:
        """Kill a command of `start`, and clear its lock.

        Pulumi writes the attributes of the state beside it, and not in one go: a kill at that moment leaves an empty
        file, with which no command works. Then the documented command removes it.
        """
        command.send_signal(signal.SIGKILL)
        command.communicate()
        folder = Path(os.environ["PULUMI_BACKEND_URL"].removeprefix("file://"))
        attributes = folder / ".pulumi" / "stacks" / "slipway" / f"{self.name}.json.attrs"
        if attributes.exists() and not attributes.stat().st_size:
            page = (ROOT / "docs/troubleshooting.md").read_text()
            [remove] = re.findall(r"`(rm \.pulumi/stacks/.+?)`", page)
            subprocess.run(shlex.split(remove.replace("STACK", self.name)), cwd=folder, check=True)
        self.run("cancel", "--yes", settings_file=False)
