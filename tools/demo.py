"""A commit, its pipeline as it runs, and what the released image answers.

`python -m tools.demo` changes the sample application of the first project that has it by a commit on its default
branch (a comment in one file; it takes out that of the last time), prints every job and its log while it runs, reads
the image back from the registry, pulls it by its digest with the deploy token and asks it. The last line is the answer.
The exit code is 0 only if the pipeline is green and the answer is right.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import re
import sys
import time
from dataclasses import dataclass, field

import gitlab
from gitlab.v4.objects import Project, ProjectPipeline, ProjectPipelineJob
from rich.console import Console
from rich.prompt import Confirm

from tools.clients import FAILURES, CheckError, Outputs
from tools.pipelines import ENDED, commit, project_of, started
from tools.verify import GREETING, released

#: What the demo changes: a file that is in the image, so that there is something to build.
SOURCE = "greeting.js"
MARK = "// Demo of "
_SECONDS = 900
_STYLES = {"success": "green", "failed": "red", "running": "cyan"}
#: Colours, and the marks by which GitLab folds a log.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|section_(?:start|end):\d+:[^\r]*\r|\r(?!\n)")


@dataclass
class Watch:
    """Prints what is new in a pipeline: each change of a job's status, and each line of its log."""

    project: Project
    console: Console
    began: float = field(default_factory=time.monotonic)
    seen: dict[int, str] = field(default_factory=dict)
    printed: dict[int, int] = field(default_factory=dict)

    def follow(self, pipeline: ProjectPipeline) -> str:
        """Print until the pipeline has ended; its status.

        Raises:
            CheckError: it has not ended within a quarter of an hour.
        """
        while time.monotonic() < self.began + _SECONDS:
            # Asked for first: what comes after is told, whatever happens meanwhile.
            pipeline.refresh()
            for job in sorted(pipeline.jobs.list(get_all=True), key=lambda job: int(job.id)):
                self._tell(job)
            if pipeline.status in ENDED:
                return str(pipeline.status)
            time.sleep(0.5)
        raise CheckError(f"pipeline {pipeline.web_url} has not ended within {_SECONDS // 60} minutes")

    def say(self, text: str, style: str = "") -> None:
        """One line, with the time since the commit."""
        line = f"[{time.monotonic() - self.began:5.0f}s] {text}"
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def _tell(self, job: ProjectPipelineJob) -> None:
        ended = job.status in ENDED
        if job.status == "running" and self.seen.get(job.id) != "running":
            self._tell_status(job)
        if job.status == "running" or (ended and self.seen.get(job.id) != job.status):
            self._tell_log(job)
        if self.seen.get(job.id) != job.status:
            self._tell_status(job)

    def _tell_status(self, job: ProjectPipelineJob) -> None:
        self.seen[job.id] = job.status
        took = f" after {job.duration:.0f} s" if job.status in ENDED and job.duration else ""
        self.say(f"{job.name}: {job.status}{took}", _STYLES.get(job.status, "dim"))

    def _tell_log(self, job: ProjectPipelineJob) -> None:
        trace = self.project.jobs.get(job.id, lazy=True).trace()
        # A line that is not whole yet comes with the next look.
        whole = trace if job.status in ENDED else trace[: trace.rfind(b"\n") + 1]
        new = _CONTROL.sub("", whole[self.printed.get(job.id, 0) :].decode(errors="replace"))
        self.printed[job.id] = len(whole)
        for line in new.splitlines():
            if line.strip():
                self.say(f"  {job.name} │ {line.rstrip()}", "dim")


def change(project: Project) -> str:
    """Commit a change of the sample application on the default branch; the id of the commit.

    Raises:
        CheckError: the project is not the sample application.
    """
    try:
        source = base64.b64decode(project.files.get(SOURCE, ref=project.default_branch).content).decode()
    except gitlab.GitlabGetError as error:
        message = f"{project.path_with_namespace} has no {SOURCE}: the demo needs a project with the sample application"
        raise CheckError(message) from error
    kept = [line for line in source.splitlines() if not line.startswith(MARK)]
    now = datetime.datetime.now(tz=datetime.UTC).isoformat(sep=" ", timespec="seconds")
    return commit(project, project.default_branch, SOURCE, "\n".join([*kept, f"{MARK}{now}.", ""]))


def tags_of(project: Project, digest: str) -> list[str]:
    """The names that an image has in the project's registry."""
    repositories = project.repositories.list(get_all=True)
    pairs = [(one, tag.name) for one in repositories for tag in one.tags.list(get_all=True)]
    return sorted(name for one, name in pairs if one.tags.get(name).digest == digest)


def demonstrate(outputs: Outputs, console: Console, *, confirmed: bool) -> None:
    """Show it all; unless it is `confirmed`, ask before the commit.

    Raises:
        CheckError: something is not as promised.
    """
    told = next((told for told in outputs.projects if told.get("docker_run")), None)
    if told is None:
        raise CheckError(
            "no project of the stack has the sample application: add one to the stack file, then pulumi up"
        )
    project = project_of(outputs, told)
    if not (confirmed or Confirm.ask(f"Commit to {project.default_branch} of {told['url']}, and release it?")):
        raise CheckError("nothing was committed")
    watch = Watch(project, console)
    sha = change(project)
    watch.say(f"commit {sha[:8]} on {project.default_branch} of {told['url']}")
    pipeline = started(project, sha)
    watch.say(f"pipeline {pipeline.web_url}")
    if (status := watch.follow(pipeline)) != "success":
        raise CheckError(f"the pipeline has {status}: {pipeline.web_url}")
    digest, answer = released(outputs, told)
    if "latest" not in (names := tags_of(project, digest)):
        raise CheckError(f"the registry page of {project.path_with_namespace} does not show {digest} as latest")
    watch.say(f"registry: {told['image']}@{digest} as {', '.join(names)}")
    watch.say("a container of it, asked for /hello/test, answers:")
    if answer != GREETING:
        raise CheckError(f"expected {GREETING!r}, not {answer!r}")
    console.print(answer, style="bold green", highlight=False)


def main() -> int:
    """0 if all went well; else one line says what did not."""
    parser = argparse.ArgumentParser(description="Commit a change, watch its pipeline, run the image that it releases.")
    parser.add_argument("--stack", help="the stack to use; the selected one if left out")
    parser.add_argument("--yes", action="store_true", help="do not ask before the commit")
    console, wanted = Console(soft_wrap=True), parser.parse_args()
    try:
        demonstrate(Outputs.of_stack(wanted.stack), console, confirmed=wanted.yes)
    except FAILURES as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
