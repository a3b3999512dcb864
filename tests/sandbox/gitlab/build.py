"""Builds the package: `python -m tests.sandbox.gitlab.build 19.3.0-ce.0 <directory>`."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.sandbox.gitlab import bundle

HERE = Path(__file__).parent
PACKAGE = HERE / "package"
APPLICATION = HERE / "web"
REGISTRY = HERE / "registry"
#: Libraries that the package brings along, as GitLab's does: the distribution's are too old. Pure Python only.
EMBEDDED = ("graphql",)
VERSION = re.compile(r"(19)\.(\d+)\.\d+-ce\.\d+\Z")
#: Required stops on the way of upgrades within 19, and the last one before.
STOPS = ((19, 11), (19, 8), (19, 5), (19, 2), (18, 11))


def build(version: str, out: Path, postgresql: Path | None = None) -> Path:
    """Build `gitlab-ce_<version>_<architecture>.deb` in `out` and answer its path.

    Needs `dpkg-deb`. The version is that of a package, such as `19.3.0-ce.0`; any of GitLab 19 will do. `postgresql` is
    what `bundle.unpack` returns; without it the package lacks its database, and cannot be configured.

    Raises:
        ValueError: the version is not one of GitLab 19.
        RuntimeError: `dpkg-deb` refused; its words are in the message.
    """
    match = VERSION.match(version)
    if not match:
        raise ValueError(f"{version!r} is not a package version of GitLab 19, such as 19.3.0-ce.0")
    major, minor = int(match[1]), int(match[2])
    out.mkdir(parents=True, exist_ok=True)
    architecture = _architecture()
    target = out / f"gitlab-ce_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="gitlab-ce-") as scratch:
        tree = Path(scratch) / "tree"
        _copy(tree, postgresql)
        _drop_later_releases(
            tree / "opt/gitlab/embedded/service/gitlab-rails/gitlab_web/core/migrations", (major, minor)
        )
        size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file()) // 1024 + 1
        (tree / "opt/gitlab/embedded/version").write_text(f"{version.partition('-')[0]}\n")
        _fill(
            tree,
            VERSION=version,
            RELEASE=version.partition("-")[0],
            MINOR=f"{major}.{minor}",
            SIZE=str(size),
            ARCHITECTURE=architecture,
            LIBRARIES="".join(f", {one}" for one in bundle.depends(postgresql)) if postgresql else "",
            MAJOR=str(major),
            MIN_VERSION=floor(major, minor),
        )
        _dpkg_deb(tree, target)
    return target


def floor(major: int, minor: int) -> str:
    """The oldest version that an upgrade may come from: the last required stop below it."""
    stop = next(stop for stop in STOPS if stop < (major, minor))
    return f"{stop[0]}.{stop[1]}"


def _architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def _copy(tree: Path, postgresql: Path | None) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(PACKAGE, tree, ignore=ignored)
    shutil.copytree(APPLICATION, tree / "opt/gitlab/embedded/service/gitlab-rails/gitlab_web", ignore=ignored)
    shutil.copytree(REGISTRY, tree / "opt/gitlab/embedded/service/registry/gitlab_registry", ignore=ignored)
    for name in EMBEDDED:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(name)
        library = tree / "opt/gitlab/embedded/service/gitlab-rails" / name
        shutil.copytree(Path(found.origin).parent, library, ignore=ignored)
    # Not as the checkout happens to have them: what is executable stays so, everything is readable by all.
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    if postgresql:
        bundle.add(postgresql, tree)


def _drop_later_releases(migrations: Path, release: tuple[int, int]) -> None:
    """A package has the schema of its own release and of those before it."""
    for folder in [path for path in migrations.iterdir() if path.is_dir()]:
        if tuple(int(part) for part in folder.name.split(".")) > release:
            shutil.rmtree(folder)


def _fill(tree: Path, **values: str) -> None:
    for path in (*(tree / "DEBIAN").iterdir(), *(tree / "opt/gitlab").glob("version-manifest.*")):
        text = path.read_text()
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        path.write_text(text)


def _dpkg_deb(tree: Path, target: Path) -> None:
    # It is stored beside the machines that install it: what counts is the time.
    command = ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", str(tree), str(target)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"dpkg-deb: {run.stderr.strip()}")


if __name__ == "__main__":
    print(build(sys.argv[1], Path(sys.argv[2])))
