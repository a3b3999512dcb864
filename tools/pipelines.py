"""Pipelines of a project, as a client of GitLab's API sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from gitlab.v4.objects import Project, ProjectPipeline

from tools.clients import CheckError, Docker, Outputs

T = TypeVar("T")

#: Nothing more happens by itself: a pipeline that is `manual` waits for a person.
ENDED = frozenset({"success", "failed", "canceled", "skipped", "manual"})
#: How far back a pipeline is looked for that has run.
_LOOK_BACK = 100


def project_of(outputs: Outputs, project_output: dict[str, str] | None = None) -> Project:
    """A project of the stack: the one that `project_output` describes, or the first."""
    url = (project_output or outputs.projects[0])["url"]
    return outputs.gitlab().projects.get(url.removeprefix(f"{outputs.url}/"))


def has_no_code(project: Project) -> bool:
    """Whether the default branch has nothing but what GitLab and the stack commit to a new project."""
    entries = project.repository_tree(ref=project.default_branch, get_all=True)
    return {str(entry["path"]) for entry in entries} <= {"README.md", ".gitlab-ci.yml"}


def commit(project: Project, branch: str, path: str, content: str, action: str = "update") -> str:
    """Change one file, or `create` it; returns the ID of the commit."""
    change = {"action": action, "file_path": path, "content": content}
    made = project.commits.create({"branch": branch, "commit_message": f"Change {path}", "actions": [change]})
    return str(made.id)


def started(project: Project, sha: str) -> ProjectPipeline:
    """Wait for the pipeline that a commit starts.

    Raises:
        CheckError: there is none within a minute.
    """
    what = f"a pipeline of commit {sha[:8]} in {project.path_with_namespace}"
    [found] = until(lambda: project.pipelines.list(sha=sha, per_page=1, get_all=False), what, 60)
    return project.pipelines.get(found.id)


def pipeline_of(project: Project, sha: str, seconds: float = 300) -> ProjectPipeline:
    """Wait for the pipeline of a commit to end.

    Raises:
        CheckError: it has not ended within `seconds`.
    """
    return _ended(project, seconds, sha=sha)


def last_pipeline(project: Project, seconds: float = 900) -> ProjectPipeline:
    """Wait for the last pipeline of the default branch to end. One of a commit with `[skip ci]` has not run at all.

    Raises:
        CheckError: it has not ended within `seconds`.
    """
    return _ended(project, seconds, ref=project.default_branch)


def jobs_of(pipeline: ProjectPipeline) -> dict[str, str]:
    """Status of each job."""
    return {job.name: job.status for job in pipeline.jobs.list(get_all=True)}


def times_of(pipeline: ProjectPipeline) -> dict[str, float]:
    """Seconds that each job ran, in the order of the jobs."""
    jobs = sorted(pipeline.jobs.list(get_all=True), key=lambda job: int(job.id))
    return {job.name: float(job.duration or 0) for job in jobs}


def image_tested(project: Project, pipeline: ProjectPipeline) -> str:
    """The image, by its digest, that a pipeline passes from build to test and release."""
    [build] = [job for job in pipeline.jobs.list(get_all=True) if job.name == "build"]
    return project.jobs.get(build.id).artifact("image.txt").decode().strip()


def latest(outputs: Outputs) -> str:
    """The digest of the image that the first project has released last."""
    project_output = outputs.projects[0]
    with Docker.session() as docker:
        docker.login(outputs.registry, project_output["deploy_username"], project_output["deploy_token"])
        return docker.pull(f"{project_output['image']}:latest")


def until(found: Callable[[], T | None], what: str, seconds: float = 300) -> T:
    """Wait until `found` returns something, and return that.

    Raises:
        CheckError: it has not within `seconds`; the message has `what` was expected.
    """
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > deadline:
            raise CheckError(f"timed out after {seconds:.0f} s waiting for {what}")
        time.sleep(0.5)
    return result


def _ended(project: Project, seconds: float, **which: str) -> ProjectPipeline:
    def newest() -> ProjectPipeline | None:
        found = project.pipelines.list(get_all=False, query_parameters={**which, "per_page": str(_LOOK_BACK)})
        last = next((one for one in found if one.status != "skipped"), next(iter(found), None))
        return project.pipelines.get(last.id) if last and last.status in ENDED else None

    what = f"the end of a pipeline of {' '.join(which.values())} in {project.path_with_namespace}"
    return until(newest, what, seconds)
