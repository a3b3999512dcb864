"""First process of a sandbox: prepares its mounts and networks, then becomes the process supervisor.

Runs as process 1 inside new namespaces. Its mounts are visible only inside the sandbox and vanish with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sandbox import layout as addresses
from tests.sandbox.cloud.supervision import configuration_file
from tests.sandbox.layout import Layout
from tests.sandbox.machines.network import prepare_cloud_network, prepare_workstation

HOSTNAME = "workstation"


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def prepare_mounts(layout: Layout) -> None:
    """An own `/run`, `/sys` and `/etc`; the latter shows the machine's files and keeps what is written apart."""
    _mount("-t", "tmpfs", "-o", "mode=755", "slipway-run", "/run")
    for folder in ("lock", "netns", layout.run.name):
        (Path("/run") / folder).mkdir(mode=0o755)
    layout.run.chmod(0o700)
    # /sys shows the links of the network namespace that mounted it: without a fresh one, the machine's own.
    _mount("--rbind", "/sys/fs/cgroup", str(groups := _folder(layout.run / "cgroup")))
    _mount("-t", "sysfs", "slipway-sys", "/sys")
    _mount("--rbind", str(groups), "/sys/fs/cgroup")
    subprocess.run(["umount", "--recursive", str(groups)], check=True)
    etc = layout.run / "etc"
    upper, work = etc / "upper", etc / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    shutil.copymode("/etc", upper)
    _mount("-t", "overlay", "-o", f"lowerdir=/etc,upperdir={upper},workdir={work}", "slipway-etc", "/etc")
    # A Docker engine puts a key of its own beside this file; the machine's engine may have settings in it.
    for stale in (Path("/etc/docker/daemon.json"), Path("/etc/docker/key.json")):
        stale.unlink(missing_ok=True)
    shutil.rmtree("/etc/docker/certs.d", ignore_errors=True)
    _replace("/etc/resolv.conf", f"nameserver {addresses.DNS_ADDRESS}\noptions timeout:2 attempts:3\n")
    _replace("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {HOSTNAME}\n")
    _replace("/etc/hostname", f"{HOSTNAME}\n")
    _mount("--bind", str(layout.state / "trust"), "/etc/ssl/certs")
    subprocess.run(["hostname", HOSTNAME], check=True)


def _replace(path: str, content: str) -> None:
    # Some of these are links to files of other programs: the link goes, not the file behind it.
    Path(path).unlink(missing_ok=True)
    Path(path).write_text(content)


def main() -> None:
    """Prepare, then hand over to the supervisor for good."""
    layout = addresses.current()
    prepare_mounts(layout)
    prepare_cloud_network()
    prepare_workstation()
    supervisor = Path(sys.executable).with_name("supervisord")
    arguments = [str(supervisor), "--nodaemon", "--configuration", str(configuration_file(layout))]
    os.execv(supervisor, arguments)  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main()
