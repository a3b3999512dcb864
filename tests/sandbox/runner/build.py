"""Builds the packages: `python -m tests.sandbox.runner.build 19.3.0-1 <directory>`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
VERSION = re.compile(r"(19)\.(\d+)\.\d+-\d+\Z")
#: Name of a package -> the folder that it is made of.
PACKAGES = {"gitlab-runner": "package", "gitlab-runner-helper-images": "helper_images"}
#: Where the program is in its package.
PROGRAM = "usr/lib/gitlab-runner/gitlab_runner"


def build(version: str, out: Path) -> list[Path]:
    """Build both packages in `out` and answer their paths.

    Needs `dpkg-deb`. The version is that of a package, such as `19.3.0-1`; any of GitLab Runner 19 will do.

    Raises:
        ValueError: the version is not one of GitLab Runner 19.
        RuntimeError: `dpkg-deb` refused; its words are in the message.
    """
    if not VERSION.match(version):
        raise ValueError(f"{version!r} is not a package version of GitLab Runner 19, such as 19.3.0-1")
    out.mkdir(parents=True, exist_ok=True)
    return [_build(name, version, out) for name in PACKAGES]


def _build(name: str, version: str, out: Path) -> Path:
    target = out / f"{name}_{version}_all.deb"
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
        tree = Path(scratch) / "tree"
        _copy(name, tree)
        if (tree / PROGRAM).exists():
            (tree / PROGRAM / "VERSION").write_text(f"{version.partition('-')[0]}\n")
            (tree / PROGRAM / "VERSION").chmod(0o644)
        size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024 + 1
        control = tree / "DEBIAN" / "control"
        control.write_text(control.read_text().replace("@VERSION@", version).replace("@SIZE@", str(size)))
        command = ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", str(tree), str(target)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"dpkg-deb: {run.stderr.strip()}")
    return target


def _copy(name: str, tree: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(HERE / PACKAGES[name], tree, ignore=ignored)
    if name == "gitlab-runner":
        shutil.copytree(HERE / "program", tree / PROGRAM, ignore=ignored)
    # Not as the checkout happens to have them: what is executable stays so, everything is readable by all.
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


if __name__ == "__main__":
    for built in build(sys.argv[1], Path(sys.argv[2])):
        print(built)
