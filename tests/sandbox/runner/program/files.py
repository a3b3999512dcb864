"""The files of a job: sources, file variables, caches and artifacts, where the job's build folder is at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .archives import download_artifacts, restore_caches, save_caches, upload_artifacts
from .configuration import Table
from .coordinator import Coordinator
from .payload import Payload, Variables
from .sources import get_sources, inside

JOB_CLEANUP = "FF_ENABLE_JOB_CLEANUP"


@dataclass(frozen=True)
class Work:
    """One job, for those who handle its files. `say` writes a line into its log."""

    runner: Table
    coordinator: Coordinator
    payload: Payload
    variables: Variables
    say: Callable[[str], None]


class Files(Protocol):
    """What is done with a job's files before and after its scripts. Errors are those of `sources` and `archives`."""

    @property
    def has_caches(self) -> bool:
        """Whether there is anywhere to keep caches."""

    def get_sources(self) -> None:
        """The job's commit, and its variables of kind `file`."""

    def restore_caches(self) -> None:
        """What an earlier job left under the same key."""

    def download_artifacts(self) -> None:
        """What earlier jobs of the pipeline made."""

    def save_caches(self, *, success: bool) -> None:
        """What the job's `cache:` names."""

    def upload_artifacts(self, *, success: bool) -> None:
        """What the job's `artifacts:` name."""

    def clean_up(self) -> None:
        """Nothing that later jobs may not see."""


class HostFiles:
    """Files in folders of this host, or of the container that this runs in."""

    def __init__(self, work: Work, builds: Path, caches: Path | None) -> None:
        self._work, self._builds, self._caches = work, builds, caches
        self._folder = inside(builds, work.payload.project)

    @property
    def has_caches(self) -> bool:
        """Whether a volume holds the folder of caches."""
        return self._caches is not None

    def get_sources(self) -> None:
        """Clone, then write the variables of kind `file`."""
        work = self._work
        get_sources(work.payload, work.variables, self._folder, work.coordinator.tls_ca_file, work.say)
        values = work.variables.file_values()
        if not values:
            return
        folder = inside(self._builds, f"{work.payload.project}.tmp")
        folder.mkdir(mode=0o777, parents=True, exist_ok=True)
        for name, value in values.items():
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_text(value)
            (folder / name).chmod(0o666)

    def restore_caches(self) -> None:
        """From the folder of caches, if there is one."""
        work = self._work
        if self._caches:
            restore_caches(work.payload, work.variables, self._folder, self._caches, work.say)

    def download_artifacts(self) -> None:
        """From the server."""
        download_artifacts(self._work.coordinator, self._work.payload, self._folder, self._work.say)

    def save_caches(self, *, success: bool) -> None:
        """Into the folder of caches, if there is one."""
        work = self._work
        if self._caches:
            save_caches(work.payload, work.variables, self._folder, self._caches, work.say, success=success)

    def upload_artifacts(self, *, success: bool) -> None:
        """To the server."""
        work = self._work
        upload_artifacts(work.coordinator, work.payload, work.variables, self._folder, work.say, success=success)

    def clean_up(self) -> None:
        """Remove variables of kind `file`; with the feature flag also what the job leaves in the project's folder.

        The real runner keeps what git knows; the clone is new for every job here.
        """
        folder = inside(self._builds, f"{self._work.payload.project}.tmp")
        for name in self._work.variables.file_values():
            (folder / name).unlink(missing_ok=True)
        flags = self._work.runner.get("feature_flags") or {}
        if self._work.variables.flag(JOB_CLEANUP) or flags.get(JOB_CLEANUP):
            shutil.rmtree(self._folder, ignore_errors=True)
