"""The Pulumi CLI and its plugins: official where they can be had, else built here or the sandbox's own."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import httpx

from tests.sandbox import versions
from tests.sandbox.cloud.tools.golang import build_pulumi
from tests.sandbox.plugins.install import install as install_own_plugins
from tools.progress import HEARTBEAT, Say, ToolError, heartbeat, say

DOWNLOADS = "https://get.pulumi.com"
CHECKSUMS = "https://github.com/pulumi/pulumi/releases/download/v{version}/pulumi-{version}-checksums.txt"
#: Seconds in which a download server must answer to be used.
PATIENCE = 4.0
#: Python packages of the providers that the program uses; each says which plugin version goes with it.
PROVIDERS = ("pulumi_digitalocean", "pulumi_command", "pulumi_random", "pulumi_tls")


def install_cli(cache: Path, progress: Say = say) -> None:
    """Have the right `pulumi` in the cache's `bin`: found on PATH, downloaded, or built."""
    target = cache / "bin" / "pulumi"
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_wanted(target):
        progress(f"pulumi {versions.PULUMI}: cached")
        return
    own = shutil.which("pulumi")
    if own and _is_wanted(Path(own)):
        progress(f"pulumi {versions.PULUMI}: {own}")
        target.unlink(missing_ok=True)
        target.symlink_to(Path(own).resolve())
        return
    if not _download(cache, progress):
        build_pulumi(cache, progress)


def install_plugins(cache: Path, python: Path, progress: Say = say) -> None:
    """Have a plugin for each provider of the program, and the language host, in the cache's PULUMI_HOME."""
    home, binaries = cache / "pulumi-home", cache / "bin"
    home.mkdir(parents=True, exist_ok=True)
    wanted = [_plugin(package) for package in PROVIDERS]
    # The official release brings its language hosts along; a CLI that was built here has none.
    release = (binaries / "pulumi").resolve().with_name("pulumi-language-python-exec").exists()
    if release and all(_is_official(home, name, version) for name, version in wanted):
        progress("plugins: official ones, cached")
        return
    if release and _reachable(DOWNLOADS):
        progress("plugins: official ones")
        for name, version in wanted:
            command = [str(binaries / "pulumi"), "plugin", "install", "resource", name, version]
            environment = {**os.environ, "PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "true"}
            with heartbeat(f"plugin {name} {version}", progress):
                subprocess.run(command, check=True, env=environment)
        return
    install_own_plugins(home, binaries, python)
    progress("plugins: the sandbox's own")


def _is_official(home: Path, name: str, version: str) -> bool:
    """Whether a plugin is a program, not one of the sandbox's scripts."""
    program = home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
    if not program.exists():
        return False
    with program.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _plugin(package: str) -> tuple[str, str]:
    # Found and not imported: the SDK of a provider takes a second to load.
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ToolError(f"{package} is not installed: run `make up`, which installs requirements.lock")
    description = json.loads(Path(found.origin).with_name("pulumi-plugin.json").read_text())
    return description["name"], description["version"].removeprefix("v")


def _is_wanted(program: Path) -> bool:
    if not program.exists():
        return False
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run([program, "version"], check=False, capture_output=True, text=True, env=environment)
    return done.stdout.strip() == f"v{versions.PULUMI}"


def _reachable(url: str) -> bool:
    try:
        httpx.head(url, timeout=PATIENCE)
    except httpx.HTTPError:
        return False
    return True


def _download(cache: Path, progress: Say) -> bool:
    """The official release, checked against its list of checksums. False where there is none to be had from here."""
    kind = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"pulumi-v{versions.PULUMI}-linux-{kind}.tar.gz"
    checksums = CHECKSUMS.format(version=versions.PULUMI)
    if not _reachable(DOWNLOADS):
        progress(f"pulumi {versions.PULUMI}: official downloads cannot be reached")
        return False
    progress(f"pulumi {versions.PULUMI}: downloading the official release")
    archive = cache / "build" / name
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        listed = httpx.get(checksums, follow_redirects=True, timeout=HEARTBEAT).raise_for_status().text
        with (
            heartbeat(f"pulumi {versions.PULUMI}", progress),
            archive.open("wb") as file,
            httpx.stream("GET", f"{DOWNLOADS}/releases/sdk/{name}", timeout=HEARTBEAT) as answer,
        ):
            answer.raise_for_status()
            for chunk in answer.iter_bytes():
                file.write(chunk)
    except httpx.HTTPError as error:
        progress(f"pulumi {versions.PULUMI}: the download failed ({error})")
        return False
    wanted = [line.split()[0] for line in listed.splitlines() if line.endswith(name)]
    if hashlib.sha256(archive.read_bytes()).hexdigest() not in wanted:
        progress(f"pulumi {versions.PULUMI}: the download does not match its checksum and is not used")
        archive.unlink()
        return False
    with tarfile.open(archive) as content:
        for member in content.getmembers():
            if member.isfile():
                member.name = Path(member.name).name
                content.extract(member, cache / "bin", filter="data")
    archive.unlink()
    return _is_wanted(cache / "bin" / "pulumi")
