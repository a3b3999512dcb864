"""The Pulumi CLI and the plugins of the program, as Pulumi releases them.

Builds nothing and substitutes nothing: where the releases cannot be used, `UnavailableError` says what to do.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Final

import httpx
from packaging.requirements import Requirement

from tools.environment import ROOT
from tools.progress import HEARTBEAT, Say, ToolError, heartbeat, run, say

#: The CLI has the version of the SDK, which `pyproject.toml` pins.
VERSION: Final = importlib.metadata.version("pulumi")
DOWNLOADS = "https://get.pulumi.com"
CHECKSUMS = "https://github.com/pulumi/pulumi/releases/download/v{version}/pulumi-{version}-checksums.txt"
#: Seconds in which a download server must answer to be used.
PATIENCE = 4.0
_REACH = "allow this machine to reach get.pulumi.com and github.com"


class UnavailableError(ToolError):
    """Pulumi's own releases cannot be used here. `reason` is the message without its advice."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}: {advice}")
        self.reason = reason


def install_cli(folder: Path, progress: Say = say) -> None:
    """Put the CLI into `folder/bin`: a link to that on PATH if its version is right, else the release.

    Raises:
        UnavailableError: the release cannot be downloaded, or is not what its checksum says.
    """
    target = folder / "bin" / "pulumi"
    target.parent.mkdir(parents=True, exist_ok=True)
    if has_version(target):
        progress(f"pulumi {VERSION}: cached")
        return
    own = shutil.which("pulumi")
    if own and has_version(Path(own)):
        progress(f"pulumi {VERSION}: {own}")
        target.unlink(missing_ok=True)
        target.symlink_to(Path(own).resolve())
        return
    _download(folder, progress)


def install_plugins(folder: Path, progress: Say = say) -> None:
    """Put the plugin of each provider of the program into `folder/pulumi-home`.

    Raises:
        UnavailableError: the CLI has no language host, or the plugins cannot be downloaded.
        ToolError: a download failed.
    """
    home, program = folder / "pulumi-home", folder / "bin" / "pulumi"
    home.mkdir(parents=True, exist_ok=True)
    # The release contains the language hosts; a CLI that was built from source has none.
    if not program.resolve().with_name("pulumi-language-python-exec").exists():
        advice = f"{_REACH} and take it off PATH, or put the complete release {VERSION} on PATH"
        raise UnavailableError(f"{program.resolve()} comes without Pulumi's Python language host", advice)
    missing = [plugin for plugin in required_plugins() if not _is_official(home, *plugin)]
    if not missing:
        progress("plugins: cached")
        return
    if not _reachable(DOWNLOADS):
        names = ", ".join(f"{name} {version}" for name, version in missing)
        advice = f"{_REACH}, or copy them from a machine that has them, ~/.pulumi/plugins, to {home / 'plugins'}"
        raise UnavailableError(f"no plugins for {names}, and {DOWNLOADS} does not answer", advice)
    environment = {**os.environ, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    for name, version in missing:
        progress(f"plugin {name} {version}: downloading")
        command: list[str | Path] = [program, "plugin", "install", "resource", name, version, "--reinstall"]
        run(f"plugin {name} {version}", command, folder / "logs" / f"plugin-{name}.log", environment)


def required_plugins() -> list[tuple[str, str]]:
    """Name and version of the plugin for each provider SDK in `pyproject.toml`.

    Raises:
        ToolError: one of the SDKs is not installed.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [Requirement(line).name for line in project["dependencies"]]
    return [_plugin(name.replace("-", "_")) for name in names if name.startswith("pulumi-")]


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


def _plugin(package: str) -> tuple[str, str]:
    # Found and not imported: the SDK of a provider takes a second to load.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ToolError(f"{package} is not installed: run `make env`, which installs requirements.lock")
    description = json.loads(Path(found.origin).with_name("pulumi-plugin.json").read_text())
    return description["name"], description["version"].removeprefix("v")


def _is_official(home: Path, name: str, version: str) -> bool:
    """Whether a plugin is there and is a compiled program, as Pulumi releases them."""
    program = home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
    if not program.exists():
        return False
    with program.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _reachable(url: str) -> bool:
    try:
        httpx.head(url, timeout=PATIENCE)
    except httpx.HTTPError:
        return False
    return True


def _download(folder: Path, progress: Say) -> None:
    """Unpack the release into `folder/bin`, once its checksum has been found right."""
    kind = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"pulumi-v{VERSION}-linux-{kind}.tar.gz"
    advice = f"{_REACH}, or put Pulumi {VERSION} on PATH"
    if not _reachable(DOWNLOADS):
        raise UnavailableError(f"no Pulumi {VERSION} on PATH, and {DOWNLOADS} does not answer", advice)
    progress(f"pulumi {VERSION}: downloading")
    archive = folder / "build" / name
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with heartbeat(f"pulumi {VERSION}", progress):
            wanted = _checksums(name)
            _fetch(f"{DOWNLOADS}/releases/sdk/{name}", archive)
        if hashlib.sha256(archive.read_bytes()).hexdigest() not in wanted:
            raise UnavailableError(f"the download of {name} does not match its checksum", "it was not used; try again")
        _unpack(archive, folder / "bin")
    except httpx.HTTPError as error:
        cause = str(error).partition("\n")[0]
        raise UnavailableError(f"Pulumi {VERSION} cannot be downloaded ({cause})", advice) from error
    finally:
        archive.unlink(missing_ok=True)
    if not has_version(folder / "bin" / "pulumi"):
        raise UnavailableError(f"{name} does not run on this machine", f"put Pulumi {VERSION} on PATH")


def _checksums(name: str) -> list[str]:
    """The SHA-256 sums that the release lists for a file: one, or none."""
    url = CHECKSUMS.format(version=VERSION)
    listed = httpx.get(url, follow_redirects=True, timeout=HEARTBEAT).raise_for_status().text
    return [line.split()[0] for line in listed.splitlines() if line.endswith(name)]


def _fetch(url: str, target: Path) -> None:
    with target.open("wb") as file, httpx.stream("GET", url, timeout=HEARTBEAT) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            file.write(chunk)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        for member in content.getmembers():
            if member.isfile():
                member.name = Path(member.name).name
                # It may be a link to an older one elsewhere, which is not ours to overwrite.
                (folder / member.name).unlink(missing_ok=True)
                content.extract(member, folder, filter="data")
