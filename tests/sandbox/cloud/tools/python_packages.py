"""The files of the program's own Python packages: a sandbox has no package index, and `pulumi install` needs them."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from tools.environment import ROOT
from tools.progress import Say, run, say

REQUIREMENTS = ROOT / "requirements.txt"
#: What Pulumi's tool chain brings up to date before it installs a program's packages.
INSTALLERS = ("pip", "setuptools", "wheel")


def folder(cache: Path) -> Path:
    """Where the files are: pip finds them with --find-links."""
    return cache / "wheels"


def download(cache: Path, progress: Say = say) -> None:
    """Have the files of `requirements.txt`, verified by its hashes, and the newest installers."""
    target = folder(cache)
    stamp, wanted = target / "stamp", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        progress("packages of the program: cached")
        return
    progress("packages of the program: downloading")
    shutil.rmtree(target, ignore_errors=True)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    log = cache / "logs" / "wheels.log"
    run("packages", [*pip, "--dest", target, "--require-hashes", "--requirement", REQUIREMENTS], log)
    run("installers", [*pip, "--dest", target, "--no-deps", *INSTALLERS], log)
    stamp.write_text(wanted)
