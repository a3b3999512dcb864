"""Installs the sandbox's plugins where the Pulumi engine looks for them.

`python -m tests.sandbox.plugins.install --pulumi-home HOME --bin-dir BIN` puts the language host into BIN, which must
be on PATH, and the providers into HOME, which must be PULUMI_HOME. Running it again changes nothing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path
from string import Template

from tools.progress import ToolError
from tools.pulumi import plugin_program, required_plugins

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]


def install(pulumi_home: Path, bin_dir: Path, python: Path) -> None:
    """Write the launchers. `python` is the interpreter of an environment that has the SDKs and the sandbox's packages.

    Raises:
        ToolError: an SDK whose version a plugin carries is not installed,
            or the program uses a provider that the sandbox has no plugin for.
    """
    _write(bin_dir / "pulumi-language-python", python, "language_python")
    for name, version in required_plugins():
        module = f"provider_{name}"
        if not (_HERE / f"{module}.py").exists():
            raise ToolError(f"the sandbox has no plugin for the provider {name}: {_HERE / module}.py")
        _write(plugin_program(pulumi_home, name, version), python, module)


def _write(path: Path, python: Path, module: str) -> None:
    # Not resolved: the interpreter of a virtual environment is a link, and knows its environment by the link's place.
    text = Template((_HERE / "launcher.sh.template").read_text()).substitute(
        root=shlex.quote(str(_ROOT)), python=shlex.quote(str(python.absolute())), module=f"{__package__}.{module}"
    )
    if path.is_file() and path.read_text() == text and os.access(path, os.X_OK):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as new:
        new.write(text)
    Path(new.name).chmod(0o755)
    Path(new.name).rename(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pulumi-home", type=Path, required=True)
    parser.add_argument("--bin-dir", type=Path, required=True)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    arguments = parser.parse_args()
    install(arguments.pulumi_home, arguments.bin_dir, arguments.python)


if __name__ == "__main__":
    main()
