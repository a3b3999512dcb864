"""Commands from Debian packages, installed where they are missing.

Nothing that is there is changed. Nothing that is installed here is started: the sandbox runs its own copies, in its own
namespaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.progress import Say, ToolError, run, say

#: What a sandbox needs, and what only its tests need.
SANDBOX = Path(__file__).with_name("debian-packages.txt")
TESTS = Path(__file__).with_name("debian-packages-tests.txt")
#: Asked by Debian's package scripts before they start a service; 101 means "do not".
POLICY = Path("/usr/sbin/policy-rc.d")
_OURS = Path(__file__).with_name("policy-rc.d").read_text()
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing(*lists: Path) -> list[str]:
    """Packages of the lists whose command or file is not on this machine."""
    lines = [line for one in lists for line in one.read_text().splitlines()]
    wanted = [line.split() for line in lines if line and not line.startswith("#")]
    return sorted({package for what, package in wanted if not _there(what)})


def install(cache: Path, progress: Say = say, *, tests: bool = False) -> None:
    """Have all packages of the list, those of tests as well if asked for, and the archive's own lists to find others.

    Raises:
        ToolError: it cannot be done; says what to do by hand.
    """
    if shutil.which("apt-get") is None:
        raise ToolError(
            "the sandbox needs Debian or another system with apt; only a real account (STACK=…) works without it"
        )
    wanted = (SANDBOX, TESTS) if tests else (SANDBOX,)
    packages = missing(*wanted)
    log = cache / "logs" / "apt.log"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    if packages or not _has_lists():
        progress("apt: package lists")
        run("apt: package lists", ["apt-get", "-q", "update"], log, environment)
    if not packages:
        progress("apt: everything is installed")
        return
    if os.geteuid() != 0:
        raise ToolError(f"these packages are missing: run this as root, or install them: {' '.join(packages)}")
    progress(f"apt: installing {' '.join(packages)}")
    with nothing_starts():
        command = ["apt-get", "-q", "install", "--yes", "--no-install-recommends", *packages]
        run("apt: packages", command, log, environment)
    if "docker.io" in packages:
        _keep_docker_off()
    still = missing(*wanted)
    if still:
        raise ToolError(f"the packages are installed, but these commands are missing: {' '.join(still)}; see {log}")


@contextlib.contextmanager
def nothing_starts(policy: Path = POLICY) -> Iterator[None]:
    """While this lasts, packages do not start their services. A policy that the machine has is left alone."""
    if policy.exists() and policy.read_text() != _OURS:
        yield
        return
    policy.write_text(_OURS)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _keep_docker_off() -> None:
    """A Docker engine that came only for the sandbox does not start with the machine either."""
    if shutil.which("systemctl"):
        units = ["docker.service", "docker.socket", "containerd.service"]
        subprocess.run(["systemctl", "--quiet", "disable", *units], check=False, capture_output=True)


def _there(what: str) -> bool:
    return Path(what).exists() if what.startswith("/") else shutil.which(what, path=_PATH) is not None


def _has_lists() -> bool:
    asked = ["apt-get", "indextargets", "--format", "$(RELEASE)", "Created-By: Packages", "Origin: Debian"]
    return bool(subprocess.run(asked, check=False, capture_output=True, text=True).stdout.strip())
