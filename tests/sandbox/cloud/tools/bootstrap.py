"""Everything that a sandbox needs on this machine, in the right order and partly at the same time."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from tests.sandbox.cloud import versions
from tests.sandbox.cloud.archive import mirror
from tests.sandbox.cloud.tools import debian, golang, pulumi
from tests.sandbox.cloud.tools.progress import Say, say, sparse
from tests.sandbox.gitlab.build import HERE as _GITLAB
from tests.sandbox.gitlab.build import build as build_gitlab
from tests.sandbox.layout import Layout
from tests.sandbox.machines.image.build import SUITES
from tests.sandbox.machines.image.build import build as build_image

#: Machine images that are made unless others are asked for.
IMAGES = ("debian-13-x64",)


def prepare(layout: Layout, images: tuple[str, ...] = IMAGES, progress: Say = say) -> None:
    """Have all tools, packages and images. What is there and right is left alone: then this takes about a second."""
    cache = layout.cache
    debian.install(cache, progress)
    mirror.make_keys(cache)
    # One line of work for the processor, one that mostly waits for the network and for disks.
    steps = [
        lambda: _programs(cache, progress),
        lambda: _packages(cache, images, progress),
    ]
    with ThreadPoolExecutor(len(steps)) as pool:
        tasks = [pool.submit(step) for step in steps]
        wait(tasks, return_when=FIRST_EXCEPTION)
        for task in tasks:
            task.result()


def prepare_tools(layout: Layout, progress: Say = say) -> None:
    """Have just what a real account needs: the Pulumi CLI and plugins."""
    pulumi.install_cli(layout.cache, progress)
    pulumi.install_plugins(layout.cache, Path(sys.executable), progress)


def _programs(cache: Path, progress: Say) -> None:
    golang.build_versitygw(cache, progress)
    pulumi.install_cli(cache, progress)
    pulumi.install_plugins(cache, Path(sys.executable), progress)


def _packages(cache: Path, images: tuple[str, ...], progress: Say) -> None:
    for slug in images:
        mirror.build(SUITES[slug], cache, progress)
        image = build_image(slug, cache, sparse(progress))
        progress(f"image {slug}: {image.stat().st_size // 2**20} MB")
    package = _gitlab_package(cache, progress)
    for slug in images:
        mirror.publish_gitlab(package, SUITES[slug], cache)


def _gitlab_package(cache: Path, progress: Say) -> Path:
    """The package, built anew when what it is made of has changed."""
    digest = hashlib.sha256(versions.GITLAB.encode())
    for path in sorted(path for path in _GITLAB.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(str(path.relative_to(_GITLAB)).encode() + b"\0" + path.read_bytes())
    folder = cache / "packages"
    stamp = folder / "gitlab-ce.stamp"
    kept = [Path(line) for line in stamp.read_text().splitlines()[1:]] if stamp.exists() else []
    if kept and kept[0].exists() and stamp.read_text().startswith(digest.hexdigest()):
        progress(f"gitlab-ce {versions.GITLAB}: cached")
        return kept[0]
    progress(f"gitlab-ce {versions.GITLAB}: building the package")
    package = build_gitlab(versions.GITLAB, folder)
    stamp.write_text(f"{digest.hexdigest()}\n{package}\n")
    return package
