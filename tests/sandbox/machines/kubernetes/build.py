"""Builds the root file system of Kubernetes machines from that of plain machines."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from tests.sandbox.machines.image import build as machine
from tools.progress import Say, run, say

HERE = Path(__file__).parent
#: The image of plain machines that it is made from.
BASE = "debian-13-x64"
_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child")


def slug(version: str) -> str:
    """The name of the image. It is not one of those that droplets can be made from."""
    return f"kubernetes-{version}"


def is_built(version: str, cache: Path) -> bool:
    """Whether the cache has it."""
    return machine.tarball(slug(version), cache).exists()


def build(version: str, cache: Path, *, programs: Path, images: Path, progress: Say = say) -> Path:
    """Make the root file system unless the cache has just this one. Half a minute; needs root and a package archive."""
    target, wanted = machine.tarball(slug(version), cache), _key(programs, images)
    stamp = target.with_suffix(".key")
    if target.exists() and stamp.exists() and stamp.read_text().strip() == wanted:
        progress(f"image {slug(version)}: cached")
        return target
    base = machine.build(BASE, cache, progress)
    progress(f"image {slug(version)}: building")
    with tempfile.TemporaryDirectory(prefix=f"{slug(version)}-", dir=target.parent) as work:
        unfinished = Path(work) / "image.tar"
        archive, _ = machine.archives()
        only = Path(work) / "programs"
        only.mkdir()
        for program in sorted(path for path in programs.iterdir() if path.suffix != ".recipe"):
            os.link(program, only / program.name)
        command: list[str | Path] = ["unshare", *_NAMESPACES, "sh", HERE / "make-rootfs.sh"]
        command += [base, archive, only, images, work, unfinished]
        environment = {k: v for k, v in os.environ.items() if k not in {"TMPDIR", "PYTHONPATH"}}
        run(f"image {slug(version)}", command, cache / "logs" / "kubernetes-image.log", environment)
        stamp.unlink(missing_ok=True)
        unfinished.replace(target)
    stamp.write_text(wanted + "\n")
    progress(f"image {slug(version)}: {target.stat().st_size // 2**20} MB")
    return target


def _key(programs: Path, images: Path) -> str:
    """Changes when anything that the image is made of does."""
    digest = hashlib.sha256(machine.key(BASE).encode())
    for path in sorted(path for path in HERE.rglob("*") if path.is_file() and path.suffix not in {".pyc", ".py"}):
        digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes())
    for path in sorted([*programs.iterdir(), *images.iterdir()]):
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
