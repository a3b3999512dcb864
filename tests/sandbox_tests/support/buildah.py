"""The real Buildah and a registry without access control on this machine: where jobs of a pipeline run in tests."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from tests.sandbox.layout import current
from tests.sandbox_tests.support.ports import free_port
from tests.sandbox_tests.support.registry_service import distribution
from tests.sandbox_tests.support.waiting import eventually

#: These two do not read that a registry has no TLS.
SHIM = """#!/bin/sh
case "$1 $2" in
  "manifest create" | "manifest push") command=$2 && shift 2 && exec {0} manifest "$command" --tls-verify=false "$@" ;;
  *) exec {0} "$@" ;;
esac
"""


class Workshop:
    """Runs scripts of jobs with Buildah. `registry` is the registry's API, and `host` its name."""

    def __init__(self, folder: Path, port: int, registry: httpx.Client) -> None:
        self.folder, self.registry, self.host = folder, registry, f"127.0.0.1:{port}"
        for name in ("netavark", "aardvark-dns"):
            # Builds have the network of this machine.
            (folder / name).symlink_to("/bin/true")
        self.write("buildah", SHIM.format(current().cache / "containers/buildah"))
        (folder / "buildah").chmod(0o755)
        self.write("home/.config/containers/policy.json", json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        asked: list[str | Path] = ["stat", "--file-system", "--format=%T", folder]
        kind = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        # Quick, but not on top of another one.
        self._driver = "vfs" if kind == "overlayfs" else "overlay"
        # This machine may not let anyone raise a limit.
        files = "{}:{}".format(*resource.getrlimit(resource.RLIMIT_NOFILE))
        processes = "{}:{}".format(*resource.getrlimit(resource.RLIMIT_NPROC))
        limits = f'[containers]\ndefault_ulimits = ["nofile={files}", "nproc={processes}"]\n'
        self.write("containers.conf", f'{limits}[engine]\nhelper_binaries_dir = ["{folder}"]\n')
        mirror = f'[[registry]]\nprefix = "docker.io/library"\nlocation = "{self.host}/library"\ninsecure = true\n'
        own = f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n'
        short = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "permissive"\n'
        self.write("registries.conf", short + own + mirror)

    def run(self, script: list[str], project: Path, store: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script of a job in the folder of its project. Jobs with the same `store` share images."""
        place = self.folder / store
        self.write(
            f"{store}.conf", f'[storage]\ndriver = "{self._driver}"\ngraphroot = "{place}"\nrunroot = "{place}-run"\n'
        )
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_FORMAT": "docker",
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "CONTAINERS_STORAGE_CONF": f"{place}.conf",
            **variables,
        }
        command = ["sh", "-c", "\n".join(["set -e", *script])]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    def write(self, name: str, content: str) -> None:
        """Write a file below the folder of the workshop."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@contextmanager
def workshop(folder: Path) -> Iterator[Workshop]:
    """A workshop whose registry runs until the end of the block. Nothing in its folder is mounted afterwards."""
    port = free_port()
    settings = {"version": 0.1, "http": {"addr": f"127.0.0.1:{port}"}}
    settings["storage"] = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    (folder / "registry.yml").write_text(yaml.safe_dump(settings))
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    command = [str(distribution()), "serve", str(folder / "registry.yml")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _answers(port), 20)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/v2/") as registry:
                yield Workshop(folder, port, registry)
        finally:
            process.terminate()
            _unmount(folder.resolve())


def _unmount(folder: Path) -> None:
    """Unmount what Buildah's storage has left in a folder, which could not be deleted otherwise."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for place in reversed([Path(line.split()[4]) for line in lines]):
        if place.is_relative_to(folder):
            subprocess.run(["umount", place], check=True)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/").is_success
    except httpx.TransportError:
        return False
