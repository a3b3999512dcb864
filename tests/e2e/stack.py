"""A stack for end-to-end tests, driven through the real Pulumi CLI."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.clients import Outputs, try_run

ROOT = Path(__file__).resolve().parents[2]
#: The settings that tests start from, and the runner that they define.
SANDBOX = ROOT / "stacks" / "Pulumi.sandbox.yaml"
RUNNER: dict[str, Any] = yaml.safe_load(SANDBOX.read_text())["config"]["slipway:runners"][0]


class PulumiError(AssertionError):
    """A Pulumi command failed; the message contains its output."""


@dataclass(frozen=True)
class Stack:
    """One stack with its own stack file outside the checkout, so that tests never change a file of the project."""

    name: str
    file: Path

    @classmethod
    def create(cls, name: str, folder: Path, template: Path, **settings: Any) -> Stack:
        """Create a stack with the settings of `template`, overridden by `settings`."""
        file = folder / f"Pulumi.{name}.yaml"
        content = yaml.safe_load(template.read_text())
        # The salt belongs to the stack it was created for.
        content.pop("encryptionsalt", None)
        content["config"].update({f"slipway:{key}": value for key, value in settings.items()})
        file.write_text(yaml.safe_dump(content))
        stack = cls(name, file)
        stack.run("stack", "init", "--stack", name, settings_file=False)
        return stack

    def set(self, **settings: Any) -> None:
        """Change settings; None removes a setting."""
        content = yaml.safe_load(self.file.read_text())
        for key, value in settings.items():
            if value is None:
                content["config"].pop(f"slipway:{key}", None)
            else:
                content["config"][f"slipway:{key}"] = value
        self.file.write_text(yaml.safe_dump(content))

    def set_secret(self, path: str, value: str) -> None:
        """Set one encrypted setting; its value is passed on standard input."""
        done = try_run(*self._command(("config", "set", "--secret", "--path", path)), stdin=value, cwd=ROOT)
        if done.returncode != 0:
            raise PulumiError(done.stderr)

    def up(self, *options: str) -> str:
        """Run `pulumi up` and return its output."""
        return self.run("up", "--yes", "--skip-preview", *options)

    def preview(self) -> dict[str, Any]:
        """Run `pulumi preview --json` and return the parsed result."""
        text = self.run("preview", "--json")
        return dict(json.loads(text[text.index("{") :]))

    def changes(self) -> dict[str, str]:
        """Operations that `pulumi up` would perform, by logical name; unchanged resources are omitted."""
        steps = self.preview()["steps"]
        return {step["urn"].rsplit("::", 1)[1]: step["op"] for step in steps if step["op"] not in {"same", "read"}}

    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources in the stack's state, by URN; secrets stay encrypted."""
        state = json.loads(self.run("stack", "export", settings_file=False))
        return {one["urn"]: one for one in state["deployment"]["resources"]}

    def urn(self, name: str) -> str:
        """The URN of the resource with a logical name."""
        [urn] = [urn for urn in self.resources() if urn.endswith(f"::{name}")]
        return urn

    def outputs(self) -> Outputs:
        """The stack's outputs, including secrets."""
        return Outputs(json.loads(self.run("stack", "output", "--json", "--show-secrets", settings_file=False)))

    def remove(self) -> None:
        """Destroy and remove the stack; does nothing if a test has already done so."""
        self.attempt("destroy", "--yes", "--skip-preview")
        self.attempt("stack", "rm", "--yes", "--force", settings_file=False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a Pulumi command in the background."""
        return subprocess.Popen(
            self._command(words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *words: str, settings_file: bool = True) -> str:
        """Run a Pulumi command and return its standard output.

        Raises:
            PulumiError: the command failed.
        """
        done = self.attempt(*words, settings_file=settings_file)
        if done.returncode != 0:
            raise PulumiError(
                f"pulumi {' '.join(words)} exited with code {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout

    def attempt(self, *words: str, settings_file: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a Pulumi command that may fail."""
        return try_run(*self._command(words, settings_file), timeout=1500, cwd=ROOT)

    def _command(self, words: tuple[str, ...], settings_file: bool = True) -> list[str]:
        file = ["--config-file", str(self.file)] if settings_file else []
        which = [] if "--stack" in words else ["--stack", self.name]
        return ["pulumi", *words, *which, *file, "--non-interactive"]
