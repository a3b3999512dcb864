"""`gitlab-rake gitlab:artifacts:migrate` and its like: files that move to object storage and, for some types, back.

What GitLab has no data for here, such as packages, has its task all the same, which finds nothing to do. There is no
way back for most types (GitLab 19, `lib/tasks/gitlab/*/migrate.rake`). A file that cannot be moved is reported, and the
exit code is 0 nevertheless. The tasks of uploads only leave jobs to Sidekiq (`lib/gitlab/uploads/migration_helper.rb`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .core import db
from .core.config import Config
from .core.objects import LOCAL, REMOTE
from .core.s3 import ObjectStorageError


def log(level: str, text: str) -> None:
    """A line as Ruby's logger writes it."""
    moment = datetime.now(UTC)
    print(f"{level[0]}, [{moment:%Y-%m-%dT%H:%M:%S.%f} #{os.getpid()}] {level:>5} -- : {text}", flush=True)


def migrate_artifacts(config: Config) -> None:
    """Move artifacts and archived logs to object storage."""
    _move_artifacts(config, REMOTE, "remote", "object")


def artifacts_to_local(config: Config) -> None:
    """Move them back."""
    _move_artifacts(config, LOCAL, "local", "local")


def _move_artifacts(config: Config, target: int, goal: str, label: str) -> None:
    log("INFO", f"Starting transfer of artifacts to {goal} storage")
    with db.connect(config.database) as connection:
        rows = connection.execute("SELECT * FROM ci_artifacts WHERE file_store <> ? ORDER BY id", (target,)).fetchall()
    for row in rows:
        try:
            config.artifacts.move(row["file_store"], row["path"], target)
        except (ObjectStorageError, OSError) as error:
            # The first one that fails ends the task.
            log("ERROR", str(error))
            return
        _note(config, "UPDATE ci_artifacts SET file_store = ? WHERE id = ?", target, row["id"])
        what = f"artifact ID {row['id']} of type {row['file_type']} with size {row['size']}"
        log("INFO", f"Transferred {what} to {label} storage")


def move_upload(config: Config, identity: int, target: int) -> None:
    """Move one attachment, as a job of Sidekiq's or a program in the Rails console does.

    Raises:
        ObjectStorageError: object storage is off, or refuses.
        OSError: the file is not in its folder.
    """
    with db.connect(config.database) as connection:
        row = connection.execute("SELECT * FROM uploads WHERE id = ?", (identity,)).fetchone()
    if row["store"] != target:
        config.uploads.move(row["store"], row["path"], target)
        _note(config, "UPDATE uploads SET store = ? WHERE id = ?", target, identity)


def enqueue_uploads(_: Config) -> None:
    """Refused, because nothing here would do the jobs that the task leaves to Sidekiq."""
    sys.exit(
        "gitlab-rake: the task leaves jobs to Sidekiq, which this stand-in does not have, and ends before a file has "
        "moved: move uploads with gitlab-rails runner"
    )


def _note(config: Config, update: str, target: int, identity: int) -> None:
    """Each in a transaction of its own: a task that is killed goes on with the next file."""
    with db.connect(config.database) as connection:
        connection.execute(update, (target, identity))


@dataclass(frozen=True)
class _Empty:
    """A task for files that this stand-in has none of. `required` is what the task needs to be on, if it asks."""

    words: str
    required: str = ""

    def __call__(self, config: Config) -> None:
        log("INFO", self.words)
        on = config.object_store is not None and self.required in config.object_store.buckets
        if self.required and not on:
            sys.exit(f"rake aborted!\nObject store is disabled for {self.required.replace('_', ' ')} feature")


TASKS: dict[str, Callable[[Config], None]] = {
    "gitlab:artifacts:migrate": migrate_artifacts,
    "gitlab:artifacts:migrate_to_local": artifacts_to_local,
    "gitlab:uploads:migrate:all": enqueue_uploads,
    "gitlab:uploads:migrate_to_local:all": enqueue_uploads,
    "gitlab:lfs:migrate": _Empty("Starting transfer of LFS files to object storage"),
    "gitlab:lfs:migrate_to_local": _Empty("Starting transfer of LFS files to local storage"),
    "gitlab:packages:migrate": _Empty("Starting transfer of package files to object storage", "packages"),
    "gitlab:dependency_proxy:migrate": _Empty(
        "Starting transfer of dependency proxy files to object storage", "dependency_proxy"
    ),
    "gitlab:terraform_states:migrate": _Empty("Starting transfer of Terraform states to object storage"),
    "gitlab:ci_secure_files:migrate": _Empty("Starting transfer of Secure Files to object storage"),
}


def main() -> None:
    """Run the task that the only argument names, or move one upload: `upload ID STORE`."""
    if sys.argv[1] == "upload":
        try:
            move_upload(Config.load(), int(sys.argv[2]), int(sys.argv[3]))
        except (ObjectStorageError, OSError) as error:
            sys.exit(str(error))
        return
    task = TASKS.get(sys.argv[1])
    if task is None:
        advice = "See the list of available tasks with `rake --tasks`"
        sys.exit(f"rake aborted!\nDon't know how to build task '{sys.argv[1]}' ({advice})")
    task(Config.load())


if __name__ == "__main__":
    main()
