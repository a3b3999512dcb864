"""The section of a stack file about projects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from components.settings.gitlab_names import Branch, Group, ProjectPath, StageName
from components.settings.section import ENVIRONMENT, PROMOTED, Section, refuse
from components.settings.strings import PublicText, matching

#: The only values that GitLab masks (Ci::Maskable, for values in which nothing is expanded).
_MASKABLE: Final = re.compile(r"\S{8,}")
#: Set by GitLab for every job; a variable of the project would take precedence.
_PREDEFINED: Final = re.compile(r"CI|CI_(?!DEBUG_).*|GITLAB_CI")
#: What the jobs of the stack's pipeline rely on; a variable of the project would take precedence over it.
_OF_THE_PIPELINE: Final = re.compile(
    r"DOCKER_(HOST|CERT_PATH|TLS_VERIFY|TLS_CERTDIR|TLS|CONFIG|CONTEXT|API_VERSION|BUILDKIT|CONTENT_TRUST)"
    r"|BUILDKIT_HOST|BUILDX_(BUILDER|CONFIG)|BUILDAH_(ISOLATION|FORMAT)|REGISTRY_AUTH_FILE"
)
#: GitLab, Ci::Variable and Project.
_LONGEST_VALUE: Final = 10_000
_LONGEST_DESCRIPTION: Final = 2000
ProjectId = Annotated[
    str,
    AfterValidator(
        matching(
            r"\d+", "is not a project ID; no project could be found. Use the project ID shown on the project's page"
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


class Variable(Section):
    """A CI/CD variable of a project. Jobs get its value verbatim: nothing in it is expanded."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    value: SecretStr = Field(description="The value, which jobs get verbatim.")
    masked: bool = Field(default=True, description="Whether GitLab hides the value in job logs.")
    protected: bool = Field(
        default=False, description="Whether only jobs of protected branches and tags get the variable."
    )

    @field_validator("value")
    @classmethod
    def _fits(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) > _LONGEST_VALUE:
            message = (
                f"has more than {_LONGEST_VALUE} characters; GitLab would reject it. "
                "Keep it in a file that jobs download, and its password in the variable"
            )
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _can_be_masked(self) -> Self:
        if self.masked and not _MASKABLE.fullmatch(self.value.get_secret_value()):
            message = (
                "has a value that cannot be masked; GitLab would reject it. "
                "Use at least 8 characters without spaces or line breaks, or set masked to false"
            )
            raise ValueError(message)
        return self


#: GitLab stores patterns of up to 255 characters; the rest is for the tags that are kept anyway.
_LONGEST_PATTERN: Final = 150


def _pattern_errors(value: str) -> Iterator[str]:
    try:
        re.compile(value)
    except re.error as error:
        yield f"{value!r} is not a regular expression ({error}); GitLab would reject it. Correct it"
    if re.search(r"\(\?<?[=!]|\\[1-9]", value):
        yield (
            f"{value!r} looks around or back; GitLab's expressions (RE2) cannot, and it would reject this one. "
            "Use an expression without that"
        )
    if len(value) > _LONGEST_PATTERN:
        yield f"has {len(value)} characters; GitLab would reject it. Use at most {_LONGEST_PATTERN}"


def _variable_errors(key: str, *, of_the_stack: bool) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", key):
        yield (
            f"{key} is not a variable name; GitLab would reject it, or no shell could set it. "
            "Use at most 255 letters, digits and underscores, not starting with a digit"
        )
    elif _PREDEFINED.fullmatch(key) or (of_the_stack and _OF_THE_PIPELINE.fullmatch(key)):
        yield f"{key} is set by GitLab or the pipeline; jobs would use this value instead. Choose another name"


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
        description="The full path of an existing group. Groups can only exist once GitLab is up, so add it in a later "
        "update.",
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
    provenance: bool | None = Field(
        default=None,
        description="Whether images of the stack's pipeline carry a provenance attestation: a record, beside the image "
        "and under the same digest, of what it was built from and how. Only Docker writes one.",
        json_schema_extra={"unset": "`true` with Docker; Buildah writes none"},
    )
    keep_images: Literal[1, 5, 10, 25, 50, 100] | None = Field(
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
    variables: dict[str, Variable] = Field(
        default_factory=dict, description="CI/CD variables by name: letters, digits and underscores."
    )
    extra_stages: tuple[ExtraStage, ...] = Field(
        default=(), description="Stages of the pipeline after build, test and release."
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

    @field_validator("keep_tags")
    @classmethod
    def _is_pattern(cls, value: str | None) -> str | None:
        refuse(_pattern_errors(value or ""))
        return value

    @field_validator("variables")
    @classmethod
    def _are_variables(cls, value: dict[str, Variable], info: ValidationInfo) -> dict[str, Variable]:
        pipeline = info.data.get("pipeline")
        of_the_stack = pipeline if pipeline is not None else info.data.get("import_id") is None
        refuse(message for key in value for message in _variable_errors(key, of_the_stack=of_the_stack))
        return value

    @field_validator("extra_stages")
    @classmethod
    def _have_different_names(cls, value: tuple[ExtraStage, ...]) -> tuple[ExtraStage, ...]:
        names = Counter(stage.name for stage in value)
        refuse(
            f"{name} is the name of two stages; the first one would be lost. Rename one of them"
            for name in names
            if names[name] > 1
        )
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        refuse(self._contradictions())
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.cleanup is False and (self.keep_images is not None or self.keep_tags is not None):
            yield (
                "has keepImages or keepTags, but cleanup is false; they would be ignored. Remove them, or set cleanup "
                "to true"
            )
        if self.import_id is not None and self.sample:
            yield (
                "has sample, but is imported; the sample would overwrite the project's own files. "
                "Remove sample or importId"
            )
        if self.extra_stages and not self.has_pipeline:
            yield (
                "has extraStages, but no pipeline that they could follow; they would be ignored. "
                "Set pipeline to true, or remove them"
            )
        if self.provenance is not None and not self.has_pipeline:
            yield (
                "has provenance, but not the stack's pipeline, which it is about; it would be ignored. "
                "Set pipeline to true, or remove it"
            )

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
    def has_sample(self) -> bool:
        """Whether the sample application is committed to its repository."""
        return self.sample if self.sample is not None else not self.imported

    @property
    def has_pipeline(self) -> bool:
        """Whether the stack declares its pipeline."""
        return self.pipeline if self.pipeline is not None else not self.imported
