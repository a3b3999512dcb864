"""The images of GitLab Runner and of its helper, with the stand-in in them.

Only a runner on Kubernetes pulls them, so they are made when somebody asks, and not with the other images.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.sandbox import versions
from tests.sandbox.hub.build import NAMESPACES, add, add_tree, blob, folder, layers
from tests.sandbox.machines.image.build import archives
from tests.sandbox.runner.build import HERE as _RUNNER
from tools.progress import Say, run, say

_HERE: Final = Path(__file__).parent / "runner_image"
#: The layer with Python and libraries; the programs of each version are a layer above it.
RUNTIME: Final = "gitlab-runner"
_HOME: Final = "usr/lib/gitlab-runner"
_HELPER: Final = """#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/gitlab-runner")

from gitlab_runner.helper import main

main()
"""


def program_layer(version: str) -> str:
    """The name of the layer with the programs of a version, such as `19.3.0`."""
    return f"{RUNTIME}-{version}"


def build(cache: Path, progress: Say = say) -> None:
    """Have the layers of both images. Needs those of the other images, root, and a package archive."""
    _runtime(cache, progress)
    files = _program()
    for package in versions.GITLAB_RUNNERS:
        version = package.partition("-")[0]
        made = {**files, f"{_HOME}/gitlab_runner/VERSION": (f"{version}\n".encode(), 0o644)}
        digest = hashlib.sha256(repr(sorted(made.items())).encode()).hexdigest()[:12]
        add(cache, program_layer(version), digest, lambda archive, made=made: _fill(archive, made))  # type: ignore[misc]


def _runtime(cache: Path, progress: Say) -> None:
    base = layers(cache)["base"]
    digest = hashlib.sha256(base.digest.encode())
    for path in sorted(_HERE.iterdir()):
        digest.update(path.read_bytes())
    recipe = digest.hexdigest()[:12]
    stamp = folder(cache) / f"{RUNTIME}.key"
    known = layers(cache).get(RUNTIME)
    if known and blob(cache, known.digest).exists() and stamp.exists() and stamp.read_text() == recipe:
        progress("docker hub: the images of gitlab-runner are cached")
        return
    progress("docker hub: building the images gitlab-runner and gitlab-runner-helper")
    archive, security = archives()
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder(cache)) as work:
        script: list[str | Path] = [
            "unshare",
            *NAMESPACES,
            "sh",
            _HERE / "make-layer.sh",
            archive,
            security,
            blob(cache, base.digest),
            _HERE / "install.sh",
            Path(work),
        ]
        environment = {key: value for key, value in os.environ.items() if key not in {"TMPDIR", "PYTHONPATH"}}
        run("docker hub: gitlab-runner", script, cache / "logs" / "hub-runner.log", environment)
        add_tree(cache, RUNTIME, recipe, Path(work) / "layer")


def _program() -> dict[str, tuple[bytes, int]]:
    """The files of the programs: content and mode by path."""
    found = {
        f"{_HOME}/gitlab_runner/{path.relative_to(_RUNNER / 'program')}": (path.read_bytes(), 0o644)
        for path in sorted((_RUNNER / "program").rglob("*.py"))
    }
    found["usr/bin/gitlab-runner"] = ((_RUNNER / "package/usr/bin/gitlab-runner").read_bytes(), 0o755)
    found["usr/bin/gitlab-runner-helper"] = (_HELPER.encode(), 0o755)
    return found


def _fill(archive: tarfile.TarFile, files: dict[str, tuple[bytes, int]]) -> None:
    for name, (content, mode) in sorted(files.items()):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), mode
        archive.addfile(entry, io.BytesIO(content))
