"""Restore a backup into a stack: that of the backup, or another one of the same GitLab version.

The server does it with its own program, which checks everything before it overwrites anything. Afterwards the graph
registers the stack's API token again, because the restored database has that of the backup.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools import host_key, processes
from tools.backup import PROGRAM, list_backups, require_backups
from tools.cli import HostKey
from tools.clients import FAILURES, CheckError, Outputs, run
from tools.progress import ToolError, say
from tools.server import run_on_server

#: What the server calls the parts of a stack's output `backup`.
_NAMES: Final = {
    "access_key": "BACKUP_ACCESS_KEY",
    "bucket": "BACKUP_BUCKET",
    "encryption_key": "BACKUP_KEY",
    "endpoint": "BACKUP_ENDPOINT",
    "prefix": "BACKUP_PREFIX",
    "region": "BACKUP_REGION",
    "secret_key": "BACKUP_SECRET_KEY",
}
_API_STEP: Final = "command:remote:Command::gitlab-api-token"


@dataclass(frozen=True)
class Wish:
    """What to restore, and how. `source` is `latest`, an ID, or `STACK:ID`; `keys` a file with an output `backup`."""

    source: str
    keys: Path | None
    host_key: HostKey
    discard_present: bool
    config_file: Path | None = None


def restore(stack: str | None, wish: Wish, *, confirmed: bool) -> int:
    """Ask, restore, and update the stack; 0 if the stack has what was in the backup.

    Raises:
        ToolError: it was refused, or failed; the message or what was printed before says what is in effect now.
    """
    try:
        outputs = Outputs.of_stack(stack)
        require_backups(outputs)
        space, backup_id = _source(outputs, wish)
    except FAILURES as error:
        raise ToolError(f"restore: {error}") from error
    if not confirmed and not _confirm(outputs, backup_id):
        return 1
    try:
        printed = run_on_server(outputs, f"{PROGRAM} restore {shlex.quote(backup_id)}", _settings(space, wish))
    except FAILURES as error:
        raise ToolError(f"restore: {error}") from error
    which = ["--stack", stack] if stack else []
    if wish.host_key is HostKey.TAKE:
        host_key.take_over(which, printed)
    file = ["--config-file", str(wish.config_file)] if wish.config_file else []
    _register_token(which, file, everything=wish.host_key is HostKey.TAKE)
    say(f"restore: {backup_id} is in effect at {outputs.url}. Check it with: make verify")
    return 0


def _source(outputs: Outputs, wish: Wish) -> tuple[Mapping[str, Any] | None, str]:
    """Where the backup is, None for the stack's own Space, and its ID."""
    stack, _, backup_id = wish.source.rpartition(":")
    if wish.keys:
        return keys_from(wish.keys), backup_id
    other, whose = (Outputs.of_stack(stack), f"stack {stack}") if stack else (outputs, "the stack")
    if not other.backup:
        raise CheckError(f"{whose} has no backups; nothing was changed")
    if backup_id == "latest":
        known = list_backups(other).backups
        if not known:
            raise CheckError(f"{whose} has no complete backup; nothing was changed")
        backup_id = known[0].id
    return other.backup if stack else None, backup_id


def keys_from(path: Path) -> Mapping[str, Any]:
    """The output `backup` of a stack, from a file.

    Raises:
        CheckError: it is not one.
    """
    advice = "Make it with: pulumi stack output backup --show-secrets --json > FILE"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckError(f"{path}: cannot be read as JSON ({error}); nothing was changed. {advice}") from error
    missing = [name for name in _NAMES if not isinstance(content, dict) or not isinstance(content.get(name), str)]
    if missing:
        raise CheckError(f"{path}: lacks {', '.join(missing)}; nothing was changed. {advice}")
    return dict(content)


def _settings(space: Mapping[str, Any] | None, wish: Wish) -> str:
    """What the server reads on standard input: secrets are in no command line."""
    values = {variable: str(space[name]) for name, variable in _NAMES.items()} if space else {}
    values["HOST_KEY"] = str(wish.host_key)
    values["DISCARD_PRESENT"] = "yes" if wish.discard_present else "no"
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _confirm(outputs: Outputs, backup_id: str) -> bool:
    print(
        f"This replaces everything in {outputs.url} by {backup_id}: users, projects, repositories, variables, tokens."
    )
    if not sys.stdin.isatty():
        raise ToolError("restore: there is no terminal to ask at; nothing was changed. Confirm with --yes")
    return input("Type the host name to go on: ").strip() == outputs.host


def _register_token(which: list[str], file: list[str], *, everything: bool) -> None:
    state = json.loads(run("pulumi", "stack", "export", *which))
    [urn] = [one["urn"] for one in state["deployment"]["resources"] if one["urn"].endswith(_API_STEP)]
    targets = [] if everything else ["--target", urn]
    command = [
        "pulumi",
        "up",
        *which,
        *file,
        "--yes",
        "--skip-preview",
        "--replace" if everything else "--target-replace",
        urn,
    ]
    if processes.run_attached([*command, *targets], os.environ) != 0:
        raise ToolError(
            "the backup is restored, but the stack's API token could not be registered in it (see above). Fix the "
            f"cause, then run: pulumi up --replace '{urn}'"
        )
