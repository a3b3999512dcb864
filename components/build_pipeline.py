"""The text of `.gitlab-ci.yml`: build, test and release the images of a project, then its extra stages."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from components import versions
from components.rendering import render, script
from components.settings import (
    Builder,
    EnvironmentSettings,
    ExtraStage,
    ImageSettings,
    ProjectSettings,
    SupplyChain,
)
from components.settings.deployment import STAGE
from components.settings.images import REFERENCE

#: The exit code of a scan that has found something; Trivy's own errors are 1.
FOUND: Final = 10


@dataclass(frozen=True)
class PipelineImage:
    """One image, as the templates of the pipeline need it. All texts are parts of shell commands, and quoted.

    `is_sample` is whether it is built and tested as the sample application is. `key` is the key path of its settings,
    and `test_key` that of its tests, below the project.
    """

    settings: ImageSettings
    is_sample: bool = False
    key: str = "build"
    test_key: str = "test"

    @property
    def name(self) -> str:
        """What its jobs have behind their names."""
        return f":{self.settings.name}" if self.settings.name else ""

    @property
    def repository(self) -> str:
        """Its repository in the registry."""
        return f"$CI_REGISTRY_IMAGE/{self.settings.name}" if self.settings.name else "$CI_REGISTRY_IMAGE"

    @property
    def reference(self) -> str:
        """The file in which the build job hands on its digest."""
        return f"image-{self.settings.name}.txt" if self.settings.name else "image.txt"

    @property
    def dockerfile(self) -> str:
        """The path of its Dockerfile."""
        return shlex.quote(self.settings.file)

    @property
    def context(self) -> str:
        """The folder that is its context."""
        return shlex.quote(self.settings.context)

    @property
    def options(self) -> str:
        """The options of every build from its Dockerfile."""
        one = self.settings
        words = [f"--file {self.dockerfile}"] if one.file != "Dockerfile" else []
        words += [f"--build-arg {name}={_expanded(value)}" for name, value in one.args.items()]
        words += [f"--secret id={name},env={name}" for name in one.secrets]
        return " ".join(words)

    @property
    def build_options(self) -> str:
        """The options of its own build."""
        one = self.settings
        words = [f"--target {one.target}"] if one.target else []
        words += [f"--platform {','.join(one.platforms)}"] if one.platforms else []
        words += [f"--label {name}={_expanded(value)}" for name, value in one.labels.items()]
        return " ".join([*words, *([self.options] if self.options else [])])

    @property
    def platforms(self) -> list[tuple[str, str]]:
        """For each platform, the option of Trivy that chooses it, and what files about it have behind their names."""
        name = f"-{self.settings.name}" if self.settings.name else ""
        listed = self.settings.platforms
        return [(f" --platform {one}", f"{name}-{one.replace('/', '-')}") for one in listed] or [("", name)]

    @property
    def script(self) -> str:
        """Its tests, as one word of a command."""
        return shlex.quote("\n".join(self.settings.test.script))


@dataclass(frozen=True)
class PipelineEnvironment:
    """One environment, as the template of its deploy job needs it. `project` is the path of the project."""

    settings: EnvironmentSettings
    project: str

    @property
    def job(self) -> str:
        """The name of its job."""
        return f"{STAGE}:{self.settings.name}"

    @property
    def values(self) -> list[str]:
        """What the scripts of the job need to know: assignments in a shell."""
        one, check = self.settings, self.settings.health_check
        reference = PipelineImage(ImageSettings.model_construct(name=one.image)).reference
        values = {
            "CONTAINER": f"{self.project}-{one.slug}".lower(),
            "REFERENCE": reference,
            "PUBLISH": " ".join(one.publish),
            "VARIABLES": " ".join(one.variables),
            "HEALTH_PATH": check.path or "",
            "HEALTH_PORT": str(one.check_port or ""),
            "HEALTH_COMMAND": check.command or "",
            "HEALTH_SECONDS": str(check.timeout_seconds),
            "COMPOSE": one.compose or "",
            "PROXY_IMAGE": versions.PROXY_IMAGE if one.zero_downtime else "",
        }
        return [f"{name}={shlex.quote(value)}" for name, value in values.items()]


def pipeline_of(
    settings: ProjectSettings,
    builder: Builder,
    registry_mirror: str | None,
    protected_tag: str | None,
    supply_chain: SupplyChain,
    *,
    on_cluster: bool = False,
) -> str:
    """Return the text of a project's `.gitlab-ci.yml`; `supply_chain` is the stack's.

    `on_cluster` says that a runner of the project has a cluster, whose nodes come and go.
    """
    return pipeline(
        builder,
        settings.extra_stages,
        registry_mirror,
        # Buildah writes no provenance; the settings refuse to ask it for one.
        provenance=settings.provenance is not False,
        protected_tag=protected_tag,
        images=images_of(settings),
        supply_chain=supply_chain.of(settings.supply_chain),
        environments=[PipelineEnvironment(one, settings.path) for one in settings.deploy],
        on_cluster=on_cluster,
    )


def images_of(settings: ProjectSettings) -> list[PipelineImage]:
    """Return the images of a project's pipeline."""
    if not settings.images:
        [image] = settings.built_images
        return [PipelineImage(image, settings.is_built_as_the_sample)]
    return [
        PipelineImage(image, key=f"images[{number}]", test_key=f"images[{number}].test")
        for number, image in enumerate(settings.images)
    ]


def pipeline(
    builder: Builder,
    extra_stages: Sequence[ExtraStage],
    registry_mirror: str | None,
    *,
    provenance: bool = True,
    protected_tag: str | None = None,
    images: Sequence[PipelineImage] | None = None,
    supply_chain: SupplyChain | None = None,
    environments: Sequence[PipelineEnvironment] = (),
    on_cluster: bool = False,
) -> str:
    """Return the text of `.gitlab-ci.yml`; without `images`, for those of the sample application."""
    images = [PipelineImage(ImageSettings(), is_sample=True)] if images is None else images
    return render(
        f"gitlab-ci.{builder}.yml.j2",
        docker_version=versions.DOCKER,
        buildah_image=versions.BUILDAH_IMAGE,
        registry_mirror=registry_mirror,
        extra_stages=extra_stages,
        provenance=provenance,
        protected_tag=protected_tag,
        images=images,
        environments=environments,
        on_cluster=on_cluster,
        deploy_script=script("deploy/job.sh"),
        machine_script="".join(script(f"deploy/{name}.sh") for name in ("proxy", "compose", "machine")),
        tested=[image for image in images if image.is_sample or image.settings.test.script],
        chain=supply_chain or SupplyChain(),
        trivy_image=versions.TRIVY_IMAGE,
        cosign_image=versions.COSIGN_IMAGE,
        found=FOUND,
    )


def job_images(builder: Builder) -> tuple[str, ...]:
    """Return the images that the jobs of every pipeline with a builder start from, and their services."""
    if builder is Builder.BUILDAH:
        return (versions.BUILDAH_IMAGE,)
    return tuple(f"docker:{versions.DOCKER}-{variant}" for variant in ("dind", "cli"))


def _expanded(value: str) -> str:
    """A word of the shell in which nothing but CI/CD variables is expanded."""
    words, last = [], 0
    for found in REFERENCE.finditer(value):
        words.append(shlex.quote(value[last : found.start()]) if found.start() > last else "")
        name = found[1] or found[2]
        words.append(f'"${{{name}}}"' if name else "'$'")
        last = found.end()
    words.append(shlex.quote(value[last:]) if value[last:] or not words else "")
    return "".join(words)
