"""The section of a stack file about runners, which build the images of projects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from pydantic import ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from components import versions
from components.settings.clusters import ClusterSettings
from components.settings.section import ENVIRONMENT, PROMOTED, Contradiction, Section, WholeNumber, refuse_repeats
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
    Snapshot,
    Tag,
)

#: The cache of Docker Hub as jobs know it: a name of their machine, which the runner gives to each of their containers.
DOCKER_HUB_CACHE_HOST: Final = "docker-hub-cache.internal"
DOCKER_HUB_CACHE: Final = f"https://{DOCKER_HUB_CACHE_HOST}:5000"
#: What only one kind of runner has.
_OF_MACHINES: Final = frozenset(
    {"count", "image", "snapshot", "keep_layers", "packages_url", "key_url", "key_fingerprint", "docker_hub_cache"}
)
_OF_CLUSTERS: Final = frozenset({"cluster"})
#: The first release whose configuration has all of `pod_cpu_request`, `pod_disruption_budget` and `app_armor_profile`.
#: Older ones do not complain of what they do not know (GitLab Runner, common/config.go).
_OLDEST_ON_CLUSTERS: Final = (18, 11)
#: GitLab, Ci::Runner.
_MOST_TAGS: Final = 50


class Builder(StrEnum):
    """What jobs build images with: Docker in Docker, which needs privileged jobs, or Buildah, which does not."""

    DOCKER = "docker"
    BUILDAH = "buildah"


class RunnerKind(StrEnum):
    """What runs the jobs of a runner: machines of its own, or a Kubernetes cluster of its own."""

    MACHINES = "machines"
    KUBERNETES = "kubernetes"


class AccessLevel(StrEnum):
    """Which jobs GitLab gives a runner: all, or only those of protected branches and tags."""

    NOT_PROTECTED = "not_protected"
    REF_PROTECTED = "ref_protected"


class RunnerSettings(Section):
    """A runner on its own machines, or on a Kubernetes cluster of its own."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    name: Name = Field(
        default="docker-builder", description="The name of the runner in GitLab, and part of its machines' names."
    )
    kind: RunnerKind = Field(
        default=RunnerKind.MACHINES,
        description="`machines`: jobs run on machines that are always there. `kubernetes`: each job is a pod of a "
        "cluster of DigitalOcean Kubernetes, whose nodes come and go with the jobs.",
    )
    builder: Builder = Field(
        default=Builder.DOCKER,
        description="`docker`: Docker in Docker, in privileged jobs. `buildah`: Buildah, in jobs without privileges. "
        "All runners of a project need the same builder.",
    )
    count: WholeNumber = Field(
        default=1, ge=1, le=10, description="How many machines.", json_schema_extra={**ENVIRONMENT, "unit": "machines"}
    )
    size: SizeSlug = Field(
        default="s-2vcpu-4gb", description="The size slug of each machine or node.", json_schema_extra={**ENVIRONMENT}
    )
    image: ImageSlug = Field(
        default=versions.SERVER_IMAGE,
        description="The image slug of each machine: Ubuntu 24.04, Debian 12 or Debian 13.",
    )
    snapshot: Snapshot = None
    concurrency: WholeNumber = Field(
        default=2,
        ge=1,
        le=50,
        description="How many jobs each machine runs at a time; of a cluster, how many it runs in all.",
        json_schema_extra={**ENVIRONMENT, "unit": "jobs"},
    )
    tags: tuple[Tag, ...] = Field(
        default=(), max_length=_MOST_TAGS, description="The tags whose jobs the runner takes."
    )
    untagged: bool = Field(default=True, description="Whether the runner takes jobs without tags.")
    access_level: AccessLevel = Field(
        default=AccessLevel.NOT_PROTECTED,
        description="`not_protected`: the runner takes jobs of every branch. `ref_protected`: only those of protected "
        "branches and tags, so that no job of another branch runs on its machines. Beside other runners it needs a tag "
        "of its own, by which the stack's pipeline finds it.",
    )
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
    docker_hub_cache: bool = Field(
        default=True,
        description="Whether each machine keeps what it and its jobs pull from Docker Hub for a week, and serves it to "
        "them alone. A runner with a `registryMirror` has no such cache, and one on Kubernetes neither. Each machine "
        "also fetches the images of the pipeline's own jobs before the first one.",
    )
    cluster: ClusterSettings = Field(
        default_factory=ClusterSettings, description="The cluster of a runner whose kind is `kubernetes`."
    )

    @property
    def is_cluster(self) -> bool:
        """Whether its jobs run on Kubernetes."""
        return self.kind is RunnerKind.KUBERNETES

    @property
    def keeps_caches(self) -> bool:
        """Whether it has a cluster, with a Space for what its jobs keep."""
        return self.is_cluster and self.cluster.cache_days is not None

    @property
    def has_cache(self) -> bool:
        """Whether its machines have a cache of Docker Hub."""
        return self.docker_hub_cache and not self.registry_mirror and not self.is_cluster

    @property
    def mirror_in_jobs(self) -> str | None:
        """The URL of what jobs pull the images of Docker Hub from, unless it is Docker Hub itself."""
        return DOCKER_HUB_CACHE if self.has_cache else self.registry_mirror

    @field_validator("tags")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value, "GitLab would keep one of them")
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """A runner that no job could run on, and settings of the other kind of runner."""
        if not self.tags and not self.untagged:
            message = (
                "has no tags and does not take untagged jobs; it would never run a job. "
                "Set tags, or set untagged to true"
            )
            yield Contradiction(("tags", "untagged"), message)
        if self.is_cluster and _release(self.version) < _OLDEST_ON_CLUSTERS:
            oldest = ".".join(str(part) for part in _OLDEST_ON_CLUSTERS)
            message = (
                f"is older than {oldest}, and would silently ignore what jobs on Kubernetes are promised and protected "
                f"by, such as their requests and their disruption budget. Use {versions.GITLAB_RUNNER}, for example"
            )
            yield Contradiction(("kind", "version"), message, "version")
        for name in sorted(self.model_fields_set & (_OF_MACHINES if self.is_cluster else _OF_CLUSTERS)):
            other = RunnerKind.MACHINES if self.is_cluster else RunnerKind.KUBERNETES
            message = (
                f"is a setting of a runner whose kind is {other}, and this one's is {self.kind}; it would be ignored. "
                "Remove it, or change the kind"
            )
            yield Contradiction(("kind", to_camel(name)), message, to_camel(name))


def tag_of_protected_jobs(runners: Sequence[RunnerSettings]) -> str | None:
    """Return the tag that sends jobs of protected branches and tags to those runners of a project that take no others.

    It is the first one that they all have and no other runner of the project has. One with a dollar or percent sign is
    left out, because the pipeline has it in a variable, where GitLab expands both.
    """
    guarded = [one for one in runners if one.access_level is AccessLevel.REF_PROTECTED]
    others = {tag for one in runners if one not in guarded for tag in one.tags}
    common = [tag for tag in guarded[0].tags if all(tag in one.tags for one in guarded)] if guarded else []
    return next((tag for tag in common if tag not in others and not set("$%") & set(tag)), None)


def _release(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in package.split(".")[:2])
