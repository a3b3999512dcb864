"""The Pulumi CLI and the plugins of the program, as Pulumi releases them.

Builds nothing and substitutes nothing: where the releases cannot be used, `UnavailableError` says what to do.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from tools import releases
from tools.environment import ROOT
from tools.progress import Say, ToolError, run, say
from tools.releases import UnavailableError

#: The CLI has the version of the SDK, which `pyproject.toml` pins.
VERSION: Final = importlib.metadata.version("pulumi")


def install(folder: Path, progress: Say = say) -> None:
    """Put the CLI into `folder/bin`, and the plugin of each provider into `folder/pulumi-home`. What is there stays.

    Of two processes that do it at the same time, the second one waits.

    Raises:
        UnavailableError: a release cannot be used here.
        ToolError: the CLI cannot unpack a plugin.
    """
    with _alone(folder, progress):
        install_cli(folder, progress)
        install_plugins(folder, progress)


def install_cli(folder: Path, progress: Say = say) -> None:
    """Put the CLI into `folder/bin`: a link to that on PATH if it is the release in the right version, else a download.

    Raises:
        UnavailableError: the release cannot be downloaded, or does not match its checksum.
    """
    target = folder / "bin" / "pulumi"
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_release(target):
        progress(f"pulumi {VERSION}: cached")
        return
    own = shutil.which("pulumi")
    if own and _is_release(Path(own)):
        progress(f"pulumi {VERSION}: {own}")
        target.unlink(missing_ok=True)
        target.symlink_to(Path(own).resolve())
        return
    progress(f"pulumi {VERSION}: downloading")
    release = releases.cli(VERSION)
    with releases.obtained(release, folder, progress) as archive:
        _unpack(archive, target.parent)
    if not _is_release(target):
        raise UnavailableError(f"{release.name} does not run on this machine", f"put Pulumi {VERSION} on PATH")


def install_plugins(folder: Path, progress: Say = say) -> None:
    """Put the plugin of each provider of the program into `folder/pulumi-home`.

    A plugin counts as installed only if this function installed it and it has not changed since. `pulumi plugin
    install` alone would keep whatever is in the folder, whoever wrote it.

    Raises:
        UnavailableError: the releases cannot be downloaded, or do not match their checksums.
        ToolError: the CLI cannot unpack one of them.
    """
    home, record = folder / "pulumi-home", _Record(folder / "plugins.json")
    home.mkdir(parents=True, exist_ok=True)
    missing = [plugin for plugin in required_plugins() if not record.has(home, *plugin)]
    if not missing:
        progress("plugins: cached")
        return
    for name, version in missing:
        progress(f"plugin {name} {version}: downloading")
        try:
            with releases.obtained(releases.plugin(name, version), folder, progress) as archive:
                _install_plugin(folder, name, version, archive)
        except UnavailableError as error:
            names = ", ".join(f"{one} {number}" for one, number in missing)
            reason = f"the official plugins for {names} are missing, and {error.reason}"
            raise UnavailableError(reason, f"{error.advice}. Only the sandbox works without them") from error
        record.add(home, name, version)


def required_plugins() -> list[tuple[str, str]]:
    """Name and version of the plugin for each provider SDK in `pyproject.toml`: the one list of providers.

    Those that some stacks need are in it if they are installed: Pulumi asks for the plugin of every SDK that is.

    Raises:
        ToolError: one of the SDKs that every stack needs is not installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [Requirement(line).name for line in project["dependencies"]]
    optional = [Requirement(line).name for lines in project["optional-dependencies"].values() for line in lines]
    names += [name for name in optional if importlib.util.find_spec(name.replace("-", "_"))]
    found = [_plugin(name.replace("-", "_")) for name in names if name.startswith("pulumi-")]
    return [plugin for plugin in found if plugin]


def plugin_program(home: Path, name: str, version: str) -> Path:
    """Where the engine looks for the program of a plugin."""
    return home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"


def has_version(program: Path) -> bool:
    """Whether a file is the Pulumi CLI in the version of the SDK."""
    if not program.exists():
        return False
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run([program, "version"], check=False, capture_output=True, text=True, env=environment)
    except OSError:
        return False
    return done.stdout.strip() == f"v{VERSION}"


class _Record:
    """Which plugins were installed from verified releases, with the checksums of their programs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sums: dict[str, str] = {}
        if file.exists():
            self._sums = json.loads(file.read_text())

    def has(self, home: Path, name: str, version: str) -> bool:
        """Whether a plugin is there as it was installed."""
        program = plugin_program(home, name, version)
        return program.exists() and self._sums.get(f"{name} {version}") == releases.sum_of(program)

    def add(self, home: Path, name: str, version: str) -> None:
        """Record a plugin that has just been installed."""
        self._sums[f"{name} {version}"] = releases.sum_of(plugin_program(home, name, version))
        self._file.write_text(json.dumps(self._sums, indent=2))


@contextmanager
def _alone(folder: Path, progress: Say) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another process that installs the tools")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_release(program: Path) -> bool:
    """Whether a file is the CLI in the right version with its language host beside it. A build from source has none."""
    return has_version(program) and program.resolve().with_name("pulumi-language-python-exec").exists()


def _plugin(package: str) -> tuple[str, str] | None:
    # Found and not imported: the SDK of a provider takes a second to load.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ToolError(f"{package} is not installed: run `make env`, which installs the Python packages")
    description = json.loads(Path(found.origin).with_name("pulumi-plugin.json").read_text())
    # Other packages of Pulumi, such as that of policies, say that they have none.
    return (description["name"], description["version"].removeprefix("v")) if description["resource"] else None


def _install_plugin(folder: Path, name: str, version: str, archive: Path) -> None:
    home, log = folder / "pulumi-home", folder / "logs" / f"plugin-{name}.log"
    environment = {**os.environ, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    words: list[str | Path] = ["plugin", "install", "resource", name, version, "--file", archive, "--reinstall"]
    run(f"plugin {name} {version}", [folder / "bin" / "pulumi", *words], log, environment)
    if not plugin_program(home, name, version).exists():
        raise ToolError(f"{archive.name} has no program pulumi-resource-{name}, so the plugin cannot be used")


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for member in content.getmembers():
            if member.isfile():
                member.name = Path(member.name).name
                # It may be a link to an older one elsewhere, which is not ours to overwrite.
                (folder / member.name).unlink(missing_ok=True)
                content.extract(member, folder, filter="data")
