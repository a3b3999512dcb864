"""The section of a stack file about runners, which build the images of projects."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from components import versions
from components.settings.section import ENVIRONMENT, PROMOTED, Section
from components.settings.strings import (
    SIGNING_KEY_URL,
    Fingerprint,
    HttpsUrl,
    ImageSlug,
    Mirror,
    Name,
    PackageVersion,
    SigningKeyUrl,
    SizeSlug,
    Tag,
)


class Builder(StrEnum):
    """What jobs build images with: Docker in Docker, which needs privileged jobs, or Buildah, which does not."""

    DOCKER = "docker"
    BUILDAH = "buildah"


class RunnerSettings(Section):
    """A runner on its own machines."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    name: Name = Field(
        default="docker-builder", description="The name of the runner in GitLab, and part of its machines' names."
    )
    builder: Builder = Field(
        default=Builder.DOCKER,
        description="`docker`: Docker in Docker, in privileged jobs. `buildah`: Buildah, in jobs without privileges. "
        "All runners of a project need the same builder.",
    )
    count: int = Field(
        default=1, ge=1, le=10, description="How many machines.", json_schema_extra={**ENVIRONMENT, "unit": "machines"}
    )
    size: SizeSlug = Field(
        default="s-2vcpu-4gb", description="The size slug of each machine.", json_schema_extra={**ENVIRONMENT}
    )
    image: ImageSlug = Field(
        default=versions.SERVER_IMAGE,
        description="The image slug of each machine: Ubuntu 24.04, Debian 12 or Debian 13.",
    )
    concurrency: int = Field(
        default=2,
        ge=1,
        le=50,
        description="How many jobs each machine runs at a time.",
        json_schema_extra={**ENVIRONMENT, "unit": "jobs"},
    )
    tags: tuple[Tag, ...] = Field(default=(), description="The tags whose jobs the runner takes.")
    untagged: bool = Field(default=True, description="Whether the runner takes jobs without tags.")
    keep_layers: bool = Field(
        default=True,
        description="Whether images and layers of a job stay on the machine for later jobs of the same project; "
        "otherwise each job starts with none. The stack's pipeline removes containers, networks and volumes that an "
        "earlier job left behind; a pipeline of your own must do so itself.",
    )
    version: PackageVersion = Field(default=versions.GITLAB_RUNNER, description="The package version of gitlab-runner.")
    packages_url: HttpsUrl = Field(
        default="https://packages.gitlab.com/runner/gitlab-runner",
        description="The base URL of the apt repository; another one for a mirror.",
        json_schema_extra={**ENVIRONMENT},
    )
    key_url: SigningKeyUrl = SIGNING_KEY_URL
    key_fingerprint: Fingerprint = versions.GITLAB_PACKAGES_KEY
    registry_mirror: Mirror | None = Field(
        default=None,
        description="The URL of a mirror of Docker Hub, for the machine and for the builder in its jobs.",
        examples=["https://mirror.gcr.io"],
        json_schema_extra={**ENVIRONMENT},
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
