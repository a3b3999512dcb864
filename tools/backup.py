"""The backups of a stack: make one now, and list them.

The server does both with its own program, `slipway-backup`; these are its clients.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from tools.clients import FAILURES, CheckError, Outputs
from tools.progress import ToolError, say
from tools.server import run_on_server

#: Ages from here on are in days.
_HOURS_OF_DAYS = 72
PROGRAM = "sudo /usr/local/sbin/slipway-backup"


@dataclass(frozen=True)
class Backup:
    """One complete backup. `time` is when it was completed, in seconds since 1970; `size` in bytes, without images."""

    id: str
    time: int
    gitlab_version: str
    size: int
    blobs: int
    host: str
    storage: str
    reason: str

    def age(self, now: float) -> str:
        """Its age, for people."""
        hours = (now - self.time) / 3600
        return f"{hours:.0f} h" if hours < _HOURS_OF_DAYS else f"{hours / 24:.0f} days"


@dataclass(frozen=True)
class Listing:
    """The backups in a Space, the newest first, and the IDs of those that are not complete."""

    backups: Sequence[Backup]
    unfinished: Sequence[str]

    def require_younger(self, hours: int, now: float) -> str:
        """Return a line about the newest backup.

        Raises:
            CheckError: there is none, or it is older than `hours`.
        """
        if not self.backups:
            raise CheckError("there is no complete backup; make one with: make backup")
        newest = self.backups[0]
        text = f"{newest.id}, {newest.age(now)} old, GitLab {newest.gitlab_version}; {len(self.backups)} in all"
        if now - newest.time > hours * 3600:
            raise CheckError(
                f"the last backup is {text}, older than the {hours} h of backup.maxAgeHours. The server says why: "
                "journalctl -u slipway-backup"
            )
        return text


def list_backups(outputs: Outputs) -> Listing:
    """Ask the server which backups are in the stack's Space.

    Raises:
        CheckError: the stack makes no backups, or the server cannot list them.
    """
    require_backups(outputs)
    found = json.loads(outputs.ssh(f"{PROGRAM} list"))
    fields = Backup.__dataclass_fields__
    backups = [Backup(**{name: one[name] for name in fields}) for one in found["backups"]]
    return Listing(backups, found["unfinished"])


def require_backups(outputs: Outputs) -> None:
    """Verify that a stack makes backups.

    Raises:
        CheckError: it does not.
    """
    if not (outputs.backup or {}).get("max_age_hours"):
        raise CheckError("this stack makes no backups. Add the section backup to its stack file, and run pulumi up")


def create(stack: str | None) -> None:
    """Start the server's backup, print its progress, and wait for its end.

    Raises:
        ToolError: it failed.
    """
    try:
        outputs = Outputs.of_stack(stack)
        require_backups(outputs)
        print(run_on_server(outputs, f"{PROGRAM} follow"), end="")
        newest = list_backups(outputs).backups[0]
    except FAILURES as error:
        raise ToolError(f"backup: {error}") from error
    say(f"backup: {newest.id}, {newest.size / 2**20:.1f} MiB and {newest.blobs} blobs of images")


def show(stack: str | None) -> int:
    """Print the backups of a stack; 1 if the newest is older than the stack file allows."""
    try:
        outputs = Outputs.of_stack(stack)
        listing = list_backups(outputs)
    except FAILURES as error:
        raise ToolError(f"backups: {error}") from error
    now = time.time()
    space = outputs.backup or {}
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(
        "ID", "Completed", "Age", "GitLab", "MiB", "Blobs", "Reason", title=f"{space['bucket']}/{space['prefix']}"
    )
    for one in listing.backups:
        completed = datetime.fromtimestamp(one.time, UTC).strftime("%Y-%m-%d %H:%M UTC")
        size = f"{one.size / 2**20:.1f}"
        table.add_row(one.id, completed, one.age(now), one.gitlab_version, size, str(one.blobs), one.reason)
    console.print(table)
    console.print(
        "Each has GitLab's data and repositories, /etc/gitlab with its secrets, the SSH host keys, the registry's "
        "database, and the blobs of its images.",
        soft_wrap=True,
    )
    for one_id in listing.unfinished:
        console.print(f"{one_id} is unfinished, and cannot be restored", soft_wrap=True)
    try:
        listing.require_younger(int(space["max_age_hours"]), now)
    except CheckError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    return 0
