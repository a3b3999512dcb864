"""The result of reading a file: jobs and stages."""

from __future__ import annotations

from dataclasses import dataclass, field

from .documents import Document


@dataclass(frozen=True)
class Definition:
    """All that a file says; jobs with the defaults that they inherit."""

    stages: list[str]
    jobs: dict[str, Document]
    variables: dict[str, Document]
    workflow: Document

    def called(self, name: str) -> list[Document]:
        """The jobs that a name means: one, or all copies of a parallel one."""
        if name in self.jobs:
            return [self.jobs[name]]
        return [job for job in self.jobs.values() if job.get("parallel_of") == name]


@dataclass(frozen=True)
class Job:
    """A job of a pipeline. `timeout` is in seconds; `needs` is nothing when it waits for all stages before its own."""

    name: str
    stage: str
    stage_index: int
    when: str
    allow_failure: bool
    options: Document
    variables: dict[str, Document]
    tags: list[str]
    needs: list[Document] | None
    timeout: int | None


@dataclass(frozen=True)
class Plan:
    """The jobs of a pipeline, in order of stages; or why there are none."""

    jobs: list[Job] = field(default_factory=list)
    reason: str | None = None
    name: str | None = None
    auto_cancel: Document = field(default_factory=dict)
