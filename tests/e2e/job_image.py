"""An image for jobs that has the tools, as one made by `tools/Dockerfile` has: Python, Pulumi, plugins, lock file.

That file's package registries cannot be reached from the cloud, so the tools are those of the workstation, in the same
places: an environment of Python contains absolute paths.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.sandbox.layout import current
from tools.clients import run
from tools.environment import ROOT, VENV

#: Has git and ssh.
_BASE = "docker.io/library/docker:29-cli"
_HERE = Path("/opt/slipway")
_TRUST = "/etc/ssl/certs/ca-certificates.crt"
#: What only tests of this project need, and the largest of it.
_UNUSED = {"selenium", "mypy", "mypyc", "debugpy", "ruff", "test", "idlelib", "coverage", "config-3.11", "supervisor"}


def build(name: str) -> None:
    """Make the image, under a name in the workstation's engine.

    It has one layer. An engine keeps an unpacked layer that several images share, but not its content, if the image
    that it came with is removed while the others are made; then none of them can be pushed.
    """
    container = run("docker", "create", _BASE, timeout=120).strip()
    try:
        with subprocess.Popen(["docker", "cp", "-", f"{container}:/"], stdin=subprocess.PIPE) as copy:
            assert copy.stdin is not None
            with tarfile.open(fileobj=copy.stdin, mode="w|") as archive:
                _fill(archive)
            copy.stdin.close()
        assert copy.returncode == 0
        changes = [f"--change=ENV {key}={value}" for key, value in _environment().items()]
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
            subprocess.run(["docker", "import", *changes, "-", name], stdin=export.stdout, check=True, timeout=300)
        assert export.returncode == 0
    finally:
        run("docker", "rm", "--force", container)


def _environment() -> dict[str, str]:
    """As the Dockerfile sets it, and what clients of a private certificate authority need."""
    engine = current().engine
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "SLIPWAY_TOOLS": str(_HERE),
        "PULUMI_HOME": str(_HERE / "pulumi-home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PATH": f"{engine / 'bin'}:{VENV / 'bin'}:{system}",
        **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"), _TRUST),
    }


def _fill(archive: tarfile.TarFile) -> None:
    for path in _python():
        _add(archive, path, without="site-packages")
    for folder in (VENV, current().engine / "bin", current().engine / "pulumi-home" / "plugins"):
        _add(archive, folder)
    listed = run(
        "git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "tests", "tools"
    )
    for name in (*listed.split("\0"), "pyproject.toml", "requirements-sandbox.txt"):
        if name and (ROOT / name).is_file():
            archive.add(ROOT / name)
    _link(archive, _HERE / "venv", VENV)
    _link(archive, _HERE / "pulumi-home" / "plugins", current().engine / "pulumi-home" / "plugins")
    archive.add(ROOT / "requirements-tools.txt", str(_HERE / "requirements-tools.txt"))


def _python() -> Iterator[Path]:
    """The interpreter behind the environment, with its library."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    yield from (prefix / "bin" / name for name in ("python", "python3", version) if (prefix / "bin" / name).exists())
    yield prefix / "lib" / version
    yield from (prefix / "lib").glob(f"lib{version}*.so*")


def _add(archive: tarfile.TarFile, path: Path, without: str = "") -> None:
    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = os.path.basename(member.name)  # noqa: PTH119 - of a member, and not of a file
        unused = name == without or "__mypyc" in name or any(name == x or name.startswith(f"{x}-") for x in _UNUSED)
        return None if unused else member

    archive.add(path, filter=wanted)


def _link(archive: tarfile.TarFile, name: Path, target: Path) -> None:
    entry = tarfile.TarInfo(str(name).lstrip("/"))
    entry.type, entry.linkname = tarfile.SYMTYPE, str(target)
    archive.addfile(entry, io.BytesIO())
