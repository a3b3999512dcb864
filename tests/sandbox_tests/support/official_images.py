"""Images of Docker Hub that only tests use: pushed to a registry of the test, or offered to sandboxes.

Programs are those of the sandbox's package mirror and of its tools, on the base of the hub's own images. Their tags are
what the programs report: an image called `nginx:1.26` holds nginx 1.26, and there is no other.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from functools import partial
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from tests.sandbox.cloud.tools.golang import find_go
from tests.sandbox.hub.build import IMAGES, add, blob, layers
from tests.sandbox.hub.registry import tags
from tests.sandbox.layout import current
from tests.sandbox_tests.support.packages import unpacked

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
#: Where an image of Python has wheels.
WHEELS = "usr/share/python-wheels"
SUFFIXES = {"python": "-slim", "golang": "", "nginx": ""}
PIP = """#!/bin/sh
exec python -m pip "$@"
"""
SERVER = """server {
    listen 80;
    location / {
        root /usr/share/nginx/html;
        index index.html;
    }
}
"""


def provide(registry: httpx.Client, name: str, work: Path) -> str:
    """Push `library/NAME` with its tag to a registry; returns the tag."""
    tree = work / name
    tree.mkdir()
    version = _TREES[name](tree)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tree, ".")
    base = layers(current().cache)["base"]
    own = content.getvalue()
    repository, tag = f"library/{name}", f"{version}{SUFFIXES[name]}"
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": IMAGES[name][1],
        "rootfs": {"type": "layers", "diff_ids": [base.diff_id, _digest(own)]},
        "history": [{"created_by": "slipway sandbox"}] * 2,
    }
    parts = [push_blob(registry, repository, blob(current().cache, base.digest).read_bytes(), f"{LAYER}.gzip")]
    parts.append(push_blob(registry, repository, own, LAYER))
    config = push_blob(registry, repository, httpx.Request("POST", "/", json=described).content, CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": parts}
    headers = {"Content-Type": MANIFEST}
    registry.put(f"{repository}/manifests/{tag}", json=manifest, headers=headers).raise_for_status()
    return tag


def offer_images() -> None:
    """Let sandboxes that start from now on have these images. That of Python has pytest, for lack of an index."""
    for name, fill in _TREES.items():
        with tempfile.TemporaryDirectory() as work:
            tree = Path(work, name)
            tree.mkdir()
            tag = f"{fill(tree)}{SUFFIXES[name]}"
            assert tag in tags()[f"library/{name}"], tag
            if name == "python":
                (tree / WHEELS).mkdir(parents=True)
                wheels(tree / WHEELS, "pytest", "pluggy", "iniconfig", "packaging", "Pygments")
            add(current().cache, name, f"{tag} {Path(__file__).read_text()}", partial(_add_tree, tree))


def _add_tree(tree: Path, archive: tarfile.TarFile) -> None:
    archive.add(tree, ".")


def _python(tree: Path) -> str:
    for package in ("libpython3.13-minimal", "libpython3.13-stdlib", "python3.13-minimal", "python3.13", "libexpat1"):
        _add_package(tree, package)
    # As in the official image: pip may install into it.
    (tree / "usr/lib/python3.13/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    local = tree / "usr/local"
    pip = find_spec("pip")
    assert pip is not None
    shutil.copytree(Path(str(pip.origin)).parent, local / "lib/python3.13/dist-packages/pip", symlinks=True)
    (local / "bin").mkdir()
    for link in ("python", "python3"):
        (local / "bin" / link).symlink_to("/usr/bin/python3.13")
    (local / "bin/pip").write_text(PIP)
    (local / "bin/pip").chmod(0o755)
    # It may need a newer C library than this machine has; its name is its version.
    [program] = (tree / "usr/bin").glob("python3.[0-9]*[0-9]")
    return _version(program.name)


def _nginx(tree: Path) -> str:
    for package in ("nginx-common", "nginx"):
        _add_package(tree, package)
    (tree / "etc/nginx/sites-enabled/default").unlink(missing_ok=True)
    (tree / "etc/nginx/conf.d").mkdir(exist_ok=True)
    (tree / "etc/nginx/conf.d/default.conf").write_text(SERVER)
    (tree / "usr/share/nginx/html").mkdir(parents=True, exist_ok=True)
    # It is linked with libraries of Debian's, which this machine may lack.
    [version] = re.findall(rb"nginx/(\d+\.\d+\.\d+)", (tree / "usr/sbin/nginx").read_bytes())[:1]
    return _version(version.decode())


def _golang(tree: Path) -> str:
    root = Path(
        subprocess.run(
            [find_go(current().cache), "env", "GOROOT"], cwd="/", capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    target = tree / "usr/local/go"
    target.mkdir(parents=True)
    for part in ("bin", "pkg", "src", "lib"):
        # Programs of the distribution that are built on demand, and tests of its packages.
        shutil.copytree(
            root / part, target / part, symlinks=True, ignore=shutil.ignore_patterns("testdata", "*_test.go")
        )
    for file in ("VERSION", "go.env"):
        shutil.copy2(root / file, target)
    (tree / "go/bin").mkdir(parents=True)
    return _version((root / "VERSION").read_text())


_TREES = {"python": _python, "nginx": _nginx, "golang": _golang}


def _add_package(tree: Path, package: str) -> None:
    # A library of the base may be the target of a link in it: what is there stays.
    shutil.copytree(unpacked(package), tree, symlinks=True, dirs_exist_ok=True)


def _version(text: str) -> str:
    found = re.search(r"\d+\.\d+", text)
    assert found, text
    return found[0]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push_blob(registry: httpx.Client, repository: str, content: bytes, media_type: str) -> dict[str, Any]:
    place = registry.post(f"{repository}/blobs/uploads/").raise_for_status().headers["location"]
    url = httpx.URL(place).copy_merge_params({"digest": _digest(content)})
    registry.put(url, content=content, timeout=60).raise_for_status()
    return {"mediaType": media_type, "size": len(content), "digest": _digest(content)}


def wheels(folder: Path, *names: str) -> None:
    """Write wheels of packages that this Python has: what a package index would give."""
    for name in names:
        found = distribution(name)
        file = folder / f"{name.lower()}-{found.version}-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as archive:
            for path in found.files or []:
                if ".." not in path.parts and "__pycache__" not in path.parts:
                    archive.write(str(found.locate_file(path)), str(path))
