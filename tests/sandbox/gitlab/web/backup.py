"""`gitlab-rake gitlab:backup:create`, `:restore` and `:verify`: the archive, its names, and what GitLab says meanwhile.

Arguments are pairs such as `SKIP=registry`; what is not among them is looked up in the environment, as by rake. The
archive holds what is on this machine and in GitLab's own database: no file of /etc/gitlab, no host key, no image in
object storage, and no metadata database of the registry, which is included only with credentials that the package gets
from keys this stand-in lacks. (GitLab 19, lib/backup, and the documentation of backups.)
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from .backup_parts import PARTS, BackupError, Part
from .core import db
from .core.config import Config

SUFFIX = "_gitlab_backup.tar"
MANIFEST = "backup_information.yml"
#: Names that `backup_keep_time` covers. Others, such as those of `BACKUP=…`, are never removed.
_OWN_NAME = re.compile(r"(\d{10})(?:_\d{4}_\d{2}_\d{2}(_\d+\.\d+\.\d+((-|\.)(pre|rc\d))?(-ee)?)?)?_gitlab_backup\.tar")
#: A restore needs this many times the archive's size in the backup directory.
_SPACE = 3
_BEFORE_DATABASE = """\
Be sure to stop Puma, Sidekiq, and any other process that
connects to the database before proceeding. For Omnibus
installs, see the following link for more information:
https://docs.gitlab.com/administration/backup_restore/restore_gitlab/#restore-for-linux-package-installations

Before restoring the database, we will remove all existing
tables to avoid future upgrade problems. Be aware that if you have
custom tables in the GitLab database these tables and all data will be
removed.
"""

_AFTER_ERRORS = """\
There were errors in restoring the schema. This may cause
issues if this results in missing indexes, constraints, or
columns. Please record the errors above and contact GitLab
Support if you have questions:
https://about.gitlab.com/support/
"""


def log(text: str) -> None:
    """A line with its time, as GitLab's logger writes it."""
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S UTC} -- {text}", flush=True)


@dataclass(frozen=True)
class Manager:
    """One run: where things are, and the options that it was given."""

    config: Config
    options: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The backup directory."""
        return self.config.backup_path

    def option(self, name: str) -> str:
        """The value of an option; empty if it is not given."""
        return self.options.get(name, "")

    def skips(self, part: str) -> bool:
        """Whether `SKIP` names a part."""
        return part in self.option("SKIP").split(",")

    def create(self) -> int:
        """Make an archive; 0 if all of it is complete."""
        backup_id = self.option("BACKUP") or f"{time.time():.0f}_{datetime.now(UTC):%Y_%m_%d}_{self.config.version}"
        results = [self._dump(part) for part in PARTS]
        information = {
            ":backup_id": backup_id,
            ":backup_created_at": datetime.now(UTC),
            ":db_version": _schema(self.config),
            ":gitlab_version": self.config.version,
            ":installation_type": "omnibus-gitlab",
            ":skipped": self.option("SKIP"),
        }
        (self.path / MANIFEST).write_text(yaml.safe_dump(information))
        try:
            if not self.skips("tar"):
                self._pack(f"{backup_id}{SUFFIX}")
                log("Uploading backup archive to remote storage  ... [SKIPPED]")
                self._remove_old()
        finally:
            self._clean()
        log(
            "Warning: Your gitlab.rb and gitlab-secrets.json files contain sensitive data \nand are not included in "
            "this backup. You will need these files to restore a backup.\nPlease back them up manually."
        )
        log(f"Backup {backup_id} is done.")
        return 0 if all(results) else 1

    def restore(self) -> int:
        """Put the content of an archive in the place of what is there.

        Raises:
            BackupError: it was refused, or went wrong half way.
        """
        try:
            information = self._unpack(check_space=True)
            self._require_same_version(information)
            for part in PARTS:
                if not self.skips(part.name) and (self.path / part.file).exists():
                    self._restore(part)
        finally:
            self._clean()
        log(
            "Warning: Your gitlab.rb and gitlab-secrets.json files contain sensitive data \nand are not included in "
            "this backup. You will need to restore these files manually."
        )
        log("Restore task is done.")
        return 0

    def verify(self) -> int:
        """Say whether an archive is of the version that is installed.

        Raises:
            BackupError: it is not, or there is none.
        """
        try:
            self._require_same_version(self._unpack(check_space=False))
        finally:
            self._clean()
        log(
            f"GitLab version matches:\n  Your current GitLab version ({self.config.version}) matches the GitLab "
            "version in the backup."
        )
        return 0

    def _dump(self, part: Part) -> bool:
        if self.skips(part.name):
            log(f"Dumping {part.title} ... [SKIPPED]")
            return True
        log(f"Dumping {part.title} ... ")
        try:
            part.dump(self.config, self.path / part.file)
        except (BackupError, OSError, *db.errors()) as error:  # type: ignore[misc]
            log(f"Dumping {part.title} failed: {error}")
            return False
        log(f"Dumping {part.title} ... done")
        return True

    def _restore(self, part: Part) -> None:
        log(f"Restoring {part.title} ... ")
        if part.name == "db":
            log(_BEFORE_DATABASE)
            self._ask()
        errors = part.restore(self.config, self.path / part.file)
        log(f"Restoring {part.title} ... done")
        if errors:
            log("\n".join(("------ BEGIN ERRORS -----", *errors, "------ END ERRORS -------")))
            log(_AFTER_ERRORS)
            self._ask()

    def _ask(self) -> None:
        if self.option("GITLAB_ASSUME_YES") == "1" or self.option("force") == "yes":
            return
        print("Do you want to continue (yes/no)? ", end="", flush=True)
        if sys.stdin.readline().strip() != "yes":
            raise BackupError("Quitting...")

    def _pack(self, name: str) -> None:
        log(f"Creating backup archive: {name} ... ")
        contents = [MANIFEST, *(part.file for part in PARTS if (self.path / part.file).exists())]
        target = self.path / name
        target.touch(mode=0o600)
        subprocess.run(["tar", "-cf", target, "-C", self.path, *contents], check=True)
        log(f"Creating backup archive: {name} ... done")

    def _remove_old(self) -> None:
        if self.config.backup_keep_time <= 0:
            log("Deleting old backups ... [SKIPPED]")
            return
        removed = 0
        for file in self.path.iterdir():
            matched = _OWN_NAME.fullmatch(file.name)
            if matched and int(matched[1]) < time.time() - self.config.backup_keep_time:
                file.unlink()
                removed += 1
        log(f"Deleting old backups ... done. ({removed} removed)")

    def _unpack(self, *, check_space: bool) -> dict[str, object]:
        archives = sorted(self.path.glob(f"*{SUFFIX}"))
        wanted = self.option("BACKUP")
        if not archives:
            raise BackupError(f"No backups found in {self.path}\nPlease make sure that file name ends with {SUFFIX}")
        if len(archives) > 1 and not wanted:
            names = "\n".join(f" {archive.name.removesuffix(SUFFIX)}" for archive in archives)
            raise BackupError(
                f"Found more than one backup:\n{names}\nPlease specify which one you want to restore:\n"
                "rake gitlab:backup:restore BACKUP=timestamp_of_backup"
            )
        archive = self.path / f"{Path(wanted).name}{SUFFIX}" if wanted else archives[0]
        if not archive.exists():
            raise BackupError(f"The backup file {archive.name} does not exist!")
        if check_space:
            self._require_space(archive)
        log("Unpacking backup ... ")
        if subprocess.run(["tar", "-xf", archive, "-C", self.path], check=False).returncode != 0:
            raise BackupError("Unpacking backup failed")
        log("Unpacking backup ... done")
        information: dict[str, object] = yaml.safe_load((self.path / MANIFEST).read_text())
        return information

    def _require_space(self, archive: Path) -> None:
        if self.option("BACKUP_SKIP_STORAGE_CHECK") == "true":
            return
        required, available = archive.stat().st_size * _SPACE, shutil.disk_usage(self.path).free
        if available < required:
            raise BackupError(
                f"Insufficient disk space in {self.path}: {available} bytes available, estimated {required} bytes "
                "required. Set BACKUP_SKIP_STORAGE_CHECK=true to bypass this check."
            )

    def _require_same_version(self, information: Mapping[str, object]) -> None:
        found = information[":gitlab_version"]
        if found != self.config.version:
            raise BackupError(
                f"GitLab version mismatch:\n  Your current GitLab version ({self.config.version}) differs from the "
                "GitLab version in the backup!\n  Please switch to the following version and try again:\n"
                f"  version: {found}\n\nHint: git checkout v{found}"
            )

    def _clean(self) -> None:
        log("Deleting tar staging files ... ")
        for name in (MANIFEST, *(part.file for part in PARTS)):
            target = self.path / name
            if target.is_dir():
                shutil.rmtree(target)
            target.unlink(missing_ok=True)
        log("Deleting tar staging files ... done")


def _schema(config: Config) -> str:
    with db.connect(config.database) as connection:
        row = db.one(connection, "SELECT MAX(name) AS name FROM schema_migrations")
    return str(row["name"]) if row else ""


TASKS: dict[str, Callable[[Manager], int]] = {
    "gitlab:backup:create": Manager.create,
    "gitlab:backup:restore": Manager.restore,
    "gitlab:backup:verify": Manager.verify,
}


def run(config: Config, task: str, options: Mapping[str, str]) -> int:
    """Run a task and return its exit code."""
    config.backup_path.mkdir(mode=0o700, exist_ok=True)
    # One at a time: a second one would take the first one's files for its own.
    with closing(sqlite3.connect(config.data / "backup.lock", timeout=0, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            print("Backup and restore in progress: there is another backup or restore task running", file=sys.stderr)
            return 1
        try:
            return TASKS[task](Manager(config, options))
        except BackupError as error:
            log(str(error))
            return 1


def main() -> None:
    """Run the task that the first argument names, with the options in the others."""
    task, *pairs = sys.argv[1:]
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if task not in TASKS:
        sys.exit(f"gitlab-rake: this gitlab-ce is a stand-in and does not support the task '{task}'")
    sys.exit(run(Config.load(), task, {**os.environ, **given}))


if __name__ == "__main__":
    main()
