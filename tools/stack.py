"""A Pulumi stack with a stack file of its own, driven by the real engine."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tools.clients import CheckError, Outputs, try_run
from tools.environment import ROOT

#: Seconds that a Pulumi command may take.
_LIMIT = 1500


class PulumiError(CheckError):
    """A Pulumi command failed; the message is its output."""


def stack_file(name: str) -> Path:
    """The file with the settings of a stack of this project."""
    return ROOT / "stacks" / f"Pulumi.{name}.yaml"


@dataclass(frozen=True)
class Stack:
    """A stack beside those of the project: its settings are in a file outside `stacks/`.

    Owns the stack in the Pulumi backend and what the stack deploys; `remove` deletes both. The folder of the file
    belongs to the caller.
    """

    name: str
    file: Path

    @classmethod
    def create(cls, name: str, folder: Path, template: Path, **settings: Any) -> Self:
        """Create a stack with the settings of `template`, changed by `settings`.

        Raises:
            PulumiError: Pulumi cannot create it.
        """
        file = folder / f"Pulumi.{name}.yaml"
        content = yaml.safe_load(template.read_text())
        # The salt belongs to the stack that it was made for.
        content.pop("encryptionsalt", None)
        content["config"].update({f"slipway:{key}": value for key, value in settings.items()})
        file.write_text(yaml.safe_dump(content))
        stack = cls(name, file)
        stack.init()
        return stack

    def init(self) -> None:
        """Create the stack in the back end, and leave no file in `stacks/`, which nobody would remove after a crash.

        Raises:
            PulumiError: Pulumi cannot create it.
        """
        file = stack_file(self.name)
        is_new = not file.exists()
        self.run("stack", "init", settings_file=False)
        if is_new:
            # It has the salt of the passphrase; the first update puts one into the stack's own file.
            file.unlink(missing_ok=True)

    def up(self, *options: str, environment: dict[str, str] | None = None) -> str:
        """Run `pulumi up`, with variables beside those of this process, and return its output.

        Raises:
            PulumiError: it failed.
        """
        return self.run("up", "--yes", "--skip-preview", *options, environment=environment)

    def destroy(self) -> str:
        """Destroy what the stack does not protect, and return Pulumi's output.

        Raises:
            PulumiError: it failed.
        """
        return self.run("destroy", "--yes", "--skip-preview", "--exclude-protected")

    def set(self, **settings: Any) -> None:
        """Change settings; None removes a setting."""
        content = yaml.safe_load(self.file.read_text())
        for key, value in settings.items():
            if value is None:
                content["config"].pop(f"slipway:{key}", None)
            else:
                content["config"][f"slipway:{key}"] = value
        self.file.write_text(yaml.safe_dump(content))

    def outputs(self) -> Outputs:
        """The stack's outputs, secrets included."""
        return Outputs(json.loads(self.run("stack", "output", "--json", "--show-secrets", settings_file=False)))

    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources in the stack's state, by URN; secrets stay encrypted."""
        state = json.loads(self.run("stack", "export", settings_file=False))
        return {one["urn"]: one for one in state["deployment"]["resources"]}

    def remove(self) -> bool:
        """Destroy what the stack deployed, then delete the stack, and return whether both are gone.

        A stack that could not be destroyed is not deleted: its state is all that knows what is left.
        """
        if self.attempt("destroy", "--yes", "--skip-preview").returncode != 0:
            return False
        return self.attempt("stack", "rm", "--yes", settings_file=False).returncode == 0

    def run(self, *words: str, settings_file: bool = True, environment: dict[str, str] | None = None) -> str:
        """Run a Pulumi command that has to succeed and return its standard output.

        Raises:
            PulumiError: it failed.
        """
        done = self.attempt(*words, settings_file=settings_file, environment=environment)
        if done.returncode != 0:
            raise PulumiError(f"pulumi {' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def attempt(
        self, *words: str, settings_file: bool = True, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a Pulumi command that may fail."""
        return try_run(*self.command(words, settings_file), timeout=_LIMIT, cwd=ROOT, environment=environment)

    def command(self, words: tuple[str, ...], settings_file: bool = True) -> list[str]:
        """The command line of a Pulumi command for this stack."""
        file = ["--config-file", str(self.file)] if settings_file else []
        which = [] if "--stack" in words else ["--stack", self.name]
        return ["pulumi", *words, *which, *file, "--non-interactive"]
