"""A commit, its pipeline as it runs, and what the released image answers.

Commits a change to the sample application of the first project that has it (a comment in one file, which replaces that
of the last demo), prints every job and its log while it runs, finds the image in the registry, pulls it by its digest
with the deploy token, and sends it a request. The last line is its answer.
"""

from __future__ import annotations

import base64
import datetime
import time
from dataclasses import dataclass, field

import gitlab
from gitlab.v4.objects import Project, ProjectPipeline, ProjectPipelineJob
from rich.console import Console
from rich.prompt import Confirm

from tools.clients import FAILURES, CheckError, Outputs, outputs_of
from tools.job_log import JobLog
from tools.pipelines import ENDED, commit, project_of, started
from tools.progress import ToolError
from tools.verify import GREETING, released

#: The file that the demo changes. It is in the image, so that there is something to build.
SOURCE = "greeting.js"
MARK = "// Demo of "
#: Seconds within which the pipeline has to end.
_LIMIT = 900
_STYLES = {"success": "green", "failed": "red", "running": "cyan"}


@dataclass
class Watch:
    """Prints a pipeline's progress: each change of a job's status, and each line of its log."""

    project: Project
    console: Console
    began: float = field(default_factory=time.monotonic)
    seen: dict[int, str] = field(default_factory=dict)
    logs: dict[int, JobLog] = field(default_factory=dict)

    def follow(self, pipeline: ProjectPipeline) -> str:
        """Print until the pipeline has ended; returns its status.

        Raises:
            CheckError: it has not ended within a quarter of an hour.
        """
        while time.monotonic() < self.began + _LIMIT:
            # Before the jobs: if it has ended, so have they, and nothing of them is missed.
            pipeline.refresh()
            for job in sorted(pipeline.jobs.list(get_all=True), key=lambda job: int(job.id)):
                self._report(job)
            if pipeline.status in ENDED:
                return str(pipeline.status)
            time.sleep(0.5)
        raise CheckError(f"pipeline {pipeline.web_url} has not ended within {_LIMIT // 60} minutes")

    def say(self, text: str, style: str = "") -> None:
        """One line, with the time since the commit."""
        line = f"[{time.monotonic() - self.began:5.0f}s] {text}"
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def _report(self, job: ProjectPipelineJob) -> None:
        ended = job.status in ENDED
        if job.status == "running" and self.seen.get(job.id) != "running":
            self._report_status(job)
        if job.status == "running" or (ended and self.seen.get(job.id) != job.status):
            self._report_log(job)
        if self.seen.get(job.id) != job.status:
            self._report_status(job)

    def _report_status(self, job: ProjectPipelineJob) -> None:
        self.seen[job.id] = job.status
        took = f" after {job.duration:.0f} s" if job.status in ENDED and job.duration else ""
        self.say(f"{job.name}: {job.status}{took}", _STYLES.get(job.status, "dim"))

    def _report_log(self, job: ProjectPipelineJob) -> None:
        log = self.logs.setdefault(job.id, JobLog(self.project, int(job.id)))
        for line in log.new_lines(job.status):
            self.say(f"  {job.name} │ {line}", "dim")


def change(project: Project) -> str:
    """Commit a change to the sample application on the default branch; returns the ID of the commit.

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
    """The tags of an image in the project's registry."""
    repositories = project.repositories.list(get_all=True)
    pairs = [(one, tag.name) for one in repositories for tag in one.tags.list(get_all=True)]
    return sorted(name for one, name in pairs if one.tags.get(name).digest == digest)


def demonstrate(outputs: Outputs, console: Console, *, confirmed: bool) -> None:
    """Run the demo; unless it is `confirmed`, ask before the commit.

    Raises:
        CheckError: the pipeline or the image is not as promised, or there is no sample application.
    """
    project_output = next((one for one in outputs.projects if one.get("docker_run")), None)
    if project_output is None:
        raise CheckError(
            "no project of the stack has the sample application: add one to the stack file, then run `pulumi up`"
        )
    project = project_of(outputs, project_output)
    question = f"Commit to {project.default_branch} of {project_output['url']}, and release it?"
    if not (confirmed or Confirm.ask(question)):
        raise CheckError("nothing was committed")
    watch = Watch(project, console)
    sha = change(project)
    watch.say(f"commit {sha[:8]} on {project.default_branch} of {project_output['url']}")
    pipeline = started(project, sha)
    watch.say(f"pipeline {pipeline.web_url}")
    if (status := watch.follow(pipeline)) != "success":
        raise CheckError(f"the pipeline's status is {status}: {pipeline.web_url}")
    digest, answer = released(outputs, project_output)
    if "latest" not in (names := tags_of(project, digest)):
        raise CheckError(f"the registry page of {project.path_with_namespace} does not show {digest} as latest")
    watch.say(f"registry: {project_output['image']}@{digest} as {', '.join(names)}")
    watch.say("a container of it answers at /hello/test:")
    if answer != GREETING:
        raise CheckError(f"expected {GREETING!r}, not {answer!r}")
    console.print(answer, style="bold green", highlight=False)


def demo(stack: str | None, *, confirmed: bool) -> None:
    """Run the demo on a stack, or on the selected one.

    Raises:
        ToolError: it did not succeed.
    """
    outputs = outputs_of(stack)
    try:
        demonstrate(outputs, Console(soft_wrap=True), confirmed=confirmed)
    except FAILURES as error:
        raise ToolError(str(error)) from error
