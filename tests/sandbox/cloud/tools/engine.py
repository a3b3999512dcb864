"""The Pulumi engine of the sandbox: as Pulumi releases it where that is available, else built and replaced here."""

from __future__ import annotations

from pathlib import Path

from tests.sandbox.cloud.tools.golang import build_pulumi
from tests.sandbox.plugins.install import install as install_own_plugins
from tools import pulumi
from tools.progress import Say, say


def install_cli(cache: Path, progress: Say = say) -> None:
    """Put `pulumi` into the cache's `bin`: found on PATH, downloaded, or built from source."""
    try:
        pulumi.install_cli(cache, progress)
    except pulumi.UnavailableError as error:
        progress(error.reason)
        build_pulumi(cache, progress)


def install_plugins(cache: Path, python: Path, progress: Say = say) -> None:
    """Put a plugin for each provider into the cache's `pulumi-home`: the official ones, or the sandbox's own.

    The sandbox's own language host goes with its own plugins; `python` runs them.
    """
    try:
        pulumi.install_plugins(cache, progress)
    except pulumi.UnavailableError:
        install_own_plugins(cache / "pulumi-home", cache / "bin", python)
        progress("plugins: the sandbox's own")
