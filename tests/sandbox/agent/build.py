"""Builds the package of the metrics agent's stand-in."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def build(version: str, out: Path) -> list[Path]:
    """Build the package in `out` and return its path. Needs `dpkg-deb`.

    Raises:
        RuntimeError: `dpkg-deb` refused; its words are in the message.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"do-agent_{version}_all.deb"
    with tempfile.TemporaryDirectory(prefix="do-agent-") as scratch:
        tree = Path(scratch) / "tree"
        shutil.copytree(HERE / "package", tree)
        # Not as the checkout happens to have them: what is executable stays so, everything is readable by all.
        for path in [tree, *tree.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        control = tree / "DEBIAN" / "control"
        control.write_text(control.read_text().replace("@VERSION@", version))
        command = ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", str(tree), str(target)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"dpkg-deb: {run.stderr.strip()}")
    return [target]
