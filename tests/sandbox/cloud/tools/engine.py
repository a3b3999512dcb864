"""The Pulumi engine of the sandbox: the real CLI, and the sandbox's own plugins or Pulumi's.

The sandbox's own plugins are the default on every machine, with and without internet, so that all of them run what
the tests run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.sandbox.cloud.tools.golang import build_pulumi
from tests.sandbox.layout import Layout
from tests.sandbox.plugins.install import install as install_own_plugins
from tools import pulumi
from tools.progress import Say, say
from tools.releases import UnavailableError


def install(layout: Layout, python: Path, progress: Say = say) -> None:
    """Install the CLI, and the plugins that the layout names; `python` runs the sandbox's own.

    Raises:
        UnavailableError: the official plugins are wanted and cannot be downloaded.
    """
    if layout.official_plugins:
        pulumi.install(layout.engine, progress)
        return
    install_cli(layout.cache, progress)
    install_own_plugins(layout.cache / "pulumi-home", layout.cache / "bin", python)
    progress("plugins: the sandbox's own")


def install_cli(cache: Path, progress: Say = say) -> None:
    """Put `pulumi` into the cache's `bin`: found on PATH, downloaded, or built from source.

    A copy, never a link: the engine uses the language host beside its own program, and that is the sandbox's here.
    """
    target = cache / "bin" / "pulumi"
    if pulumi.has_version(target) and not target.is_symlink():
        progress(f"pulumi {pulumi.VERSION}: cached")
        return
    own = shutil.which("pulumi")
    if own and pulumi.has_version(Path(own)):
        progress(f"pulumi {pulumi.VERSION}: {own}")
        _copy(Path(own), target)
        return
    try:
        pulumi.install_cli(cache / "tools", progress)
    except UnavailableError as error:
        progress(error.reason)
        target.unlink(missing_ok=True)
        build_pulumi(cache, progress)
    else:
        _copy(cache / "tools" / "bin" / "pulumi", target)


def _copy(program: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(".new")
    shutil.copy2(program, new)
    new.replace(target)
