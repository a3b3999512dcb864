"""Builds and loads the root file systems of machines.

`build` creates a tarball that is the same for every sandbox; it is cached under a hash of its inputs. `load` imports it
into a machine engine and adds what belongs to one sandbox only: its authority and the key of its mirror. Package
archives are those that the host's own apt uses; none is named here.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import docker.errors
import jinja2

from tests.sandbox.layout import MIRROR_HOST, current

#: Image slugs of the API and the Debian suites they stand for.
SUITES = {"debian-12-x64": "bookworm", "debian-13-x64": "trixie"}
#: Where a machine finds the key of the package mirror.
MIRROR_KEYRING = "/usr/share/keyrings/digitalocean-mirror.gpg"

_HERE = Path(__file__).parent
_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child")

Say = Callable[[str], None]


class ImageError(Exception):
    """An image cannot be made here; the message says what is missing."""


def say(line: str) -> None:
    """Print one line of progress immediately."""
    print(line, flush=True)


def key(slug: str) -> str:
    """A short name of everything the image is made of: changes when a file of the definition does."""
    digest = hashlib.sha256(_suite(slug).encode())
    for path in sorted(p for p in _HERE.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        if path.name not in {"__init__.py", "build.py", "Dockerfile"}:
            digest.update(str(path.relative_to(_HERE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def tarball(slug: str, cache: Path) -> Path:
    """Where the root filesystem is kept; `<slug>.key` beside it says what it was made of."""
    return cache / "images" / f"{slug}.tar"


def build(slug: str, cache: Path, progress: Say = say) -> Path:
    """Make the root filesystem of `slug` unless the cache has it, and return its tarball.

    Needs root, debootstrap and a package archive; takes about a minute on two cores. A build that is stopped leaves
    nothing mounted and nothing that would be taken for a finished image.
    """
    target, wanted = tarball(slug, cache), key(slug)
    stamp = target.with_suffix(".key")
    if target.exists() and stamp.exists() and stamp.read_text().strip() == wanted:
        progress(f"image {slug}: cached")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    progress(f"image {slug}: building")
    with tempfile.TemporaryDirectory(prefix=f"{slug}-", dir=target.parent) as work:
        unfinished = Path(work) / "image.tar"
        for line in _make(slug, Path(work), unfinished):
            progress(f"image {slug}: {line}")
        stamp.unlink(missing_ok=True)
        unfinished.replace(target)
    stamp.write_text(wanted + "\n")
    progress(f"image {slug}: {target.stat().st_size // 2**20} MB")
    return target


def load(
    engine: docker.DockerClient,
    slug: str,
    *,
    cache: Path,
    ca_certificate: Path,
    mirror_keyring: Path,
    progress: Say = say,
) -> str:
    """Give the engine the image of `slug` with one sandbox's trust in it, and return its name.

    Does nothing when the engine has just this one. The tarball must exist (`build`).
    """
    base, name = f"slipway/base-{slug}:{_built(slug, cache)}", image_name(slug)
    trust = hashlib.sha256(base.encode() + ca_certificate.read_bytes() + mirror_keyring.read_bytes()).hexdigest()
    if _label(engine, name) == trust:
        progress(f"image {slug}: already loaded")
        return name
    if not engine.images.list(name=base):
        progress(f"image {slug}: importing")
        repository, _, tag = base.partition(":")
        engine.api.import_image_from_file(str(tarball(slug, cache)), repository=repository, tag=tag)
    progress(f"image {slug}: adding this sandbox's certificates")
    context = _context(ca_certificate, mirror_keyring)
    engine.images.build(
        fileobj=context,
        custom_context=True,
        tag=name,
        buildargs={"BASE": base},
        labels={"slipway.trust": trust},
        network_mode="none",
        rm=True,
        forcerm=True,
    )
    return name


def image_name(slug: str) -> str:
    """The engine's name of a loaded image."""
    return f"slipway/{slug}:latest"


def _built(slug: str, cache: Path) -> str:
    """What the tarball in the cache was made of."""
    try:
        return tarball(slug, cache).with_suffix(".key").read_text().strip()
    except FileNotFoundError:
        raise ImageError(f"image {slug} has not been built") from None


def _suite(slug: str) -> str:
    try:
        return SUITES[slug]
    except KeyError:
        raise ImageError(f"there is no image {slug!r}; there are {', '.join(SUITES)}") from None


def archives() -> tuple[str, str]:
    """The Debian archive and its security archive, as the host's apt knows them."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages", "Origin: Debian"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, str] = {}
    for line in listing.splitlines():
        label, _, uri = line.partition(" ")
        found[label] = uri
    if "Debian" not in found:
        raise ImageError("apt on this machine has no Debian archive: run `apt-get update`, then `apt-get indextargets`")
    return found["Debian"], found.get("Debian-Security", found["Debian"].rstrip("/") + "-security")


def _make(slug: str, work: Path, target: Path) -> Iterator[str]:
    archive, security = archives()
    sources = work / "debian.sources"
    template = jinja2.Template((_HERE / "debian.sources.j2").read_text(), keep_trailing_newline=True)
    sources.write_text(template.render(mirror_host=MIRROR_HOST, suite=_suite(slug), keyring=MIRROR_KEYRING))
    script = _HERE / "make-rootfs.sh"
    command = ["unshare", *_NAMESPACES, "sh", str(script), _suite(slug), archive, security, sources, work, target]
    # A temporary directory of the caller must not leak into the new root.
    environment = {k: v for k, v in os.environ.items() if k not in {"TMPDIR", "PYTHONPATH"}}
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line.rstrip() or last
            if last:
                yield last
    if process.returncode:
        raise ImageError(f"building {slug} failed ({process.returncode}): {last}")


def _label(engine: docker.DockerClient, name: str) -> str:
    try:
        return str(engine.images.get(name).labels.get("slipway.trust", ""))
    except docker.errors.ImageNotFound:
        return ""


def _context(ca_certificate: Path, mirror_keyring: Path) -> io.BytesIO:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(_HERE / "Dockerfile", "Dockerfile")
        archive.add(ca_certificate, "sandbox-ca.crt")
        archive.add(mirror_keyring, "mirror.gpg")
    context.seek(0)
    return context


if __name__ == "__main__":
    for wanted_slug in sys.argv[1:] or SUITES:
        build(wanted_slug, current().cache)
