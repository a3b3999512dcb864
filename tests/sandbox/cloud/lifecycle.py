"""Starts, checks and stops a sandbox.

`start` and `stop` can be called at any time and twice: after a reboot, after a Ctrl-C half-way, and from two terminals
at once (the second waits for the first).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.sandbox.cloud import namespaces
from tests.sandbox.cloud.health import failures
from tests.sandbox.cloud.supervision import Supervisor, configuration_file
from tests.sandbox.cloud.workstation import service_environment
from tests.sandbox.layout import Layout
from tools.progress import Say, say

#: Longest that services may take to become healthy, in seconds. A warm start takes about five.
PATIENCE = 120
INIT_MODULE = "tests.sandbox.cloud.init"


class SandboxError(Exception):
    """The sandbox cannot be started; the message says why and where to look."""


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Only one start or stop of this sandbox at a time. Let go by the kernel when the holder dies."""
    layout.cache.mkdir(exist_ok=True)
    with layout.lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start(layout: Layout, progress: Say = say) -> None:
    """Start the sandbox: leave a healthy one alone, repair a broken one, else create one."""
    if os.geteuid() != 0:
        raise SandboxError("only root can create the namespaces and devices of a sandbox: run this as root")
    with locked(layout):
        init = namespaces.find(layout)
        if init is None:
            _end_leftovers(layout)
            progress("sandbox: starting")
            init = _spawn(layout)
        elif _recorded(layout) != _made_of(layout):
            progress("sandbox: its sources or images have changed: restarting the cloud; machines keep running")
            with contextlib.suppress(OSError):
                Supervisor(init, layout).restart("cloud")
        _fingerprint_file(layout).write_text(_made_of(layout))
        _wait(init, layout, progress)


def stop(layout: Layout, progress: Say = say) -> None:
    """Stop the sandbox and remove everything it created, except what is cached for the next one."""
    with locked(layout):
        if not layout.state.exists() and not namespaces.strays(layout, str(configuration_file(layout))):
            progress("sandbox: not running")
            return
        progress("sandbox: stopping")
        _end_leftovers(layout)
        _remove(layout.state)
        progress("sandbox: stopped and removed")


def _fingerprint_file(layout: Layout) -> Path:
    return layout.state / "made-of"


def _recorded(layout: Layout) -> str:
    return _fingerprint_file(layout).read_text() if _fingerprint_file(layout).exists() else ""


def _made_of(layout: Layout) -> str:
    """Changes when the code of the cloud's process, or an image that it hands out, does."""
    digest = hashlib.sha256()
    sources = layout.root / "tests" / "sandbox"
    folders = [sources / name for name in ("cloud", "digitalocean", "hub", "machines")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    shared = [sources / "layout.py", sources / "gitlab" / "web" / "faults.py"]
    for file in sorted(
        [*files, *shared, *(layout.cache / "images").glob("*.key"), *(layout.cache / "hub").glob("*.key")]
    ):
        digest.update(str(file).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _spawn(layout: Layout) -> namespaces.Init:
    # Not at the top: these take longer to load than all that is needed to find that a sandbox runs already.
    from tests.sandbox.cloud.archive import mirror  # noqa: PLC0415
    from tests.sandbox.cloud.authority import Authority, make_trust, write_private  # noqa: PLC0415
    from tests.sandbox.cloud.services import write_configuration  # noqa: PLC0415

    layout.state.mkdir(mode=0o700, exist_ok=True)
    layout.state.chmod(0o700)
    authority = Authority(layout.ca_certificate.parent)
    mirror.make_keys(layout.cache)
    make_trust(layout.state / "trust", authority)
    if not layout.token_file.exists():
        write_private(layout.token_file, f"dop_v1_{secrets.token_hex(32)}\n".encode())
    write_configuration(layout, authority)
    python = layout.cache / "venv" / "bin" / "python"
    with (layout.state / "logs" / "init.log").open("ab") as log:
        # The name is there for `ps` and for `strays`: other instances of the checkout run the same module.
        return namespaces.spawn(layout, [str(python), "-m", INIT_MODULE, layout.name], log, service_environment(layout))


def _wait(init: namespaces.Init, layout: Layout, progress: Say) -> None:
    """Wait until every service responds. A service that the supervisor gave up on is started again once."""
    deadline = time.monotonic() + PATIENCE
    reported: set[str] = set()
    supervisor, again = Supervisor(init, layout), set[str]()
    while missing := failures(init, layout):
        if not init.alive:
            raise SandboxError(f"the sandbox stopped while starting: {_tail(layout, 'init')}")
        if time.monotonic() > deadline:
            raise SandboxError(_explain(supervisor, missing, layout))
        with contextlib.suppress(OSError):
            fatal = {name for name, state in supervisor.states().items() if state in ("FATAL", "EXITED", "STOPPED")}
            for name in sorted(fatal - again):
                supervisor.start(name)
            if fatal & again:
                raise SandboxError(_explain(supervisor, missing, layout))
            again |= fatal
        for name in sorted(missing.keys() - reported):
            progress(f"sandbox: waiting for {name}")
        reported |= missing.keys()
        time.sleep(0.1)
    progress("sandbox: healthy")


def _explain(supervisor: Supervisor, missing: dict[str, str], layout: Layout) -> str:
    with contextlib.suppress(OSError):
        states = supervisor.states()
        dead = [name for name, state in states.items() if state != "RUNNING"]
        if dead:
            return f"service {dead[0]} is not running: {_tail(layout, dead[0])}"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    return f"the sandbox is not healthy after {PATIENCE} s ({reasons}); its logs are in {layout.state / 'logs'}"


def _tail(layout: Layout, name: str) -> str:
    file = layout.state / "logs" / f"{name}.log"
    text = file.read_text(errors="replace").strip().splitlines()[-15:] if file.exists() else []
    return "\n".join([f"see {file}", *text])


def _end_leftovers(layout: Layout) -> None:
    """Kill the process tree, if it is running, and remove its loop devices and control groups."""
    known = namespaces.find(layout)
    # Arguments of a command line end with a zero: one instance's name may be the beginning of another's.
    marks = (f"{INIT_MODULE}\0{layout.name}\0", str(configuration_file(layout)))
    for init in [*([known] if known else []), *(init for mark in marks for init in namespaces.strays(layout, mark))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(init.pid, signal.SIGKILL)
        while init.alive:
            time.sleep(0.05)  # the kernel ends a whole namespace with its first process, and tells nobody but a parent
    namespaces.record_file(layout).unlink(missing_ok=True)
    _detach_loop_devices(layout)
    _remove_control_groups(layout)


def _detach_loop_devices(layout: Layout) -> None:
    listing = subprocess.run(
        ["losetup", "--json", "--list", "--output", "NAME,BACK-FILE"], capture_output=True, check=True
    )
    devices = json.loads(listing.stdout or b"{}").get("loopdevices", [])
    prefix = f"{layout.state}/"
    for device in devices:
        if str(device["back-file"]).startswith(prefix):
            subprocess.run(["losetup", "--detach", device["name"]], check=False)


def control_groups(layout: Layout, root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The control groups of a sandbox: one in each hierarchy.

    Walked rather than globbed: groups of other sandboxes vanish meanwhile, and only `os.walk` passes over those.
    """
    return [Path(parent, layout.name) for parent, names, _ in os.walk(root) if layout.name in names]


def _remove_control_groups(layout: Layout) -> None:
    for group in control_groups(layout):
        for folder, _, _ in os.walk(group, topdown=False):
            # A process that is only just ending keeps its group for a moment; an empty group left over does no harm.
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _remove(folder: Path) -> None:
    for attempt in range(50):
        shutil.rmtree(folder, ignore_errors=attempt < 49)
        if not folder.exists():
            return
        time.sleep(0.1)  # mounts of an ended namespace go a moment after its processes
