"""Packages that the sandbox's machines install, unpacked for tests."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.sandbox.layout import current


@cache
def unpacked(package: str) -> Path:
    """The folder with the files of a Debian package from the sandbox's mirror."""
    found = sorted((current().cache / "mirror").rglob(f"{package}_*.deb"))
    assert found, f"no package {package} in the cache; run: python -m tests.sandbox prepare --tests"
    target = current().cache / "tests" / found[-1].stem
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        folder = target.with_name(f"{target.name}.{os.getpid()}")
        subprocess.run(["dpkg-deb", "-x", found[-1], folder], check=True)
        # Tests run side by side: another process may have been faster.
        with suppress(OSError):
            folder.rename(target)
    return target
