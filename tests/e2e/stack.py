"""A stack of its own for the end-to-end tests, driven by the real engine from outside."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.clients import Outputs, try_run

ROOT = Path(__file__).resolve().parents[2]
#: The settings that tests begin with, and the runner in them.
SANDBOX = ROOT / "stacks" / "Pulumi.sandbox.yaml"
RUNNER: dict[str, Any] = yaml.safe_load(SANDBOX.read_text())["config"]["slipway:runners"][0]


class PulumiError(AssertionError):
    """A Pulumi command did not end as it should."""


@dataclass(frozen=True)
class Stack:
    """One stack, with a stack file of its own: what a test changes is in no file of the project."""

    name: str
    file: Path

    @classmethod
    def create(cls, name: str, folder: Path, template: Path, **settings: Any) -> Stack:
        """A new stack whose settings are those of `template`, changed by `settings`."""
        file = folder / f"Pulumi.{name}.yaml"
        content = yaml.safe_load(template.read_text())
        # The salt belongs to the stack that it was made for.
        content.pop("encryptionsalt", None)
        content["config"].update({f"slipway:{key}": value for key, value in settings.items()})
        file.write_text(yaml.safe_dump(content))
        stack = cls(name, file)
        stack.run("stack", "init", "--stack", name, settings_file=False)
        return stack

    def set(self, **settings: Any) -> None:
        """Change settings; None removes one."""
        content = yaml.safe_load(self.file.read_text())
        for key, value in settings.items():
            if value is None:
                content["config"].pop(f"slipway:{key}", None)
            else:
                content["config"][f"slipway:{key}"] = value
        self.file.write_text(yaml.safe_dump(content))

    def set_secret(self, path: str, value: str) -> None:
        """Set one secret, encrypted; it goes over standard input."""
        done = try_run(*self._command(("config", "set", "--secret", "--path", path)), stdin=value, cwd=ROOT)
        if done.returncode != 0:
            raise PulumiError(done.stderr)

    def up(self, *options: str) -> str:
        """`pulumi up`; what it said."""
        return self.run("up", "--yes", "--skip-preview", *options)

    def preview(self) -> dict[str, Any]:
        """`pulumi preview` as the engine's own summary."""
        text = self.run("preview", "--json")
        return dict(json.loads(text[text.index("{") :]))

    def changes(self) -> dict[str, str]:
        """What an update would do, by logical name; what stays as it is is left out."""
        steps = self.preview()["steps"]
        return {step["urn"].rsplit("::", 1)[1]: step["op"] for step in steps if step["op"] not in {"same", "read"}}

    def urn(self, name: str) -> str:
        """What the engine calls the resource with a logical name."""
        state = json.loads(self.run("stack", "export", settings_file=False))
        [urn] = [one["urn"] for one in state["deployment"]["resources"] if one["urn"].endswith(f"::{name}")]
        return str(urn)

    def outputs(self) -> Outputs:
        """The stack's outputs, secrets included."""
        return Outputs(json.loads(self.run("stack", "output", "--json", "--show-secrets", settings_file=False)))

    def remove(self) -> None:
        """Destroy what there is and forget the stack; fine when a test has done so already."""
        self.attempt("destroy", "--yes", "--skip-preview")
        self.attempt("stack", "rm", "--yes", "--force", settings_file=False)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A Pulumi command that runs on while the test does something else."""
        return subprocess.Popen(
            self._command(words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *words: str, settings_file: bool = True) -> str:
        """A Pulumi command that has to succeed; both of its outputs."""
        done = self.attempt(*words, settings_file=settings_file)
        if done.returncode != 0:
            raise PulumiError(f"pulumi {' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def attempt(self, *words: str, settings_file: bool = True) -> subprocess.CompletedProcess[str]:
        """A Pulumi command that may fail."""
        return try_run(*self._command(words, settings_file), timeout=1500, cwd=ROOT)

    def _command(self, words: tuple[str, ...], settings_file: bool = True) -> list[str]:
        file = ["--config-file", str(self.file)] if settings_file else []
        which = [] if "--stack" in words else ["--stack", self.name]
        return ["pulumi", *words, *which, *file, "--non-interactive"]
