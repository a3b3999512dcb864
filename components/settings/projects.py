"""The sections of a stack file about projects and the runners that build their images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from components import versions
from components.settings.section import Section
from components.settings.strings import Fingerprint, HttpsUrl, matching

Name = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?",
            "is not a valid name; GitLab and DigitalOcean would reject it. Use at most 40 lowercase letters, digits "
            "and dashes, starting with a letter and not ending with a dash",
        )
    ),
]
#: GitLab's own pages have these names below a project's URL (GitLab, reserved project names).
_RESERVED_PATHS: Final = frozenset(
    {"badges", "blame", "blob", "builds", "commits", "create", "edit", "files", "new", "preview", "raw", "refs"}
    | {"tree", "update", "wikis"}
)
#: The namespace of a project without a group.
_ADMINISTRATOR: Final = "root"
#: The only values that GitLab masks (Ci::Maskable, for values in which nothing is expanded).
_MASKABLE: Final = re.compile(r"\S{8,}")
#: What the pipeline's own jobs rely on; a variable of the project would take precedence over it.
_TAKEN_VARIABLES: Final = re.compile(
    r"CI|CI_(?!DEBUG_).*|GITLAB_CI|DOCKER_(HOST|CERT_PATH|TLS_VERIFY|TLS_CERTDIR)|BUILDAH_(ISOLATION|FORMAT)"
)
Group = Annotated[
    str,
    AfterValidator(
        matching(
            r"\w[\w.-]*(/\w[\w.-]*)*",
            "is not the path of a group; no group could be found. "
            "Use the path from the group's URL, such as team or team/sub",
        )
    ),
]
Branch = Annotated[
    str,
    AfterValidator(
        matching(r"[\w.-]+(/[\w.-]+)*", "is not a branch name; GitLab would reject it. Use one such as main")
    ),
]
ProjectId = Annotated[
    str,
    AfterValidator(
        matching(
            r"\d+", "is not a project ID; no project could be found. Use the project ID shown on the project's page"
        )
    ),
]


class Builder(StrEnum):
    """What jobs build images with: Docker in Docker, which needs privileged jobs, or Buildah, which does not."""

    DOCKER = "docker"
    BUILDAH = "buildah"


class ExtraStage(Section):
    """A stage of the pipeline after build, test and release: shell commands that can use the builder."""

    name: Name = Field(description="The name of the stage and its job.", examples=["deploy"])
    script: tuple[str, ...] = Field(
        min_length=1,
        description="Shell commands. They run in the builder's image, logged in to the registry.",
    )
    default_branch_only: bool = Field(
        default=True, description="Whether the stage runs on the default branch only; `false` runs it on every branch."
    )

    @field_validator("name")
    @classmethod
    def _is_new(cls, value: str) -> str:
        if value in {"build", "test", "release"}:
            message = f"{value} is already a stage; there would be two stages of that name. Choose another name"
            raise ValueError(message)
        return value


class Variable(Section):
    """A CI/CD variable of a project. Jobs get its value verbatim: nothing in it is expanded."""

    value: SecretStr = Field(description="The value, which jobs get verbatim.")
    masked: bool = Field(default=True, description="Whether GitLab hides the value in job logs.")
    protected: bool = Field(
        default=False, description="Whether only jobs of protected branches and tags get the variable."
    )

    @model_validator(mode="after")
    def _can_be_masked(self) -> Self:
        if self.masked and not _MASKABLE.fullmatch(self.value.get_secret_value()):
            message = (
                "has a value that cannot be masked; GitLab would reject it. "
                "Use at least 8 characters without spaces or line breaks, or set masked to false"
            )
            raise ValueError(message)
        return self


class ProjectSettings(Section):
    """A project in the administrator's namespace, or in an existing group.

    An imported project (`import_id`) keeps what is not set here: its description, visibility, name and files. The path
    identifies the project: one that moves to another group stays the same project.
    """

    path: Name = Field(
        description="The name of the project, unique in the stack. It identifies the project, which stays the same "
        "when it moves to another group.",
        examples=["hello"],
    )
    group: Group | None = Field(
        default=None,
        description="The full path of an existing group. Groups can only exist once GitLab is up, so add it in a later "
        "update.",
        examples=["team/sub"],
        json_schema_extra={"unset": "the administrator's namespace"},
    )
    description: str | None = Field(
        default=None,
        description="The description shown in GitLab.",
        json_schema_extra={"unset": "none; unchanged if imported"},
    )
    visibility: Literal["private", "internal", "public"] | None = Field(
        default=None,
        description="Who can see the project.",
        json_schema_extra={"unset": "`private`; unchanged if imported"},
    )
    default_branch: Branch = Field(default="main", description="The default branch, which is protected.")
    import_id: ProjectId | None = Field(
        default=None,
        description="The ID of an existing project to import, see below. It stays in GitLab when it leaves the stack.",
        examples=["42"],
    )
    sample: bool | None = Field(
        default=None,
        description="Whether the sample application is committed to the new repository. It belongs to its developers "
        "from then on.",
        json_schema_extra={"unset": "`true`; `false` if imported"},
    )
    pipeline: bool | None = Field(
        default=None,
        description="Whether the stack maintains `.gitlab-ci.yml` as the pipeline that builds, tests and releases an "
        "image.",
        json_schema_extra={"unset": "`true`; `false` if imported"},
    )
    keep_images: Literal[1, 5, 10, 25, 50, 100] = Field(
        default=10,
        description="How many images the cleanup policy keeps, in addition to `latest` and the default branch's image.",
        json_schema_extra={"unit": "images"},
    )
    variables: dict[str, Variable] = Field(
        default_factory=dict, description="CI/CD variables by name: letters, digits and underscores."
    )
    extra_stages: tuple[ExtraStage, ...] = Field(
        default=(), description="Stages of the pipeline after build, test and release."
    )
    runners: tuple[str, ...] = Field(
        default=("docker-builder",),
        description="The names of the runners that build for the project. A runner that only one project names is "
        "locked to it; one that several projects name is shared by them.",
    )

    @field_validator("variables")
    @classmethod
    def _are_variables(cls, value: dict[str, Variable]) -> dict[str, Variable]:
        for key in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", key):
                message = (
                    f"{key} is not a variable name; GitLab would reject it. "
                    "Use at most 255 letters, digits and underscores, not starting with a digit"
                )
                raise ValueError(message)
            if _TAKEN_VARIABLES.fullmatch(key):
                message = (
                    f"{key} is set by GitLab or the pipeline; jobs would use this value instead. Choose another name"
                )
                raise ValueError(message)
        return value

    @field_validator("path")
    @classmethod
    def _is_not_reserved(cls, value: str) -> str:
        if value in _RESERVED_PATHS:
            message = f"{value} is reserved for GitLab's own pages; GitLab would reject it. Choose another name"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.import_id is not None and self.sample:
            message = (
                "has sample, but is imported; the sample would overwrite the project's own files. "
                "Remove sample or importId"
            )
            raise ValueError(message)
        if self.extra_stages and not self.has_pipeline:
            message = (
                "has extraStages, but no pipeline that they could follow; they would be ignored. "
                "Set pipeline to true, or remove them"
            )
            raise ValueError(message)
        return self

    @property
    def imported(self) -> bool:
        """Whether the project existed before the stack."""
        return self.import_id is not None

    @property
    def has_sample(self) -> bool:
        """Whether the sample application is committed to its repository."""
        return self.sample if self.sample is not None else not self.imported

    @property
    def has_pipeline(self) -> bool:
        """Whether the stack declares its pipeline."""
        return self.pipeline if self.pipeline is not None else not self.imported


class RunnerSettings(Section):
    """A runner on its own machines."""

    name: Name = Field(
        default="docker-builder", description="The name of the runner in GitLab, and part of its machines' names."
    )
    builder: Builder = Field(
        default=Builder.DOCKER,
        description="`docker`: Docker in Docker, in privileged jobs. `buildah`: Buildah, in jobs without privileges. "
        "All runners of a project need the same builder.",
    )
    count: int = Field(default=1, ge=1, le=10, description="How many machines.", json_schema_extra={"unit": "machines"})
    size: str = Field(default="s-2vcpu-4gb", description="The size slug of each machine.")
    image: str = Field(
        default=versions.SERVER_IMAGE,
        description="The image slug of each machine: Ubuntu 24.04, Debian 12 or Debian 13.",
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=50,
        description="How many jobs each machine runs at a time.",
        json_schema_extra={"unit": "jobs"},
    )
    tags: tuple[str, ...] = Field(default=(), description="The tags whose jobs the runner takes.")
    untagged: bool = Field(default=True, description="Whether the runner takes jobs without tags.")
    keep_layers: bool = Field(
        default=True,
        description="Whether images and layers of a job stay on the machine for later jobs of the same project; "
        "otherwise each job starts with none. The stack's pipeline removes containers, networks and volumes that an "
        "earlier job left behind; a pipeline of your own must do so itself.",
    )
    version: str = Field(default=versions.GITLAB_RUNNER, description="The package version of gitlab-runner.")
    packages_url: HttpsUrl = Field(
        default="https://packages.gitlab.com/runner/gitlab-runner",
        description="The base URL of the apt repository; another one for a mirror.",
    )
    key_url: HttpsUrl = Field(
        default="https://packages.gitlab.com/gpgkey/gpg.key",
        description="The URL of the key that signs the repository.",
    )
    key_fingerprint: Fingerprint = Field(
        default=versions.GITLAB_PACKAGES_KEY,
        description="The fingerprint of that key, in 40 hexadecimal digits; or `unpinned`, which trusts whatever key "
        "HTTPS delivers.",
    )
    registry_mirror: HttpsUrl | None = Field(
        default=None,
        description="The URL of a mirror of Docker Hub, for the machine and for the builder in its jobs.",
        examples=["https://mirror.gcr.io"],
    )

    @model_validator(mode="after")
    def _takes_jobs(self) -> Self:
        if not self.tags and not self.untagged:
            message = (
                "has no tags and does not take untagged jobs; it would never run a job. "
                "Set tags, or set untagged to true"
            )
            raise ValueError(message)
        return self


def conflicts(projects: Sequence[ProjectSettings], runners: Sequence[RunnerSettings]) -> Iterator[str]:
    """Errors of projects and runners together, when each of them is valid on its own."""
    names = Counter(runner.name for runner in runners)
    yield from (f"runners: {_duplicate(f'{name} is the name of two runners')}" for name in names if names[name] > 1)
    used = {name for project in projects for name in project.runners}
    for name in sorted(names.keys() - used):
        yield (
            f"runners: {name} is not used by any project; it would sit idle. Add it to a project's runners, or remove "
            "it"
        )
    places: dict[str, int] = {}
    imports: dict[str, int] = {}
    for place, project in enumerate(projects):
        first = places.setdefault(project.path, place)
        if first != place:
            yield f"projects[{place}].path: {_duplicate(f'{project.path} is also the path of projects[{first}]')}"
        if project.import_id and (first := imports.setdefault(project.import_id, place)) != place:
            yield (
                f"projects[{place}].importId: {project.import_id} is already imported as projects[{first}]; both would "
                "change the same project. Remove one of them"
            )
        yield from _own_conflicts(f"projects[{place}]", project, runners)


def _own_conflicts(place: str, project: ProjectSettings, runners: Sequence[RunnerSettings]) -> Iterator[str]:
    """Errors of one project beside the runners that it names."""
    if project.group and project.group.lower() == _ADMINISTRATOR:
        yield (
            f"{place}.group: {project.group} is the administrator, not a group; no group would be found. "
            "Remove group: the project is then in the administrator's namespace"
        )
    names = list(dict.fromkeys(runner.name for runner in runners))
    for name in dict.fromkeys(project.runners):
        if name not in names:
            yield (
                f"{place}.runners: {name} is not one of the runners; the project's jobs would wait forever. "
                + (f"Add it to runners, or use one of {', '.join(names)}" if names else "Add it to runners")
            )
    builders = {runner.builder for runner in runners if runner.name in project.runners}
    if project.has_pipeline and len(builders) > 1:
        yield (
            f"{place}.runners: they build with {' and '.join(sorted(builders))}; the project has one pipeline, whose "
            "jobs would fail on some of them. Give them the same builder, or name fewer runners"
        )


def _duplicate(what: str) -> str:
    return f"{what}; one would replace the other. Rename one of them"
