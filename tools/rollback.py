"""The way back: an environment gets an image again that it had before, by the deploy job that gave it that image.

GitLab has the history. An earlier deployment is repeated by running its job again, which hands the digest of its own
pipeline to the machine; nothing is built or tagged. The pages of GitLab do the same with one click.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

import gitlab
from gitlab.v4.objects import Project
from rich.console import Console

from tools.clients import FAILURES, CheckError, Outputs
from tools.job_log import JobLog
from tools.pipelines import ENDED
from tools.progress import ToolError

#: What the deploy job leaves as an artifact: the image, by its digest. components/files/deploy/job.sh writes it.
_ARTIFACT: Final = "deployed.txt"
#: Seconds between two looks at the log of the job.
_PAUSE: Final = 1.0
#: Deployments that a message lists.
_SHOWN: Final = 5
_PIPELINE: Final = re.compile(r"[1-9][0-9]*")
_DIGEST: Final = re.compile(r"(?:sha256:)?[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Wish:
    """Which environment of which project goes back, and where to.

    `project` is a path, with or without its namespace. `to` is the ID of a pipeline, or a digest or its beginning;
    without one, it is what ran before.
    """

    project: str
    environment: str
    to: str | None


@dataclass(frozen=True)
class Deployment:
    """A deployment that has succeeded: its job, the pipeline of that, and the image by its digest."""

    job: int
    pipeline: int
    image: str
    when: str

    def __str__(self) -> str:
        return f"pipeline {self.pipeline}, {self.when}: {self.image.rpartition('@')[2][:19]}"


def rollback(stack: str | None, wish: Wish) -> int:
    """Deploy an earlier image again and follow its job; 0 if it runs in the end.

    Raises:
        ToolError: there is nothing to go back to, or GitLab refuses. Nothing was changed.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    try:
        project = _project(Outputs.of_stack(stack), wish.project)
        target = earlier(project, wish)
        console.print(f"{wish.environment} of {project.path_with_namespace} goes back to {target}")
        return _again(project, target, wish.environment, console)
    except FAILURES as error:
        raise ToolError(f"rollback: {error}") from error


def earlier(project: Project, wish: Wish) -> Deployment:
    """The deployment that is to be repeated.

    Raises:
        CheckError: there is none, or another one is at work.
    """
    _require_environment(project, wish.environment)
    for running in project.deployments.list(environment=wish.environment, status="running", get_all=False):
        raise CheckError(
            f"a deployment to {wish.environment} is running, and the two would follow each other; nothing was changed. "
            f"Wait until it ends, or cancel it: {(running.deployable or {}).get('web_url', 'in GitLab')}"
        )
    deployments = history(project, wish.environment)
    now = next(deployments, None)
    if now is None:
        raise CheckError(
            f"nothing was deployed to {wish.environment} yet, so there is no way back; nothing was changed"
        )
    if wish.to is None:
        found = next((one for one in deployments if one.pipeline < now.pipeline and one.image != now.image), None)
        if found is None:
            raise CheckError(
                f"{wish.environment} has had no other image before {now}; nothing was changed. "
                "Commit a fix, or name a later pipeline with TO"
            )
        return found
    if _fits(now, wish.to):
        raise CheckError(f"{wish.environment} runs that already: {now}; nothing was changed")
    wanted = next((one for one in deployments if _fits(one, wish.to)), None)
    if wanted is None:
        known = "; ".join(map(str, islice(history(project, wish.environment), _SHOWN)))
        raise CheckError(
            f"{wish.to} was never deployed to {wish.environment}; nothing was changed. "
            f"Name a pipeline or a digest of an earlier deployment. The last ones: {known}"
        )
    return wanted


def history(project: Project, environment: str) -> Iterator[Deployment]:
    """Successful deployments of the stack's own jobs, the newest first."""
    listed = project.deployments.list(
        environment=environment, status="success", order_by="id", sort="desc", iterator=True
    )
    for one in listed:
        job: dict[str, Any] = one.deployable or {}
        image = _image(project, int(job["id"])) if job else None
        if image is not None:
            yield Deployment(int(job["id"]), int(job["pipeline"]["id"]), image, str(job["finished_at"])[:16])


def _image(project: Project, job: int) -> str | None:
    try:
        return project.jobs.get(job, lazy=True).artifact(_ARTIFACT).decode().strip()
    except gitlab.GitlabGetError as error:
        if error.response_code != HTTPStatus.NOT_FOUND:
            raise
        return None


def _fits(deployment: Deployment, to: str) -> bool:
    if _PIPELINE.fullmatch(to) and int(to) == deployment.pipeline:
        return True
    digest = deployment.image.rpartition("@sha256:")[2]
    return _DIGEST.fullmatch(to) is not None and digest.startswith(to.removeprefix("sha256:"))


def _project(outputs: Outputs, wanted: str) -> Project:
    paths = [one["url"].removeprefix(f"{outputs.url}/") for one in outputs.projects]
    found = [path for path in paths if wanted in {path, path.rpartition("/")[2]}]
    if len(found) != 1:
        raise CheckError(
            f"{wanted or 'no name'} is not one of the stack's projects; nothing was changed. "
            f"Use PROJECT with one of: {', '.join(paths) or 'none, the stack has no projects'}"
        )
    return outputs.gitlab().projects.get(found[0])


def _require_environment(project: Project, name: str) -> None:
    names = [one.name for one in project.environments.list(iterator=True)]
    if name not in names:
        raise CheckError(
            f"{project.path_with_namespace} has no environment {name or 'without a name'}; nothing was changed. "
            f"Use ENVIRONMENT with one of: {', '.join(sorted(names)) or 'none, nothing was deployed yet'}"
        )


def _again(project: Project, target: Deployment, environment: str, console: Console) -> int:
    """Run the job of a deployment again, and print its log."""
    try:
        made = project.jobs.get(target.job, lazy=True).retry()
    except gitlab.GitlabJobRetryError as error:
        raise CheckError(
            f"GitLab does not run job {target.job} again ({error.error_message}); nothing was changed. Allow "
            "job retries for rollback deployments in the project, under Settings > CI/CD > General pipelines"
        ) from error
    job = project.jobs.get(made["id"])
    log = JobLog(project, int(job.id))
    while job.status not in ENDED:
        time.sleep(_PAUSE)
        job = project.jobs.get(job.id)
        for line in log.new_lines(job.status):
            console.print(line)
    if job.status != "success":
        console.print(f"{environment} was not changed: job {job.id} ended as {job.status}: {job.web_url}")
        return 1
    console.print(f"{environment} runs {target.image} again")
    return 0
