"""The settings of a project about its images: how each is built, and how it is tested."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from components.settings.section import PROMOTED, Contradiction, Section, refuse, refuse_repeats
from components.settings.shown import shown
from components.settings.strings import PublicText, matching

#: The one platform of all droplets, which runs the commands of a build and the tests.
NATIVE_PLATFORM: Final = "linux/amd64"
#: A CI/CD variable in the value of a build argument, or an escaped dollar sign, as GitLab writes both.
REFERENCE: Final = re.compile(r"\$\$|\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Names that are secrets wherever they are seen. What has PUBLIC in its name is meant to be read.
_SECRET_NAME: Final = re.compile(
    r"(?!.*PUBLIC)(.*_)?(TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIALS?|AUTH|(API|ACCESS|PRIVATE|SECRET|SSH)_?KEY)",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"(?=.{1,128}$)[A-Za-z0-9]+([._/-][A-Za-z0-9]+)*")
_LONGEST_ARGUMENT: Final = 4096
_LONGEST_PATH: Final = 255
#: Beside the images: where Buildah keeps layers.
_CACHES: Final = frozenset({"cache", "cache-protected"})


def _path(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        message = (
            f"{shown(value)} leads out of the repository; jobs have nothing else. "
            "Give a path relative to its root, such as api/Dockerfile"
        )
        raise ValueError(message)
    if not value.strip() or not value.isprintable() or value.startswith("-") or len(value) > _LONGEST_PATH:
        message = (
            "is not the path of a file or folder; the build would not find it. "
            "Give a path relative to the root of the repository, such as api/Dockerfile"
        )
        raise ValueError(message)
    return value.removeprefix("./").rstrip("/") or "."


def _argument(value: str) -> str:
    if "\n" in value or "\r" in value or len(value) > _LONGEST_ARGUMENT:
        message = (
            f"has line breaks, or more than {_LONGEST_ARGUMENT} characters; the build would get something else. "
            "Put the text in a file of the repository"
        )
        raise ValueError(message)
    return value


def _not_a_cache(value: str) -> str:
    if value in _CACHES:
        message = f"{value} is the repository of cached layers; they would be mixed with it. Choose another name"
        raise ValueError(message)
    return value


RepositoryPath = Annotated[str, AfterValidator(_path)]
BuildTarget = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}",
            "is not the name of a stage of a Dockerfile; the build would not find it. "
            "Use the name after AS in its FROM line",
        )
    ),
]
ImageName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{1,100}$)[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*",
            "is not the name of an image; the registry would reject it. Use at most 100 lowercase letters and digits, "
            "with single dots, dashes or underscores between them",
        )
    ),
    AfterValidator(_not_a_cache),
]
#: What official images are published for.
Platform = Annotated[
    str,
    AfterValidator(
        matching(
            r"linux/(amd64|arm64|arm/v[67]|386|ppc64le|riscv64|s390x)",
            "is not a platform of containers; nothing could be built for it. Use linux/amd64, linux/arm64, "
            "linux/arm/v7, linux/arm/v6, linux/386, linux/ppc64le, linux/riscv64 or linux/s390x",
        )
    ),
]
VariableName = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z_][A-Za-z0-9_]{0,254}",
            "is not the name of a CI/CD variable; the build would get nothing. "
            "Give the name alone, without a dollar sign and without the value",
        )
    ),
]


class TestSettings(Section):
    """How an image is tested before its release."""

    # For pytest, which would collect it by its name.
    __test__ = False
    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    script: tuple[PublicText, ...] = Field(
        default=(),
        description="Shell commands, which run one after another in one container of the image, with `sh` and in the "
        "image's working directory. An empty list means no tests.",
        examples=["pytest"],
    )
    target: BuildTarget | None = Field(
        default=None,
        description="The stage of the Dockerfile in which the commands run, if the released image lacks a shell or "
        "the tools of the tests. The job builds it from the same commit.",
        examples=["build"],
        json_schema_extra={"unset": "the released image"},
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """A stage for tests without tests that run in it."""
        if self.target is not None and not self.script:
            message = "has a target, but no script; nothing would be tested. Add the commands, or remove target"
            yield Contradiction(("script", "target"), message)


class BuildSettings(Section):
    """How one image is built."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    dockerfile: RepositoryPath | None = Field(
        default=None,
        description="The path of the Dockerfile, from the root of the repository.",
        examples=["docker/Dockerfile"],
        json_schema_extra={"unset": "`Dockerfile` in the context"},
    )
    context: RepositoryPath = Field(
        default=".",
        description="The folder whose files the build can copy, from the root of the repository; `.` is the root.",
    )
    target: BuildTarget | None = Field(
        default=None,
        description="The stage of the Dockerfile that becomes the image.",
        examples=["runtime"],
        json_schema_extra={"unset": "the last one"},
    )
    args: dict[str, Annotated[PublicText, AfterValidator(_argument)]] = Field(
        default_factory=dict,
        description="Build arguments by name. `$NAME` and `${NAME}` in a value stand for CI/CD variables, `$$` for a "
        "dollar sign. Everyone who can pull the image can read them: secrets are refused, and belong in `secrets`.",
        examples=[{"VERSION": "$CI_COMMIT_SHORT_SHA"}],
    )
    labels: dict[str, Annotated[PublicText, AfterValidator(_argument)]] = Field(
        default_factory=dict,
        description="Labels of the image by name, with the same variables in their values. Kamal deploys images whose "
        "label `service` is the name of its service.",
        examples=[{"service": "hello"}],
    )
    secrets: tuple[VariableName, ...] = Field(
        default=(),
        description="Names of CI/CD variables whose values the build can read and the image does not keep, with "
        "`RUN --mount=type=secret,id=NAME`.",
        examples=["NPM_TOKEN"],
    )
    platforms: tuple[Platform, ...] = Field(
        default=(),
        description=f"The platforms of the image, under one digest. Nothing on the runners emulates other processors: "
        f"`RUN` works for `{NATIVE_PLATFORM}` only, so a Dockerfile for others must compile in a stage `FROM "
        "--platform=$BUILDPLATFORM`, or only copy files.",
        examples=["linux/arm64"],
        json_schema_extra={"unset": f"`{NATIVE_PLATFORM}`, that of the runners"},
    )

    @field_validator("args")
    @classmethod
    def _are_public(cls, value: dict[str, str]) -> dict[str, str]:
        refuse(message for key, text in value.items() for message in _argument_errors(key, text))
        return value

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, value: dict[str, str]) -> dict[str, str]:
        refuse(message for key, text in value.items() for message in _label_errors(key, text))
        return value

    @field_validator("platforms", "secrets")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value)
        return value

    @property
    def file(self) -> str:
        """The path of the Dockerfile from the root of the repository."""
        return self.dockerfile or ("Dockerfile" if self.context == "." else f"{self.context}/Dockerfile")


class ImageSettings(BuildSettings):
    """One of several images of a project."""

    name: ImageName | None = Field(
        default=None,
        description="The name of the image, which follows the project's path: `REGISTRY/GROUP/PROJECT/NAME`. Its jobs "
        "have it, too, such as `build:api`. One image can do without: it has the project's path.",
        examples=["api"],
        json_schema_extra={"unset": "the project's own path"},
    )
    test: TestSettings = Field(default_factory=TestSettings, description="How the image is tested before its release.")

    def contradictions(self) -> Iterator[Contradiction]:
        """Tests of an image that no runner can start."""
        if self.platforms and NATIVE_PLATFORM not in self.platforms and self.test.script:
            yield Contradiction(("platforms", "test"), untestable())


def untestable() -> str:
    """The message for an image that has tests and no platform on which they can run."""
    return (
        f"has tests, but not the platform {NATIVE_PLATFORM}, which runners have; they could not start it. "
        f"Add {NATIVE_PLATFORM} to platforms, or test nothing (script: [])"
    )


def masked_contradictions(path: str, image: BuildSettings, masked: set[str]) -> Iterator[Contradiction]:
    """Masked variables where everyone who can pull the image reads them; `path` is its key path."""
    for kind, values in (("args", image.args), ("labels", image.labels)):
        for key, value in values.items():
            for name in sorted(masked.intersection(references(value))):
                way_out = f"Add {name} to secrets and read it with RUN --mount=type=secret,id={name}, or set"
                message = (
                    f"{key} has {name}, which is a masked variable; everyone who can pull the image could read it in "
                    f"its history. {way_out if kind == 'args' else 'Remove it, or set'} its masked to false"
                )
                yield Contradiction((f"{path}.{kind}", "variables"), message, f"{path}.{kind}")


def references(value: str) -> list[str]:
    """The names of the CI/CD variables in the value of a build argument."""
    return [name for found in REFERENCE.finditer(value) if (name := found[1] or found[2])]


def _argument_errors(key: str, value: str) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", key):
        yield (
            f"{shown(key)} is not the name of a build argument; no Dockerfile could use it. "
            "Use letters, digits and underscores, not starting with a digit, as after ARG in the Dockerfile"
        )
        return
    if secret := _secret_in(key, value):
        yield (
            f"{key} {'looks like a secret' if secret == key else f'has {secret}, which looks like a secret'}; everyone "
            f"who can pull the image could read it in its history. Add the variable's name to secrets, and read it "
            f"with RUN --mount=type=secret,id={secret}; if it is not a secret, give it another name"
        )


def _label_errors(key: str, value: str) -> Iterator[str]:
    if not _LABEL.fullmatch(key):
        yield (
            f"{shown(key)} is not the name of a label; tools would not find it. Use letters and digits, with dots or "
            "dashes between them, such as service or org.opencontainers.image.source"
        )
    elif secret := _secret_in(key, value):
        yield (
            f"{key} {'looks like a secret' if secret == key else f'has {secret}, which looks like a secret'}; everyone "
            "who can pull the image could read it. Remove it; if it is not a secret, give it another name"
        )


def _secret_in(key: str, value: str) -> str | None:
    """What looks like a secret: the name of an argument or label, or a variable in its value."""
    return next((name for name in [key, *references(value)] if _SECRET_NAME.fullmatch(name)), None)
