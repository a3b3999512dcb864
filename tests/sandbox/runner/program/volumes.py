"""Volumes of job containers, and where their content is on the host."""

from __future__ import annotations

import hashlib
from pathlib import Path

import docker
import docker.errors

from .configuration import Table

BUILDS, CACHE = "/builds", "/cache"


class Volumes:
    """What `[runners.docker] volumes` asks for, for one slot of one project.

    An entry without a host's part becomes a volume that keeps its content for later jobs of the same project in the
    same slot; job and services of one job share it. The folder of builds is such a volume unless an entry holds it.
    Jobs of protected refs have volumes of their own, so that no other job can leave anything for them there.
    """

    def __init__(
        self, engine: docker.DockerClient, runner: Table, prefix: str, labels: dict[str, str], *, protected: bool
    ) -> None:
        self._engine, self._prefix, self._labels, self._protected = engine, prefix, labels, protected
        settings: Table = runner.get("docker", {})
        self.builds_folder = str(runner.get("builds_dir") or BUILDS)
        self.caches_folder = str(runner.get("cache_dir") or CACHE)
        entries = [str(entry) for entry in settings.get("volumes", [])]
        if not any(_inside(entry) == self.builds_folder for entry in entries):
            entries.append(self.builds_folder)
        if settings.get("disable_cache"):
            entries = [entry for entry in entries if ":" in entry or entry == self.builds_folder]
        self.binds = [self._bind(entry) for entry in entries]
        self._sources = {bind.split(":")[1]: bind.split(":")[0] for bind in self.binds}

    def host_folder(self, path: str) -> Path | None:
        """Where the content of a container's folder is on this host; None when it is in no volume."""
        source = self._sources.get(path)
        if source is None or source.startswith("/"):
            return Path(source) if source else None
        mountpoint = self._engine.api.inspect_volume(source)["Mountpoint"]
        return Path(mountpoint)

    def _bind(self, entry: str) -> str:
        if ":" in entry:
            source = entry.partition(":")[0]
            if not source.startswith("/"):
                self._engine.api.create_volume(source)
            return entry
        name = f"{self._prefix}-cache-{hashlib.md5(entry.encode(), usedforsecurity=False).hexdigest()}"
        name += "-protected" if self._protected else ""
        about = {"destination": entry, "protected": str(self._protected).lower(), "reusable": "true", "type": "cache"}
        labels = {f"com.gitlab.gitlab-runner.{key}": value for key, value in about.items()}
        self._engine.api.create_volume(name, labels=self._labels | labels)
        return f"{name}:{entry}:rw"


def prefix_of(token: str, system_id: str, project_id: int, slot: int) -> str:
    """What names of volumes begin with (`ProjectRealUniqueName` in the runner's `common/build.go`)."""
    whole = f"{token}-{system_id}-{project_id}-{slot}"
    return f"runner-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def _inside(entry: str) -> str:
    parts = entry.split(":")
    return parts[0] if len(parts) == 1 else parts[1]
