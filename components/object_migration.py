"""GitLab's files from before it had object storage, on their way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi

from components.component import Component
from components.object_buckets import FileBuckets
from components.remote import Machine, run_script
from components.rendering import script

#: Seconds for the step. What it has not moved by then is moved when it runs again.
_LIMIT_SECONDS: Final = 12 * 3600


@dataclass(frozen=True)
class ObjectMigrationArgs:
    """Inputs of `ObjectMigration`. `files` are the Spaces that GitLab uses; it waits for everything that is `ready`."""

    machine: Machine
    files: FileBuckets
    ready: Sequence[pulumi.Resource]


class ObjectMigration(Component):
    """The move of GitLab's files from the data volume to object storage.

    Owns one step, which runs GitLab's own tasks, and a program for uploads, for each type that has files on the volume.
    GitLab serves each file from where it is, so nothing stops meanwhile, and a step that fails or is killed goes on
    where it was when it runs again.
    Refuses to own the way back: that is a part of GitLab's configuration, which has to wait for it.
    """

    def __init__(self, name: str, args: ObjectMigrationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the step."""
        super().__init__("ObjectMigration", name, opts)
        run_script(
            self,
            "move",
            machine=args.machine,
            file="move-objects.sh",
            libraries=["object-tasks.sh"],
            values={"OBJECT_BUCKETS": args.files.listed(), "UPLOADS_PROGRAM": script("move-uploads.rb")},
            rerun_on={"attachment of the data": args.machine.data},
            timeout_seconds=_LIMIT_SECONDS,
            depends_on=args.ready,
        )
        self.register_outputs({})
