"""Prepares everything that a sandbox needs on this machine, partly in parallel."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from tests.sandbox import versions
from tests.sandbox.agent.build import HERE as _AGENT
from tests.sandbox.agent.build import build as build_agent
from tests.sandbox.cloud.archive import mirror
from tests.sandbox.cloud.tools import containers, debian, engine, golang, nodejs, python_packages
from tests.sandbox.cloud.tools.kubernetes import prepare as build_kubernetes
from tests.sandbox.gitlab import bundle
from tests.sandbox.gitlab.build import HERE as _GITLAB
from tests.sandbox.gitlab.build import build as build_gitlab
from tests.sandbox.hub import build as hub
from tests.sandbox.hub.runner import build as build_runner_images
from tests.sandbox.layout import Layout
from tests.sandbox.machines.image.build import SUITES
from tests.sandbox.machines.image.build import build as build_image
from tests.sandbox.runner.build import HERE as _RUNNER
from tests.sandbox.runner.build import build as build_runner
from tools.progress import Say, say, sparse

#: Machine images that are made unless others are asked for.
IMAGES = ("debian-13-x64",)


def prepare(
    layout: Layout,
    images: tuple[str, ...] = IMAGES,
    progress: Say = say,
    *,
    tests: bool = False,
    kubernetes: bool = False,
) -> None:
    """Install or build all tools, packages and images. If everything is up to date, this takes about a second.

    With `tests`, also what only the tests need; with `kubernetes`, what machines of clusters are made of.
    """
    cache = layout.cache
    debian.install(cache, progress, tests=tests)
    mirror.make_keys(cache)
    # One line of work for the processor, two that mostly wait for the network and for disks.
    steps = [
        lambda: _programs(layout, progress, tests=tests),
        lambda: _packages(cache, images, progress),
        lambda: hub.build(cache, containers.build(cache, progress), progress),
        *([lambda: _for_tests(cache, progress)] if tests else []),
    ]
    with ThreadPoolExecutor(len(steps)) as pool:
        tasks = [pool.submit(step) for step in steps]
        wait(tasks, return_when=FIRST_EXCEPTION)
        for task in tasks:
            task.result()
    if kubernetes:
        build_kubernetes(cache, progress)
        build_runner_images(cache, progress)


def _programs(layout: Layout, progress: Say, *, tests: bool) -> None:
    golang.build_versitygw(layout.cache, progress)
    engine.install(layout, Path(sys.executable), progress)
    if tests:
        golang.build_pulumi_yaml(layout.cache, progress)


def _for_tests(cache: Path, progress: Say) -> None:
    nodejs.install_programs(cache, progress)
    python_packages.download(cache, progress)


def _packages(cache: Path, images: tuple[str, ...], progress: Say) -> None:
    for slug in images:
        mirror.build(SUITES[slug], cache, progress)
        image = build_image(slug, cache, sparse(progress))
        progress(f"image {slug}: {image.stat().st_size // 2**20} MB")
    runners = [
        package
        for version in versions.GITLAB_RUNNERS
        for package in _package("gitlab-runner", version, _RUNNER, cache, progress)
    ]
    mirror.publish_agent(_package("do-agent", versions.DO_AGENT, _AGENT, cache, progress), cache)
    for suite in (SUITES[slug] for slug in images):
        mirror.publish_gitlab(_gitlabs(suite, cache, progress), suite, cache)
        mirror.publish_runner(runners, suite, cache)


def _gitlabs(suite: str, cache: Path, progress: Say) -> list[Path]:
    """GitLab's packages for one release of Debian, each with that release's PostgreSQL."""
    postgresql = bundle.unpack(mirror.pool(suite, cache), cache / "postgresql")
    return [
        package
        for version in versions.GITLABS
        for package in _package("gitlab-ce", version, _GITLAB, cache, progress, postgresql=postgresql)
    ]


def _package(
    name: str, version: str, sources: Path, cache: Path, progress: Say, *, postgresql: Path | None = None
) -> list[Path]:
    """Packages of one of our own programs, built again when their sources have changed."""
    digest = hashlib.sha256(version.encode())
    for path in sorted(path for path in sources.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(str(path.relative_to(sources)).encode() + b"\0" + path.read_bytes())
    folder = cache / "packages" / (postgresql.name if postgresql else "")
    stamp = folder / f"{name}_{version}.stamp"
    kept = [folder / Path(line).name for line in stamp.read_text().splitlines()[1:]] if stamp.exists() else []
    if kept and all(map(Path.exists, kept)) and stamp.read_text().startswith(digest.hexdigest()):
        progress(f"{name} {version}: cached")
        return kept
    progress(f"{name} {version}: building the package")
    builders = {"gitlab-runner": build_runner, "do-agent": build_agent}
    packages = builders[name](version, folder) if name in builders else [build_gitlab(version, folder, postgresql)]
    stamp.write_text("\n".join([digest.hexdigest(), *(package.name for package in packages)]) + "\n")
    return packages
