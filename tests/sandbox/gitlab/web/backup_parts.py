"""The parts of a backup, each under the name that `SKIP` and the archive have for it."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import database_dump
from .core.config import Config
from .core.repositories import ENVIRONMENT


class BackupError(Exception):
    """A backup or a restore has to stop; GitLab's words."""


@dataclass(frozen=True)
class Part:
    """Its name, what GitLab calls it, its place in the archive, and how to write and read it.

    What `restore` returns are errors that have stopped nothing.
    """

    name: str
    title: str
    file: str
    dump: Callable[[Config, Path], None]
    restore: Callable[[Config, Path], list[str]]


def dump_database(config: Config, target: Path) -> None:
    """Write the database as SQL.

    Raises:
        BackupError: the server does not let it be read.
    """
    target.mkdir(exist_ok=True)
    try:
        database_dump.write(config, target / "database.sql.gz")
    except database_dump.DumpError as error:
        raise BackupError(f"Dumping PostgreSQL database failed: {error}") from error


def restore_database(config: Config, source: Path) -> list[str]:
    """Remove all tables, then run the SQL; returns the errors of its statements.

    Raises:
        BackupError: there is no SQL, or it is damaged; the tables are gone by then.
    """
    file = source / "database.sql.gz"
    if not file.exists():
        raise BackupError(f"Source database file does not exist {file}")
    try:
        return database_dump.read(config, file)
    except (database_dump.DumpError, OSError, EOFError) as error:
        raise BackupError(f"[FAILED]\nRestore failed: {error}") from error


def dump_repositories(config: Config, target: Path) -> None:
    """Write a bundle of each repository that has commits."""
    target.mkdir(exist_ok=True)
    root = config.git_data / "repositories"
    for repository in sorted(root.glob("@hashed/*/*/*.git")):
        bundle = target / repository.relative_to(root).with_suffix(".bundle")
        bundle.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / "HEAD", bundle.with_suffix(".head"))
        if _git(repository, "for-each-ref", "--count=1").strip():
            _git(repository, "bundle", "create", "--quiet", str(bundle), "--all")


def restore_repositories(config: Config, source: Path) -> list[str]:
    """Make the repositories of a backup, and remove all others."""
    root = config.git_data / "repositories"
    for known in root.glob("@hashed/*/*/*.git"):
        shutil.rmtree(known)
    for head in sorted(source.glob("@hashed/*/*/*.head")):
        repository = (root / head.relative_to(source)).with_suffix(".git")
        repository.mkdir(parents=True)
        _git(repository, "init", "--quiet", "--bare", "--template=")
        shutil.copy(head, repository / "HEAD")
        bundle = head.with_suffix(".bundle")
        if bundle.exists():
            _git(repository, "fetch", "--quiet", "--update-head-ok", str(bundle), "+refs/*:refs/*")
    return []


def _git(repository: Path, *words: str) -> str:
    command = ["/usr/bin/git", "--git-dir", str(repository), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode != 0:
        raise BackupError(f"repository {repository.name}: {done.stderr.strip()}")
    return done.stdout


def _folder(
    of: Callable[[Config], Path],
) -> tuple[Callable[[Config, Path], None], Callable[[Config, Path], list[str]]]:
    """How to write and read the files of a folder. What is in object storage is no part of a backup."""

    def dump(config: Config, target: Path) -> None:
        folder = of(config)
        with tarfile.open(target, "w:gz") as archive:
            for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
                if path.is_file():
                    archive.add(path, path.relative_to(folder))

    def restore(config: Config, source: Path) -> list[str]:
        folder = of(config)
        for path in list(folder.rglob("*")):
            if path.is_file():
                path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        return []

    return dump, restore


def _jobs(config: Config) -> Path:
    return config.data / "jobs"


#: Those that this stand-in has data for, in GitLab's order.
PARTS = (
    Part("db", "database", "db", dump_database, restore_database),
    Part("repositories", "repositories", "repositories", dump_repositories, restore_repositories),
    Part("uploads", "uploads", "uploads.tar.gz", *_folder(lambda config: config.uploads_path)),
    Part("builds", "builds", "builds.tar.gz", *_folder(_jobs)),
    Part("artifacts", "artifacts", "artifacts.tar.gz", *_folder(lambda config: config.artifacts_path)),
    Part("registry", "container registry images", "registry.tar.gz", *_folder(lambda config: config.registry_path)),
)
