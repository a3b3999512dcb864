"""The folder that `pulumi new` copies: what a user of the program needs, and nothing else.

`pulumi new ADDRESS/template` copies one folder of a repository, with what its links lead to; it follows links to files,
and fails on links to folders. So the program is there as one link per file. `make docs` keeps them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = "template"
#: The program, the policies that it is previewed with, and the packages that both need.
_PACKAGES: Final = ("requirements.txt", "requirements-kubernetes.txt")
_CONTENT: Final = ("__main__.py", "LICENSE", "components", "policies", *_PACKAGES)


def links(root: Path) -> dict[Path, Path]:
    """Every link that the folder should have, and where it leads, relative to the link."""
    found = {}
    for file in _files(root):
        link = root / FOLDER / file.relative_to(root)
        found[link] = Path(os.path.relpath(file, link.parent))
    return found


def outdated(root: Path) -> list[Path]:
    """The links that are missing, lead elsewhere, or should not be there."""
    wanted = links(root)
    wrong = [link for link, target in wanted.items() if not link.is_symlink() or link.readlink() != target]
    return sorted({*wrong, *(set(_present(root)) - set(wanted))})


def write(root: Path) -> None:
    """Create what is missing, and remove what should not be there."""
    wanted = links(root)
    for link in outdated(root):
        link.unlink(missing_ok=True)
        if link in wanted:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(wanted[link])


def _files(root: Path) -> Iterator[Path]:
    for name in _CONTENT:
        place = root / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def _present(root: Path) -> Iterator[Path]:
    return (path for path in (root / FOLDER).rglob("*") if path.is_symlink())
