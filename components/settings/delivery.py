"""The part of a stack file that is about projects and the runners that build their images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from components import versions
from components.settings.section import Section
from components.settings.texts import Fingerprint, HttpsUrl, matching

Name = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?",
            "is not a name; GitLab and the cloud would refuse it. Take at most 40 small letters, digits and dashes, "
            "a letter first and no dash last",
        )
    ),
]
#: GitLab's own pages have these names below those of a project (GitLab, reserved project names).
_RESERVED_PATHS: Final = frozenset(
    {"badges", "blame", "blob", "builds", "commits", "create", "edit", "files", "new", "preview", "raw", "refs"}
    | {"tree", "update", "wikis"}
)
#: The namespace that a project without a group is in.
_ADMINISTRATOR: Final = "root"
#: GitLab masks no other (Ci::Maskable, for values in which nothing is expanded).
_MASKABLE: Final = re.compile(r"\S{8,}")
#: What the pipeline's own jobs rely on; a variable of the project would win over it.
_TAKEN_VARIABLES: Final = re.compile(
    r"CI|CI_(?!DEBUG_).*|GITLAB_CI|DOCKER_(HOST|CERT_PATH|TLS_VERIFY|TLS_CERTDIR)|BUILDAH_(ISOLATION|FORMAT)"
)
Group = Annotated[
    str,
    AfterValidator(
        matching(
            r"\w[\w.-]*(/\w[\w.-]*)*",
            "is not the path of a group; none could be found. Write it as in its address, such as team or team/sub",
        )
    ),
]
Branch = Annotated[
    str,
    AfterValidator(
        matching(r"[\w.-]+(/[\w.-]+)*", "is not the name of a branch; GitLab would refuse it. Take one such as main")
    ),
]
ProjectId = Annotated[
    str,
    AfterValidator(
        matching(r"\d+", "is not the number of a project; none could be found. Take the project ID that its page shows")
    ),
]


class Builder(StrEnum):
    """What jobs build images with: Docker in Docker, which needs privileges, or Buildah, which does without."""

    DOCKER = "docker"
    BUILDAH = "buildah"


class ExtraStage(Section):
    """A stage of the pipeline after the three that are always there: shell lines, run with the builder at hand."""

    name: Name
    script: tuple[str, ...] = Field(min_length=1)
    default_branch_only: bool = True

    @field_validator("name")
    @classmethod
    def _is_new(cls, value: str) -> str:
        if value in {"build", "test", "release"}:
            message = f"{value} is a stage already; there would be two of it. Take another name"
            raise ValueError(message)
        return value


class Variable(Section):
    """A variable of a project's jobs, whose value they get as it stands: nothing in it is expanded.

    A masked one is not shown in logs; a protected one is for protected branches.
    """

    value: SecretStr
    masked: bool = True
    protected: bool = False

    @model_validator(mode="after")
    def _can_be_masked(self) -> Self:
        if self.masked and not _MASKABLE.fullmatch(self.value.get_secret_value()):
            message = (
                "has a value that cannot be masked; GitLab would refuse it. "
                "Take 8 characters or more, without spaces and line breaks, or set masked to false"
            )
            raise ValueError(message)
        return self


class ProjectSettings(Section):
    """A project in the namespace of the administrator, or in a group that exists.

    One that is adopted (`import_id`) keeps what is not said here: its description, visibility, name and files. The
    path names the project for good, so that one which moves to another group stays the same project.
    """

    path: Name
    group: Group | None = None
    description: str | None = None
    visibility: Literal["private", "internal", "public"] | None = None
    default_branch: Branch = "main"
    #: The number of a project that exists and is adopted; it stays in GitLab when it leaves the stack.
    import_id: ProjectId | None = None
    #: Whether the sample application is put into its repository; left out, only where the repository is new.
    sample: bool | None = None
    #: Whether its pipeline is the one that builds, tests and releases an image; left out, only where it is new.
    pipeline: bool | None = None
    keep_images: Literal[1, 5, 10, 25, 50, 100] = 10
    variables: dict[str, Variable] = Field(default_factory=dict)
    extra_stages: tuple[ExtraStage, ...] = ()
    #: Names of runners, in `runners`, whose first project it is.
    runners: tuple[str, ...] = ("docker-builder",)

    @field_validator("variables")
    @classmethod
    def _are_variables(cls, value: dict[str, Variable]) -> dict[str, Variable]:
        for key in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", key):
                message = (
                    f"{key} is not the name of a variable; GitLab would refuse it. Take letters, digits and underscores"
                )
                raise ValueError(message)
            if _TAKEN_VARIABLES.fullmatch(key):
                message = (
                    f"{key} is what GitLab or the pipeline sets itself; jobs would go by this one. Take another name"
                )
                raise ValueError(message)
        return value

    @field_validator("path")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if value in _RESERVED_PATHS:
            message = f"{value} is a name that GitLab keeps for its pages; it would refuse it. Take another one"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _imports_consistently(self) -> Self:
        if self.import_id is not None and self.sample:
            message = "has sample, and is adopted; files of its own would be written over. Remove sample, or importId"
            raise ValueError(message)
        if self.extra_stages and not self.has_pipeline:
            message = (
                "has extraStages without the pipeline that they follow; they would be ignored. Set pipeline to true"
            )
            raise ValueError(message)
        return self

    @property
    def imported(self) -> bool:
        """Whether it was there before the stack."""
        return self.import_id is not None

    @property
    def has_sample(self) -> bool:
        """Whether the sample application is put into its repository."""
        return self.sample if self.sample is not None else not self.imported

    @property
    def has_pipeline(self) -> bool:
        """Whether the stack declares its pipeline."""
        return self.pipeline if self.pipeline is not None else not self.imported


class RunnerSettings(Section):
    """A runner on machines of its own. `concurrency` is jobs at a time on each machine."""

    name: Name = "docker-builder"
    builder: Builder = Builder.DOCKER
    count: int = Field(default=1, ge=1, le=10)
    size: str = "s-2vcpu-4gb"
    image: str = versions.SERVER_IMAGE
    concurrency: int = Field(default=2, ge=1, le=50)
    tags: tuple[str, ...] = ()
    untagged: bool = True
    #: Whether images and layers of a job stay on the machine for later jobs of the same project.
    keep_layers: bool = True
    version: str = versions.GITLAB_RUNNER
    packages_url: HttpsUrl = "https://packages.gitlab.com/runner/gitlab-runner"
    key_url: HttpsUrl = "https://packages.gitlab.com/gpgkey/gpg.key"
    key_fingerprint: Fingerprint = versions.GITLAB_PACKAGES_KEY
    #: A mirror of Docker Hub.
    registry_mirror: HttpsUrl | None = None

    @model_validator(mode="after")
    def _takes_jobs(self) -> Self:
        if not self.tags and not self.untagged:
            message = "has neither tags nor untagged jobs; it would never take a job. Set tags, or untagged to true"
            raise ValueError(message)
        return self


def conflicts(projects: Sequence[ProjectSettings], runners: Sequence[RunnerSettings]) -> Iterator[str]:
    """What is wrong with projects and runners together, each of which is right by itself."""
    names = Counter(runner.name for runner in runners)
    yield from (f"runners: {_twice(f'there are two runners {name}')}" for name in names if names[name] > 1)
    wanted = {name for project in projects for name in project.runners}
    for name in sorted(names.keys() - wanted):
        yield f"runners: {name} is named by no project; it would stand idle. Name it there, or remove it"
    places: dict[str, int] = {}
    numbers: dict[str, int] = {}
    for place, project in enumerate(projects):
        before = places.setdefault(project.path, place)
        if before != place:
            yield f"projects.{place}.path: {_twice(f'{project.path} is the path of projects.{before} too')}"
        if project.import_id and numbers.setdefault(project.import_id, place) != place:
            adopter = numbers[project.import_id]
            yield (
                f"projects.{place}.importId: {project.import_id} is adopted as projects.{adopter} already; both would "
                "change one project. Remove one of them"
            )
        if project.group and project.group.lower() == _ADMINISTRATOR:
            yield (
                f"projects.{place}.group: {project.group} is the administrator and no group; none would be found. "
                "Leave group out: the project is in that namespace then"
            )
        for name in dict.fromkeys(project.runners):
            if name not in names:
                yield (
                    f"projects.{place}.runners: there is no runner {name}; its jobs would wait for ever. "
                    f"Add it to runners, or take one of {', '.join(names) or 'none, as there are none'}"
                )
        builders = {runner.builder for runner in runners if runner.name in project.runners}
        if project.has_pipeline and len(builders) > 1:
            yield (
                f"projects.{place}.runners: they build with {' and '.join(sorted(builders))}; the project has one "
                "pipeline, and its jobs would fail on some of them. Give them the same builder, or name fewer"
            )


def _twice(what: str) -> str:
    return f"{what}; one would take the place of the other. Rename one"
