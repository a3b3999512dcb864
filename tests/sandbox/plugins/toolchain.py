"""The Python environment of a program, as the official language host's `pip` tool chain finds and makes it.

Follows `sdk/python/toolchain/pip.go` of Pulumi 3.259.0: which interpreter, which environment, which commands, in which
order. The tool chains poetry and uv are refused.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_LIST_PACKAGES = _HERE / "list_packages.py"


class ToolchainError(Exception):
    """The environment cannot be used or made."""


@dataclass(frozen=True)
class Pip:
    """The options `toolchain` and `virtualenv` of a project. Without `virtualenv`: the Python that is on PATH."""

    root: Path
    virtualenv: str

    @classmethod
    def of(cls, root: str, options: Mapping[str, Any]) -> Pip:
        """The tool chain that the options of `Pulumi.yaml` choose.

        Raises:
            ToolchainError: they choose one that this language host does not have.
        """
        if (chosen := options.get("toolchain", "pip")) != "pip":
            raise ToolchainError(f"unsupported toolchain option: {chosen}: the sandbox has pip only")
        if "typechecker" in options:
            raise ToolchainError("unsupported typechecker option: the sandbox has none")
        return cls(Path(root), str(options.get("virtualenv", "")))

    @property
    def folder(self) -> Path | None:
        """The virtual environment, if there is to be one."""
        return self.root / self.virtualenv if self.virtualenv else None

    @property
    def python(self) -> str:
        """The interpreter that runs the program."""
        return str(self.folder / "bin/python") if self.folder else _ambient_python()

    def environment(self) -> dict[str, str]:
        """The variables of this process, with the virtual environment activated."""
        found = dict(os.environ)
        if self.folder:
            found.pop("PYTHONHOME", None)
            found["PATH"] = os.pathsep.join([str(self.folder / "bin"), *filter(None, [found.get("PATH")])])
            found["VIRTUAL_ENV"] = str(self.folder)
        return found

    def validate(self) -> None:
        """Check that the virtual environment is there.

        Raises:
            ToolchainError: it is not; with the commands that make it.
        """
        if self.folder is None or self._exists():
            return
        wrong = "doesn't appear to be a virtual environment" if self.folder.exists() else "doesn't exist"
        python = self.folder / "bin/python"
        raise ToolchainError(
            f"The 'virtualenv' option in Pulumi.yaml is set to {json.dumps(self.virtualenv)}, but "
            f"{json.dumps(str(self.folder))} {wrong}; run the following commands to create the virtual environment "
            "and install dependencies into it:\n\n"
            f"    1. python3 -m venv {self.folder}\n"
            f"    2. {python} -m pip install --upgrade pip setuptools wheel\n"
            f"    3. {python} -m pip install -r requirements.txt\n\n\n"
            "For more information see: https://www.pulumi.com/docs/intro/languages/python/#virtual-environments"
        )

    def ensure(self, program: Path) -> Iterator[bytes]:
        """Make the virtual environment if its folder is missing or empty; yields what the commands print.

        Raises:
            ToolchainError: a command fails, or there is something else in its place.
        """
        if self.folder is None or self._exists():
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise ToolchainError(
                f"the 'virtualenv' option in Pulumi.yaml is set to {json.dumps(str(self.folder))} but it is not a "
                "directory"
            )
        if not self.folder.exists() or not any(self.folder.iterdir()):
            yield from self.install(program)

    def install(self, program: Path) -> Iterator[bytes]:
        """Make the virtual environment and install `requirements.txt`, if there is one; yields what is printed.

        Raises:
            ToolchainError: a command fails.
        """
        if self.folder:
            yield b"Creating virtual environment...\n"
            made = subprocess.run([_ambient_python(), "-m", "venv", self.folder], check=False, capture_output=True)
            if made.returncode:
                yield made.stdout + made.stderr
                raise ToolchainError(f"creating virtual environment at '{self.folder}': exit status {made.returncode}")
            yield b"Finished creating virtual environment\n"
        yield b"Updating pip, setuptools, and wheel in virtual environment...\n"
        yield from self._pip(program, "updating pip, setuptools, and wheel", "--upgrade", "pip", "setuptools", "wheel")
        yield b"Finished updating\n"
        if (program / "requirements.txt").exists():
            yield b"Installing dependencies in virtual environment...\n"
            yield from self._pip(program, "installing dependencies", "-r", "requirements.txt")
            yield b"Finished installing dependencies\n"

    def packages(self) -> list[dict[str, str]]:
        """Name and version of each package in the environment, and the path of its `pulumi-plugin.json`, if any.

        Raises:
            ToolchainError: the interpreter does not run.
        """
        command = [self.python, "-P", str(_LIST_PACKAGES)]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        except OSError as error:
            raise ToolchainError(f"calling `{shlex.join(command)}`: {error}") from error
        if done.returncode:
            raise ToolchainError(f"calling `{shlex.join(command)}`: exit status {done.returncode}: {done.stderr}")
        found: list[dict[str, str]] = json.loads(done.stdout)
        return found

    def _exists(self) -> bool:
        return self.folder is not None and (self.folder / "bin/python").is_file()

    def _pip(self, program: Path, what: str, *words: str) -> Iterator[bytes]:
        command = [self.python, "-m", "pip", "install", *words]
        with subprocess.Popen(
            command, cwd=program, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            last = b""
            for line in process.stdout:
                last = line
                yield line
        if process.returncode:
            reason = last.decode(errors="replace").strip()
            raise ToolchainError(f"{what} via '{shlex.join(command)}': exit status {process.returncode}: {reason}")


def _ambient_python() -> str:
    wanted = os.environ.get("PULUMI_PYTHON_CMD")
    names = [wanted] if wanted else ["python3", "python"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise ToolchainError(f"failed to locate any of {names} on your PATH. Have you installed Python 3.6 or greater?")
