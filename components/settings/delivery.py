"""The part of a stack file that is about projects and the runners that build their images."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from components import versions
from components.settings.section import Section
from components.settings.texts import Fingerprint, HttpsUrl, like

Name = Annotated[
    str,
    AfterValidator(
        like(
            r"[a-z][a-z0-9-]{0,39}",
            "is not a name; GitLab and the cloud would refuse it. Take at most 40 small letters, digits and dashes",
        )
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
    """A variable of a project's jobs. A masked one is not shown in logs; a protected one is for protected branches."""

    value: SecretStr
    masked: bool = True
    protected: bool = False


class ProjectSettings(Section):
    """A project in the namespace of the administrator, or in a group that exists."""

    path: Name
    group: str | None = Field(default=None, pattern=r"^[\w./-]+$")
    description: str = ""
    visibility: Literal["private", "internal", "public"] = "private"
    #: The number of a project that exists and is taken over; it is protected then.
    import_id: str | None = Field(default=None, pattern=r"^\d+$")
    #: Whether the sample application is put into its repository.
    sample: bool = True
    keep_images: int = Field(default=10, ge=1, le=100)
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
        return value


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
