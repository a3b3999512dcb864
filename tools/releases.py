"""Pulumi's releases: where each archive is, and that it is what was published.

A release is used only if it matches the list of checksums that was published with it. Both come from Pulumi's download
servers, or from a folder that somebody without internet has filled.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from components.trust import trust
from tools.progress import Say, ToolError, heartbeat

CLI_SERVER: Final = "https://get.pulumi.com/releases/sdk"
GITHUB: Final = "https://github.com/pulumi"
#: Seconds for a connection, and between two parts of an answer. Downloads are large, and servers may be slow.
_TIMEOUT: Final = httpx.Timeout(60.0, connect=20.0)
_SYSTEMS: Final = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
#: By their length in hexadecimal digits: most providers publish SHA-1, the CLI and `command` SHA-256.
_ALGORITHMS: Final = {40: "sha1", 64: "sha256"}


class UnavailableError(ToolError):
    """Pulumi's own releases cannot be used here. `reason` and `advice` are the two halves of the message."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}: {advice}")
        self.reason, self.advice = reason, advice


@dataclass(frozen=True)
class Release:
    """An archive for this machine, and the list of checksums published with it.

    `otherwise` is what a user can do if it cannot be downloaded, besides what can be done for every release.
    """

    url: str
    checksums_url: str
    otherwise: str = ""

    @property
    def name(self) -> str:
        """The file name of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def checksums(self) -> str:
        """The file name of the list of checksums."""
        return self.checksums_url.rpartition("/")[2]


def cli(version: str) -> Release:
    """The release of the CLI, which has the language hosts beside it.

    Raises:
        UnavailableError: Pulumi has none for this machine.
    """
    system, machine = _target()
    # The CLI's archives say x64 where those of plugins say amd64.
    name = f"pulumi-v{version}-{system}-{'x64' if machine == 'amd64' else machine}.tar.gz"
    checksums = f"{GITHUB}/pulumi/releases/download/v{version}/pulumi-{version}-checksums.txt"
    return Release(f"{CLI_SERVER}/{name}", checksums, f"put the complete release of Pulumi {version} on PATH, or ")


def plugin(name: str, version: str) -> Release:
    """The release of a provider's plugin.

    Raises:
        UnavailableError: Pulumi has none for this machine.
    """
    system, machine = _target()
    folder = f"{GITHUB}/pulumi-{name}/releases/download/v{version}"
    archive = f"pulumi-resource-{name}-v{version}-{system}-{machine}.tar.gz"
    return Release(f"{folder}/{archive}", f"{folder}/pulumi-{name}_{version}_checksums.txt")


@contextmanager
def obtained(release: Release, folder: Path, progress: Say) -> Iterator[Path]:
    """The verified archive of a release, for the duration of the block.

    Both files are taken from `folder/downloads` if they are there, and stay there; otherwise they are downloaded.

    Raises:
        UnavailableError: they cannot be downloaded, or do not match. Nothing is left of a download.
    """
    given, downloads = folder / "downloads", folder / "build"
    downloads.mkdir(parents=True, exist_ok=True)
    archive, sums = ((given / name) for name in (release.name, release.checksums))
    try:
        if not (archive.exists() and sums.exists()):
            archive, sums = downloads / release.name, downloads / release.checksums
            _download(release, archive, sums, given, progress)
        _verify(release, archive, sums)
        yield archive
    finally:
        for name in (release.name, release.checksums):
            (downloads / name).unlink(missing_ok=True)


def _target() -> tuple[str, str]:
    system, machine = platform.system(), platform.machine().lower()
    if system not in _SYSTEMS or machine not in _MACHINES:
        raise UnavailableError(
            f"make installs Pulumi on Linux and macOS, on x86-64 and ARM64, not on {system} {machine}",
            "use plain Pulumi, as the README describes",
        )
    return _SYSTEMS[system], _MACHINES[machine]


def _download(release: Release, archive: Path, sums: Path, given: Path, progress: Say) -> None:
    advice = (
        f"allow this machine to reach get.pulumi.com and github.com, or {release.otherwise}copy "
        f"{release.name} and {release.checksums} from the release into {given}"
    )
    url = release.checksums_url
    try:
        with (
            heartbeat(release.name, progress),
            httpx.Client(verify=trust(), follow_redirects=True, timeout=_TIMEOUT) as client,
        ):
            _fetch(client, url, sums)
            url = release.url
            _fetch(client, url, archive)
    except httpx.HTTPStatusError as error:
        answer = f"{error.response.status_code} {error.response.reason_phrase}"
        raise UnavailableError(f"{url} answers {answer}", advice) from error
    except httpx.HTTPError as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise UnavailableError(f"{url} cannot be downloaded ({cause})", advice) from error


def _fetch(client: httpx.Client, url: str, target: Path) -> None:
    with target.open("wb") as file, client.stream("GET", url) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            file.write(chunk)


def _verify(release: Release, archive: Path, sums: Path) -> None:
    listed = (line.partition(" ") for line in sums.read_text(errors="replace").splitlines())
    # Written by sha256sum or shasum: before the name there may be a mark for binary files, and the folder.
    wanted = {digits for digits, _, file in listed if file.strip().lstrip("*").removeprefix("./") == release.name}
    if not wanted:
        raise UnavailableError(
            f"{release.checksums} has no checksum for {release.name}", "nothing was installed; report it to Pulumi"
        )
    found = {sum_of(archive, _ALGORITHMS[len(one)]) for one in wanted if len(one) in _ALGORITHMS}
    if wanted != found:
        raise UnavailableError(
            f"{archive.name} does not match its checksum: {release.checksums} has {', '.join(sorted(wanted))}, "
            f"the file {', '.join(sorted(found)) or 'another kind'}",
            "nothing was installed. Run the command again; if it stays so, something between this machine and the "
            "download servers changes files",
        )


def sum_of(file: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest()
