"""The section of a stack file about projects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from components.settings.deployment import EnvironmentSettings, deploy_contradictions, different_environments
from components.settings.gitlab_names import Branch, Group, ProjectPath, StageName
from components.settings.images import (
    NATIVE_PLATFORM,
    BuildSettings,
    ImageSettings,
    TestSettings,
    masked_contradictions,
    untestable,
)
from components.settings.members import Member
from components.settings.notifications import Notifications
from components.settings.patterns import LONGEST_KEPT, LONGEST_PROTECTED, pattern_errors
from components.settings.section import (
    ENVIRONMENT,
    PROMOTED,
    Contradiction,
    Section,
    refuse,
    refuse_repeats,
    whole_number,
)
from components.settings.shown import shown
from components.settings.strings import PublicText, matching
from components.settings.supply_chain import ProjectSupplyChain, SupplyChain
from components.settings.variables import Variable, variable_errors

#: What the jobs of the stack's pipeline rely on; a variable of the project would take precedence over it.
_OF_THE_PIPELINE: Final = re.compile(
    r"DOCKER_(HOST|CERT_PATH|TLS_VERIFY|TLS_CERTDIR|TLS|CONFIG|CONTEXT|API_VERSION|BUILDKIT|CONTENT_TRUST)"
    r"|BUILDKIT_HOST|BUILDX_(BUILDER|CONFIG)|BUILDAH_(ISOLATION|FORMAT)|REGISTRY_AUTH_FILE"
    r"|SLIPWAY_(RUNNER_TAG|SIGNING_KEY|DEPLOY_\w+)"
)
#: GitLab, Project.
_LONGEST_DESCRIPTION: Final = 2000
ProjectId = Annotated[
    str,
    AfterValidator(
        matching(
            r"[1-9]\d{0,18}",
            "is not a project ID; no project could be found. Use the project ID shown on the project's page",
        )
    ),
]


class ExtraStage(Section):
    """A stage of the pipeline after build, test and release: shell commands that can use the builder."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    name: StageName = Field(description="The name of the stage and its job.", examples=["deploy"])
    script: tuple[PublicText, ...] = Field(
        min_length=1,
        description="Shell commands. They run in the builder's image, logged in to the registry.",
    )
    default_branch_only: bool = Field(
        default=True, description="Whether the stage runs on the default branch only; `false` runs it on every branch."
    )


class ProjectSettings(Section):
    """A project in the administrator's namespace, or in an existing group.

    An imported project (`import_id`) keeps everything that is not set here, its path in GitLab included. The path here
    identifies the project in the stack: one that moves to another group stays the same project.
    """

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    path: ProjectPath = Field(
        description="The name of the project, unique in the stack. It identifies the project, which stays the same "
        "when it moves to another group. An imported project keeps its own path in GitLab.",
        examples=["hello"],
    )
    group: Group | None = Field(
        default=None,
        description="The full path of a group: an entry of `groups`, or an existing one. That can only exist once "
        "GitLab is up, so add it in a later update.",
        examples=["team/sub"],
        json_schema_extra={"unset": "the administrator's namespace"},
    )
    description: PublicText | None = Field(
        default=None,
        max_length=_LONGEST_DESCRIPTION,
        description="The description shown in GitLab.",
        json_schema_extra={"unset": "none; unchanged if imported"},
    )
    visibility: Literal["private", "internal", "public"] | None = Field(
        default=None,
        description="Who can see the project.",
        json_schema_extra={"unset": "`private`; unchanged if imported"},
    )
    default_branch: Branch | None = Field(
        default=None,
        description="The default branch, in which the sample and the pipeline are committed.",
        examples=["trunk"],
        json_schema_extra={"unset": "`main`; unchanged if imported"},
    )
    protect_default_branch: bool | None = Field(
        default=None,
        description="Whether the stack protects the default branch: maintainers push and merge, nobody rewrites its "
        "history.",
        json_schema_extra={"unset": "`true`; `false` if imported, which leaves its own protection unchanged"},
    )
    import_id: ProjectId | None = Field(
        default=None,
        description="The ID of an existing project to import, see below. It stays in GitLab when it leaves the stack.",
        examples=["42"],
        json_schema_extra={**ENVIRONMENT},
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
    build: BuildSettings | None = Field(
        default=None,
        description="How the image of the stack's pipeline is built.",
        json_schema_extra={"unset": "from `Dockerfile`, with the whole repository as its context"},
    )
    test: TestSettings | None = Field(
        default=None,
        description="How that image is tested.",
        json_schema_extra={"unset": "`npm test` with the sample, otherwise no tests"},
    )
    images: tuple[ImageSettings, ...] = Field(
        default=(),
        description="The images of a repository that has several, in place of `build` and `test`.",
        json_schema_extra={"unset": "one image, with the project's path"},
    )
    provenance: bool | None = Field(
        default=None,
        description="Whether images of the stack's pipeline carry a provenance attestation: a record, beside the image "
        "and under the same digest, of what it was built from and how. Only Docker writes one.",
        json_schema_extra={"unset": "`true` with Docker; Buildah writes none"},
    )
    supply_chain: ProjectSupplyChain | None = Field(
        default=None,
        description="What differs from the stack's `supplyChain` for this project.",
        json_schema_extra={"unset": "nothing"},
    )
    keep_images: Annotated[Literal[1, 5, 10, 25, 50, 100], BeforeValidator(whole_number)] | None = Field(
        default=None,
        description="How many images the cleanup policy keeps, in addition to `latest` and the default branch's image.",
        json_schema_extra={"unit": "images", "unset": "`10`; the policy is unchanged if imported"},
    )
    keep_tags: str | None = Field(
        default=None,
        description="A regular expression: the cleanup policy also keeps the tags that match it as a whole.",
        examples=["stable|v.*"],
        json_schema_extra={
            "unset": "`v?[0-9]+[.][0-9].*`, which versions such as `v1.2.0` match; the policy is unchanged if imported"
        },
    )
    cleanup: bool | None = Field(
        default=None,
        description="Whether a cleanup policy deletes images that are older than 30 days, once a day; `false` turns it "
        "off.",
        json_schema_extra={"unset": "`true`; the policy is unchanged if imported"},
    )
    protect_tags: bool | None = Field(
        default=None,
        description="Whether only maintainers, and jobs that they started, can push or delete the tags `latest` and "
        "that of the default branch, in all image repositories of the project.",
        json_schema_extra={"unset": "`true` if the stack protects the default branch, otherwise `false`"},
    )
    protected_tags: str | None = Field(
        default=None,
        description="A regular expression: the tags that match it as a whole are protected as well.",
        examples=[r"v\d+[.]\d+[.]\d+"],
        json_schema_extra={"unset": "none"},
    )
    variables: dict[str, Variable] = Field(
        default_factory=dict, description="CI/CD variables by name: letters, digits and underscores."
    )
    extra_stages: tuple[ExtraStage, ...] = Field(
        default=(), description="Stages of the pipeline after build, test and release."
    )
    deploy: tuple[EnvironmentSettings, ...] = Field(
        default=(),
        description="Where the stack's pipeline deploys what it has released from the default branch.",
        json_schema_extra={**ENVIRONMENT, "unset": "nowhere"},
    )
    members: tuple[Member, ...] = Field(
        default=(),
        description="Who works in the project, beside the members of its group. Users can only exist once GitLab is "
        "up, so add them in a later update.",
        json_schema_extra={**ENVIRONMENT, "unset": "nobody"},
    )
    notify: Notifications | None = Field(
        default=None,
        description="Who is notified of the project's failed pipelines, in place of `alerts.pipelines`; "
        "`{}` is nobody.",
        json_schema_extra={**ENVIRONMENT, "unset": "`alerts.pipelines`"},
    )
    receive_images: bool = Field(
        default=False,
        description="Whether the stack creates a deploy token that can push images to this project and nothing else, "
        "for the pipeline of another environment. The output `projects` has it as `push_username` and `push_token`.",
        json_schema_extra={**ENVIRONMENT},
    )
    runners: tuple[str, ...] = Field(
        default=("docker-builder",),
        description="The names of the runners that build for the project. A runner that only one project names is "
        "locked to it; one that several projects name is shared by them.",
    )

    @field_validator("keep_tags", "protected_tags")
    @classmethod
    def _is_pattern(cls, value: str | None, info: ValidationInfo) -> str | None:
        longest = LONGEST_KEPT if info.field_name == "keep_tags" else LONGEST_PROTECTED
        refuse(pattern_errors(value, longest) if value is not None else ())
        return value

    @field_validator("variables")
    @classmethod
    def _are_variables(cls, value: dict[str, Variable]) -> dict[str, Variable]:
        refuse(message for key in value for message in variable_errors(key))
        return value

    @field_validator("images")
    @classmethod
    def _are_different_images(cls, value: tuple[ImageSettings, ...]) -> tuple[ImageSettings, ...]:
        names = Counter(image.name for image in value)
        refuse(
            f"{shown(name)} is the name of two images; one would replace the other. Rename one of them"
            if name
            else "has two images without a name; one would replace the other. Give one of them a name"
            for name in names
            if names[name] > 1
        )
        return value

    @field_validator("members")
    @classmethod
    def _are_different_users(cls, value: tuple[Member, ...]) -> tuple[Member, ...]:
        refuse_repeats([one.user for one in value], "a user has one access only", same=str.lower)
        return value

    @field_validator("deploy")
    @classmethod
    def _are_different_environments(cls, value: tuple[EnvironmentSettings, ...]) -> tuple[EnvironmentSettings, ...]:
        refuse(different_environments(value))
        return value

    @field_validator("extra_stages")
    @classmethod
    def _have_different_names(cls, value: tuple[ExtraStage, ...]) -> tuple[ExtraStage, ...]:
        names = Counter(stage.name for stage in value)
        refuse(
            f"{shown(name)} is the name of two stages; the first one would be lost. Rename one of them"
            for name in names
            if names[name] > 1
        )
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """Keys that others make meaningless or harmful."""
        if self.cleanup is False and (self.keep_images is not None or self.keep_tags is not None):
            yield Contradiction(
                ("cleanup",),
                "has keepImages or keepTags, but cleanup is false; they would be ignored. Remove them, or set cleanup "
                "to true",
            )
        if self.protected_tags is not None and not self.protects_tags:
            yield Contradiction(
                ("importId", "protectDefaultBranch", "protectTags"),
                "has protectedTags, but the stack does not protect its tags; it would be ignored. "
                "Set protectTags to true, or remove it",
            )
        if self.import_id is not None and self.sample:
            yield Contradiction(
                ("importId", "sample"),
                "has sample, but is imported; the sample would overwrite the project's own files. "
                "Remove sample or importId",
            )
        if self.extra_stages and not self.has_pipeline:
            yield Contradiction(
                ("importId", "pipeline"),
                "has extraStages, but no pipeline that they could follow; they would be ignored. "
                "Set pipeline to true, or remove them",
            )
        if self.provenance is not None and not self.has_pipeline:
            yield Contradiction(
                ("importId", "pipeline"),
                "has provenance, but not the stack's pipeline, which it is about; it would be ignored. "
                "Set pipeline to true, or remove it",
            )
        yield from self._image_contradictions()
        yield from deploy_contradictions(self)
        for key in self.variables if self.has_pipeline else ():
            if _OF_THE_PIPELINE.fullmatch(key):
                yield Contradiction(
                    ("importId", "pipeline"),
                    f"{key} is set by GitLab or the pipeline; jobs would use this value instead. Choose another name",
                    "variables",
                )

    def _image_contradictions(self) -> Iterator[Contradiction]:
        """Settings of images that others make meaningless or harmful."""
        asked = {"build": self.build, "test": self.test, "images": self.images, "supplyChain": self.supply_chain}
        for key in [key for key, section in asked.items() if section]:
            if not self.has_pipeline:
                yield Contradiction(
                    ("importId", "pipeline", key),
                    f"has {key}, but not the stack's pipeline, which it is about; it would be ignored. "
                    "Set pipeline to true, or remove it",
                )
            if key in {"build", "test"} and self.images:
                yield Contradiction(
                    ("images", key),
                    f"has {key} and images; which of them it is about would not be known. "
                    "Move it into the entry of its image",
                )
        if self.build and self.build.platforms and NATIVE_PLATFORM not in self.build.platforms and self._script:
            yield Contradiction(("build.platforms", "test", "sample", "importId"), untestable(), "build")
        jobs = {f"{job}:{image.name}" for image in self.images for job in ("build", "test")}
        for stage in self.extra_stages:
            if stage.name in jobs:
                message = f"{stage.name} is the job of an image; it would be lost. Rename the stage"
                yield Contradiction(("images", "extraStages"), message, "extraStages")
        masked = {key for key, variable in self.variables.items() if variable.masked}
        for path, image in self._builds:
            yield from masked_contradictions(path, image, masked)

    @property
    def _builds(self) -> Iterator[tuple[str, BuildSettings]]:
        """What is said about building images, each with its key path."""
        if self.build:
            yield "build", self.build
        yield from ((f"images[{number}]", image) for number, image in enumerate(self.images))

    @property
    def _script(self) -> tuple[str, ...]:
        """The tests of the only image."""
        default = ("npm test",) if self.has_sample else ()
        return self.test.script if self.test is not None else default

    @property
    def is_built_as_the_sample(self) -> bool:
        """Whether nothing is said about its image, so that it is built and tested as the sample application is."""
        return self.has_sample and self.build is None and self.test is None and not self.images

    @property
    def built_images(self) -> tuple[ImageSettings, ...]:
        """The images that the stack's pipeline builds, whichever way they are written."""
        if self.images:
            return self.images
        build = self.build.model_dump() if self.build else {}
        test = self.test or TestSettings(script=self._script)
        return (ImageSettings.model_construct(**{**ImageSettings().model_dump(), **build, "test": test}),)

    @property
    def imported(self) -> bool:
        """Whether the project existed before the stack."""
        return self.import_id is not None

    @property
    def sets_cleanup_policy(self) -> bool:
        """Whether the settings say anything about the cleanup policy."""
        return any(value is not None for value in (self.cleanup, self.keep_images, self.keep_tags))

    @property
    def protects_default_branch(self) -> bool:
        """Whether the stack declares the protection of the default branch."""
        return self.protect_default_branch if self.protect_default_branch is not None else not self.imported

    @property
    def protects_tags(self) -> bool:
        """Whether the stack declares which tags of images only maintainers push: by default those that they release."""
        return self.protect_tags if self.protect_tags is not None else self.protects_default_branch

    @property
    def has_sample(self) -> bool:
        """Whether the sample application is committed to its repository."""
        return self.sample if self.sample is not None else not self.imported

    @property
    def has_pipeline(self) -> bool:
        """Whether the stack declares its pipeline."""
        return self.pipeline if self.pipeline is not None else not self.imported

    def signs(self, supply_chain: SupplyChain) -> bool:
        """Whether the stack's pipeline signs what it releases, with the stack's `supply_chain`."""
        return self.has_pipeline and supply_chain.of(self.supply_chain).sign
