"""The logs of an installation: of GitLab, the registry and the backups on the server, of runners and targets on theirs.

They are read over SSH, each connection pinned to the machine's host key; that of a runner on Kubernetes comes from its
cluster, and that of a job from GitLab. Nothing is changed, and what is followed ends on the machine as well when it
ends here.
"""

from __future__ import annotations

import queue
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import gitlab
from gitlab.v4.objects import Project, ProjectJob
from rich.console import Console

from tools.clients import FAILURES, CheckError, Outputs
from tools.job_log import JobLog, printable
from tools.machines import SERVER, Machine, machines_of
from tools.pipelines import ENDED
from tools.pod_logs import Pod, managers_of, reading
from tools.progress import ToolError
from tools.state import StackState

_SCRIPT: Final = Path(__file__).with_name("show-logs.sh")
#: What is said if no machine has the logs of these parts; the others are on the server.
_NONE: Final = {
    "runner": "this stack has no runners",
    "target": "this stack has no droplet that a project is deployed to",
}
#: Seconds between two looks at the log of a job.
_PAUSE: Final = 1.0
#: Seconds for the end of a script on a machine.
_END: Final = 5.0


#: Reads a log until the end of the block: each line is given to a function, and None at their end. What the block gets
#: waits for the end, and returns something other than 0 if the log cannot be read.
Source = Callable[[Callable[[str | None], None]], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Wish:
    """Which log, how many of its last lines, and whether to go on with new ones. `job` is the ID of a job.

    `part` is one of those of the script, or `job`.
    """

    part: str
    lines: int
    follow: bool
    job: int | None = None


def logs(stack: str | None, wish: Wish) -> int:
    """Print logs; returns 0, or 1 if those of a machine cannot be read.

    Raises:
        ToolError: the stack has no such part, or Pulumi or GitLab cannot be asked.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    try:
        outputs = Outputs.of_stack(stack)
        if wish.part == "job":
            return _job(outputs, wish, console)
        state = StackState.of_stack(stack)
        with _pods(state, wish.part) as pods:
            sources = _sources(_machines(state, outputs, wish.part), pods, outputs, wish)
            return _printed(sources, console)
    except FAILURES as error:
        raise ToolError(f"logs: {error}") from error


def _machines(state: StackState, outputs: Outputs, part: str) -> list[Machine]:
    return [one for one in machines_of(state, outputs) if _role(one) == (part if part in _NONE else SERVER)]


@contextmanager
def _pods(state: StackState, part: str) -> Iterator[list[Pod]]:
    with ExitStack() as stack:
        yield stack.enter_context(managers_of(state)) if part == "runner" else []


def _sources(machines: Sequence[Machine], pods: Sequence[Pod], outputs: Outputs, wish: Wish) -> dict[str, Source]:
    found: dict[str, Source] = {one.name: partial(_reading, one, outputs, wish) for one in machines}
    found |= {one.name: partial(reading, one, wish.lines, follow=wish.follow) for one in pods}
    if found:
        return found
    raise CheckError(_NONE.get(wish.part, "the server is not in the stack's state: run make up"))


def _role(machine: Machine) -> str:
    if machine.prefix == SERVER:
        return SERVER
    return "target" if machine.is_target else "runner"


def _printed(sources: Mapping[str, Source], console: Console) -> int:
    """Print the lines of all sources as they come; those of several have the source's name in front."""
    lines: queue.Queue[tuple[str, str | None]] = queue.Queue()
    names = set(sources)

    def put(name: str, line: str | None) -> None:
        lines.put((name, line if line is None else printable(line)))

    with ExitStack() as stack:
        running = [stack.enter_context(source(partial(put, name))) for name, source in sources.items()]
        while names:
            name, line = lines.get()
            if line is None:
                names.remove(name)
            else:
                console.print(f"{name} │ {line}" if len(sources) > 1 else line)
        codes = [process.wait() for process in running]
    return 1 if any(codes) else 0


@contextmanager
def _reading(
    machine: Machine, outputs: Outputs, wish: Wish, put: Callable[[str | None], None]
) -> Iterator[subprocess.Popen[str]]:
    """Run the script on a machine until the end of the block; `put` gets its lines, and None at their end."""
    words = ["sudo", "bash", "-c", _SCRIPT.read_text(encoding="utf-8"), _SCRIPT.name, wish.part, str(wish.lines)]
    command = shlex.join([*words, *(["follow"] if wish.follow else [])])
    with machine.pinned(outputs).ssh_files() as options:
        process = subprocess.Popen(
            ["ssh", *options, "-o", "ServerAliveInterval=15", f"{outputs.ssh_user}@{machine.address}", command],
            # Open until the end of the block: the script on the machine ends with it.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

        def read() -> None:
            for line in process.stdout or ():
                put(line.rstrip("\n"))
            put(None)

        reader = threading.Thread(target=read, daemon=True)
        with process:
            reader.start()
            try:
                yield process
            finally:
                if process.stdin:
                    process.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_END)
                process.terminate()
                reader.join()


def _job(outputs: Outputs, wish: Wish, console: Console) -> int:
    path, project, job = _wanted_job(outputs, wish.job)
    console.print(f"{path}: job {job.id} {job.name}, {job.status}: {job.web_url}")
    log = JobLog(project, int(job.id))
    for line in log.new_lines(job.status)[-wish.lines :]:
        console.print(line)
    while wish.follow and job.status not in ENDED:
        time.sleep(_PAUSE)
        job = project.jobs.get(job.id)
        for line in log.new_lines(job.status):
            console.print(line)
    if wish.follow:
        console.print(f"{job.name}: {job.status}")
    return 0


def _wanted_job(outputs: Outputs, job_id: int | None) -> tuple[str, Project, ProjectJob]:
    """The job with an ID, or the last one that was created in a project of the stack."""
    client = outputs.gitlab()
    paths = [one["url"].removeprefix(f"{outputs.url}/") for one in outputs.projects]
    projects = {path: client.projects.get(path, lazy=True) for path in paths}
    found = [(path, one, job) for path, one in projects.items() for job in _jobs(one, job_id)]
    if not found:
        which = f"job {job_id}" if job_id else "job"
        raise CheckError(f"no {which} in the projects of this stack: {', '.join(paths) or 'it has none'}")
    return max(found, key=lambda one: int(one[2].id))


def _jobs(project: Project, job_id: int | None) -> list[ProjectJob]:
    if job_id is None:
        return list(project.jobs.list(per_page=1, get_all=False))
    try:
        return [project.jobs.get(job_id)]
    except gitlab.GitlabGetError as error:
        if error.response_code != HTTPStatus.NOT_FOUND:
            raise
        return []
