"""The private namespaces of a sandbox: creates them, finds them again, runs commands inside.

One sandbox is one process tree below its own init, with its own network, mounts, process IDs, IPC and host name.
Killing that init ends everything, so stopping is reliable.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from tests.sandbox.layout import Layout

#: The named network namespace beside the cloud's, which is the tree's own one.
WORKSTATION = "workstation"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Init:
    """The first process of a running sandbox, as the machine sees it.

    Process ids are used again: only together with the start time and the machine's boot does one name a process.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Init:
        """Describe a process that runs now. `ProcessLookupError` when it does not."""
        try:
            # The second field, the command in parentheses, may hold spaces; field 22 is the start time.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(pid) from None
        if fields[0] in ("Z", "X"):
            raise ProcessLookupError(pid)
        return cls(pid, int(fields[19]), _BOOT_ID.read_text().strip())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            return Init.of(self.pid) == self
        except ProcessLookupError:
            return False

    def path(self, inside: Path) -> Path:
        """A path of the sandbox's own mounts, as the machine can reach it."""
        return Path(f"/proc/{self.pid}/root") / inside.relative_to("/")


def record_file(layout: Layout) -> Path:
    """Where the init of the running sandbox is written down."""
    return layout.state / "init.json"


def find(layout: Layout) -> Init | None:
    """The init of this checkout's sandbox, if that runs."""
    try:
        init = Init(**json.loads(record_file(layout).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return init if init.alive else None


def spawn(layout: Layout, command: Sequence[str], log: IO[bytes], environment: Mapping[str, str]) -> Init:
    """Start `command` as the init of new namespaces, detached from the terminal, and write it down."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*unshare, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd=layout.root,
        env=dict(environment),
    )
    try:
        init = _first_child(process)
        if init is not None:
            record_file(layout).write_text(json.dumps(asdict(init)))
            return init
    except BaseException:
        process.kill()  # and with it, by its own wish, all that it started
        raise
    raise RuntimeError(
        f"cannot create the sandbox's namespaces: {' '.join(unshare)} failed with exit code {process.returncode}"
    )


def _first_child(process: subprocess.Popen[bytes]) -> Init | None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if found := children.read_text().split():
                return Init.of(int(found[0]))
        time.sleep(0.01)  # the file has no event to wait for
    return None


def strays(layout: Layout, mark: str) -> list[Init]:
    """First processes of sandboxes of this checkout that no record names: their command line holds `mark`.

    There is one when the record was removed by hand, or when the one who started it was killed before writing it.
    """
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            numbers = re.search(r"^NSpid:\s+(.*)$", (folder / "status").read_text(), re.MULTILINE)
            is_first = numbers is not None and numbers[1].split()[1:] == ["1"]
            if is_first and mark.encode() in (folder / "cmdline").read_bytes() and _in(folder, layout):
                found.append(Init.of(int(folder.name)))
    return found


def _in(process: Path, layout: Layout) -> bool:
    return (process / "cwd").readlink() == layout.root


def enter(init: Init, network: str | None = None) -> None:
    """Move this process into the sandbox; `network` is a named namespace in it, none means the cloud's.

    Children get the sandbox's process ids, this process keeps its own. There is no way back.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    inside = init.path(Path("/run/netns") / network) if network else Path(f"/proc/{init.pid}/ns/net")
    # All are opened before the first is entered: afterwards /proc is another one. Mounts last, for the same reason.
    files = [inside, *(Path(f"/proc/{init.pid}/ns/{kind}") for kind in ("uts", "ipc", "pid", "mnt"))]
    here = Path.cwd()
    descriptors = [os.open(file, os.O_RDONLY | os.O_CLOEXEC) for file in files]
    for descriptor, file in zip(descriptors, files, strict=True):
        if libc.setns(descriptor, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(file))
        os.close(descriptor)
    os.chdir(here if here.is_dir() else "/")
