"""State of the Pulumi stacks in the sandbox: removes locks that a dead engine left behind."""

from __future__ import annotations

import json
from pathlib import Path

from tests.sandbox.cloud.namespaces import Init
from tests.sandbox.layout import Layout


def backend(layout: Layout) -> Path:
    """Folder of the file backend."""
    return layout.state / "pulumi"


def remove_stale_locks(layout: Layout, init: Init | None) -> list[str]:
    """Remove locks of engines that run no longer, and name their stacks.

    An engine that ends in order, also after Ctrl-C, takes its lock with it; one that was killed, or whose machine went
    down, leaves it, and every later command would refuse to start. `pulumi cancel` does not look whether the holder
    still runs; this does, by the process id in the lock, which is one of the sandbox's own.
    """
    removed = []
    for lock in sorted((backend(layout) / ".pulumi" / "locks").rglob("*.json")):
        try:
            pid = int(json.loads(lock.read_text())["pid"])
        except (ValueError, KeyError, FileNotFoundError):
            pid = -1
        if not _is_engine(init, pid):
            lock.unlink(missing_ok=True)
            removed.append(lock.parent.name)
    return removed


def _is_engine(init: Init | None, pid: int) -> bool:
    if init is None:
        return False
    try:
        return init.path(Path(f"/proc/{pid}/comm")).read_text().strip() == "pulumi"
    except (FileNotFoundError, ProcessLookupError):
        return False
