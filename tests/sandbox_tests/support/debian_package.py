"""What is in a Debian package, as `dpkg-deb` reads it."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path


def field(package: Path, name: str) -> str:
    """A field of the package's control file."""
    return subprocess.run(["dpkg-deb", "-f", package, name], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def _files(package: Path) -> Iterator[tarfile.TarFile]:
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        yield archive


def members(package: Path) -> dict[str, tarfile.TarInfo]:
    """Files and folders that the package installs, by path."""
    with _files(package) as archive:
        return {member.name.removeprefix("./"): member for member in archive}


def content(package: Path, name: str) -> str:
    """The text of one of its files."""
    with _files(package) as archive:
        found = archive.extractfile(f"./{name}")
        assert found is not None
        return found.read().decode()
