"""The settings of a project about where its image is deployed: environments, each a container on a machine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from components.settings.images import ImageName, RepositoryPath
from components.settings.section import ENVIRONMENT, Contradiction, Section, WholeNumber, refuse_repeats, whole_number
from components.settings.server import is_public_key
from components.settings.shown import shown
from components.settings.strings import PublicText, matching
from components.settings.targets import DropletSettings, machine_contradictions, machine_port

if TYPE_CHECKING:
    from components.settings.projects import ProjectSettings

#: The stage of the pipeline, and the beginning of its jobs' names.
STAGE: Final = "deploy"
#: What the deploy job, or the programs that it calls, would take for their own.
_NOT_FOR_CONTAINERS: Final = re.compile(
    r"PATH|HOME|IFS|ENV|SHELLOPTS|DOCKER_.*|LD_.*|SLIPWAY_.*"
    # Values of the job's script, in components/build_pipeline.py.
    r"|CONTAINER|REFERENCE|PUBLISH|VARIABLES|HEALTH_(PATH|PORT|COMMAND|SECONDS)|COMPOSE(_.*)?|PROXY_IMAGE",
    re.IGNORECASE,
)
_LAST_PORT: Final = 65535
_LONGEST_NAME: Final = 63
_LONGEST_KEY: Final = 10_000
_PUBLISHED: Final = re.compile(r"(?:(\d{1,3}(?:\.\d{1,3}){3}):)?(\d{1,5}):(\d{1,5})(/udp)?", re.ASCII)


def _environment_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._/-]*[a-z0-9])?", value, re.ASCII) or "//" in value:
        message = (
            "is not the name of an environment; GitLab would reject it, or its variables would not be found. "
            "Use lowercase letters and digits, with dots, dashes, slashes or underscores between them"
        )
        raise ValueError(message)
    if len(value) > _LONGEST_NAME:
        message = f"is longer than {_LONGEST_NAME} characters; its names would be cut. Choose a shorter one"
        raise ValueError(message)
    return value


def _published(value: str) -> str:
    found = _PUBLISHED.fullmatch(value)
    if not found or not all(1 <= int(port) <= _LAST_PORT for port in found.group(2, 3)):
        message = (
            "is not a published port; Docker would not start the container. Use HOST:CONTAINER such as 80:3000, "
            "with an address of the machine in front where only that one is to answer: 127.0.0.1:8080:3000"
        )
        raise ValueError(message)
    return value


def _for_containers(value: str) -> str:
    if _NOT_FOR_CONTAINERS.fullmatch(value):
        message = f"{value} steers the programs of the deploy job; the deployment would fail. Choose another name"
        raise ValueError(message)
    return value


def _host_key(value: str) -> str:
    if not is_public_key(value):
        message = (
            "is not the host key of a machine, or not the whole of one; no connection would be accepted. "
            "Paste the first two words of /etc/ssh/ssh_host_ed25519_key.pub on that machine"
        )
        raise ValueError(message)
    return " ".join(value.split(" ")[:2])


EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
EnvironmentUrl = Annotated[
    str,
    AfterValidator(
        matching(
            r"https?://[A-Za-z0-9][A-Za-z0-9.:/_~%?=&-]*",
            "is not the URL of an application; GitLab would reject it. Give the whole URL, with https://",
        )
    ),
]
TargetHost = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:]{2,39}",
            "is not the name or address of a machine; the job would not find it. Use one such as www.example.com or "
            "203.0.113.7, without a user or a port",
        )
    ),
]
TargetUser = Annotated[
    str,
    AfterValidator(
        matching(
            r"[a-z_][a-z0-9_-]{0,31}",
            "is not the name of a user on Linux; the login would fail. "
            "Use at most 32 lowercase letters, digits, dashes and underscores",
        )
    ),
]
HostKey = Annotated[str, AfterValidator(_host_key)]
PublishedPort = Annotated[str, AfterValidator(_published)]
ContainerVariable = Annotated[
    str,
    AfterValidator(
        matching(
            r"[A-Za-z_][A-Za-z0-9_]{0,254}",
            "is not the name of a CI/CD variable; the container would get nothing. "
            "Give the name alone, without a dollar sign and without the value",
        )
    ),
    AfterValidator(_for_containers),
]
HealthPath = Annotated[
    str,
    AfterValidator(
        matching(
            r"/[A-Za-z0-9._~/%?=&-]{0,250}",
            "is not the path of a page; it would never answer. Use one such as / or /health, without the host",
        )
    ),
]


class HealthCheck(Section):
    """How a new container shows that it works: by the page at `path`, or by `command`."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    path: HealthPath | None = Field(
        default=None,
        description="A page of the application: the container is healthy once it answers with a status below 400.",
        examples=["/health"],
        json_schema_extra={"unset": "not asked"},
    )
    port: Annotated[int, Field(ge=1, le=_LAST_PORT), BeforeValidator(whole_number)] | None = Field(
        default=None,
        description="The container's port on which the page is.",
        examples=[3000],
        json_schema_extra={"unset": "the container's port in the first entry of `publish`"},
    )
    command: PublicText | None = Field(
        default=None,
        max_length=4096,
        description="A shell command in the container, which needs `sh` for it: it is healthy once that succeeds.",
        examples=["pg_isready"],
        json_schema_extra={"unset": "not run"},
    )
    timeout_seconds: WholeNumber = Field(
        default=60, ge=1, le=1800, description="How long it may take.", json_schema_extra={"unit": "seconds"}
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """Nothing to check, or two things."""
        if (self.path is None) is (self.command is None):
            state = "has neither path nor command" if self.path is None else "has path and command"
            message = f"{state}; which release is broken would not be known. Set one of them"
            yield Contradiction(("path", "command"), message)
        if self.port is not None and self.path is None:
            message = "has a port, but no path to ask for there; it would be ignored. Set path, or remove port"
            yield Contradiction(("path", "port"), message)


class EnvironmentSettings(Section):
    """An environment of a project: one container on one machine, which has Docker and is reached over SSH.

    The machine is one of yours, or a droplet of the stack.
    """

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    name: EnvironmentName = Field(
        description="The name of the environment in GitLab; the job is `deploy:NAME`.", examples=["production"]
    )
    url: EnvironmentUrl | None = Field(
        default=None,
        description="Where the application is, for GitLab's pages to link to.",
        examples=["https://www.example.com"],
        json_schema_extra={"unset": "no link"},
    )
    droplet: DropletSettings | None = Field(
        default=None,
        description="A droplet that the stack makes for this environment, in place of `host`, `user` and `hostKey`. "
        "`{}` is a small one. What runs on it is not kept.",
        json_schema_extra={"unset": "a machine of yours"},
    )
    host: TargetHost | None = Field(
        default=None,
        description="The machine, by its name or address.",
        examples=["203.0.113.7"],
        json_schema_extra={"unset": "required without `droplet`"},
    )
    port: WholeNumber = Field(default=22, ge=1, le=_LAST_PORT, description="The port of its SSH server.")
    user: TargetUser | None = Field(
        default=None,
        description="The user of the job there, who may use Docker.",
        examples=["deploy"],
        json_schema_extra={"unset": "required without `droplet`"},
    )
    host_key: HostKey | None = Field(
        default=None,
        description="The machine's public SSH host key. No other machine gets the image or a secret.",
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJgnNkZXhM4x1u7yZkA2mcBKR8F5oL4m4yGcIVy0TSnY"],
        json_schema_extra={"unset": "required without `droplet`"},
    )
    ssh_key: SecretStr | None = Field(
        default=None,
        description="The private key of the job, without a passphrase.",
        json_schema_extra={"unset": "generated; the output `projects` has its public half"},
    )
    image: ImageName | None = Field(
        default=None,
        description="The name of the image, of a project that has several.",
        examples=["api"],
        json_schema_extra={"unset": "the one with the project's path"},
    )
    publish: tuple[PublishedPort, ...] = Field(
        default=(),
        description="Ports of the container that the machine answers on, as `HOST:CONTAINER` or "
        "`ADDRESS:HOST:CONTAINER`.",
        examples=["80:3000"],
        json_schema_extra={"unset": "none"},
    )
    variables: tuple[ContainerVariable, ...] = Field(
        default=(),
        description="Names of CI/CD variables that become environment variables of the container; with `compose`, "
        "those that the file can use.",
        examples=["DATABASE_URL"],
        json_schema_extra={"unset": "none"},
    )
    health_check: HealthCheck = Field(description="How a new container shows that it works.")
    zero_downtime: bool = Field(
        default=False,
        description="Whether a proxy on the machine has the port, so that a deployment leaves no request without an "
        "answer. For HTTP, with one entry in `publish`; the page of the health check has to answer with a status "
        "below 300.",
    )
    compose: RepositoryPath | None = Field(
        default=None,
        description="A Compose file of the repository, with the services that run in place of the one container. They "
        "get the released image as `${IMAGE}`, and ports from the file. The machine needs Docker Compose 2.22.",
        examples=["compose.yaml"],
        json_schema_extra={"unset": "one container"},
    )
    manual: bool | None = Field(
        default=None,
        description="Whether somebody has to start the job, in GitLab's pipeline or on the page of the environment.",
        json_schema_extra={"unset": "`true` for `production` and names that begin with `production/`"},
    )

    @field_validator("ssh_key")
    @classmethod
    def _is_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _is_usable(value.get_secret_value()):
            message = (
                "is not a private SSH key without a passphrase; the job could not log in. Make one for this job alone "
                "with ssh-keygen -t ed25519 -N '' and give the whole file, or remove sshKey: one is then generated"
            )
            raise ValueError(message)
        return value

    @field_validator("publish", "variables")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(value)
        return value

    def contradictions(self) -> Iterator[Contradiction]:
        """A page without a port, and what the machine or the way to run the image does not allow."""
        yield from machine_contradictions(self)
        if self.health_check.path is not None and self.check_port is None:
            message = (
                "has a path, but neither it nor publish names a port of the container; nothing could be asked. "
                "Set port, or publish one"
            )
            yield Contradiction(("healthCheck.path", "healthCheck.port", "publish"), message, "healthCheck")
        yield from self._zero_downtime_contradictions()
        yield from self._compose_contradictions()

    def _zero_downtime_contradictions(self) -> Iterator[Contradiction]:
        if not self.zero_downtime or self.compose is not None:
            return
        if len(self.publish) != 1 or self.publish[0].endswith("/udp"):
            message = (
                "is set, but publish has not exactly one entry, for TCP; the proxy could not have the port. "
                "Publish the one port that speaks HTTP, or remove zeroDowntime"
            )
            yield Contradiction(("publish", "zeroDowntime"), message, "zeroDowntime")
        if self.health_check.command is not None:
            message = (
                "is set, but healthCheck has a command; the proxy would not know when the new container takes "
                "requests. Set healthCheck.path in its place, or remove zeroDowntime"
            )
            yield Contradiction(("healthCheck.command", "zeroDowntime"), message, "zeroDowntime")
        if "?" in (self.health_check.path or ""):
            message = (
                "is set, but healthCheck.path has a question mark; the proxy would ask for another page. "
                "Use a page without a query, or remove zeroDowntime"
            )
            yield Contradiction(("healthCheck.path", "zeroDowntime"), message, "zeroDowntime")

    def _compose_contradictions(self) -> Iterator[Contradiction]:
        if self.compose is None:
            return
        if self.zero_downtime:
            message = (
                "is set beside compose; the services of the file have their ports themselves, so there would be no "
                "proxy. Remove one of them"
            )
            yield Contradiction(("compose", "zeroDowntime"), message, "zeroDowntime")
        if self.publish:
            message = (
                "is set beside compose, whose file says which ports the machine answers on; it would be ignored. "
                "Move the ports to the file, and set healthCheck.port"
            )
            yield Contradiction(("compose", "publish"), message, "publish")
        if any(name.upper() == "IMAGE" for name in self.variables):
            message = "has IMAGE, which is the released image; it would be replaced. Choose another name"
            yield Contradiction(("compose", "variables"), message, "variables")

    @property
    def slug(self) -> str:
        """Its name, as names of resources and containers have it."""
        return re.sub(r"[^a-z0-9]", "-", self.name)

    @property
    def is_manual(self) -> bool:
        """Whether somebody has to start its job."""
        return self.manual if self.manual is not None else self.name.split("/")[0] == "production"

    @property
    def check_port(self) -> int | None:
        """The container's port on which the page of the health check is."""
        published = next(iter(self.publish), "").removesuffix("/udp").rpartition(":")[2]
        return self.health_check.port or (int(published) if published else None)


def different_environments(value: tuple[EnvironmentSettings, ...]) -> Iterator[str]:
    """Errors of environments that would replace each other."""
    names = Counter(one.slug for one in value)
    for one in value:
        if names[one.slug] > 1:
            yield f"{shown(one.name)} is named like another environment; one would replace it. Rename one of them"
    named = [one for one in value if one.host is not None]
    ports = Counter((one.host, port) for one in named for port in {machine_port(each) for each in one.publish})
    for (host, port), count in ports.items():
        if count > 1:
            yield f"{port} of {host} is published by two environments; only one could start. Change one of them"


def deploy_contradictions(project: ProjectSettings) -> Iterator[Contradiction]:
    """Environments that other keys of the project make meaningless or unsafe."""
    if not project.deploy:
        return
    if not project.has_pipeline:
        message = (
            "has deploy, but not the stack's pipeline, which deploys; it would be ignored. "
            "Set pipeline to true, or remove it"
        )
        yield Contradiction(("importId", "pipeline"), message)
    if project.protect_default_branch is False:
        message = (
            "has deploy, but protectDefaultBranch is false; every developer could use the deploy key, so GitLab would "
            "not give it to the job. Set protectDefaultBranch to true, or remove deploy"
        )
        yield Contradiction(("protectDefaultBranch",), message)
    names = {image.name for image in project.images} or {None}
    for number, one in enumerate(project.deploy):
        if one.image not in names:
            known = ", ".join(sorted(name for name in names if name)) or "none, as there is only one"
            message = (
                f"{shown(one.image) if one.image else 'nothing'} is not one of the project's images; the job would "
                f"have nothing to deploy. Set it to one of: {known}"
            )
            yield Contradiction(("images", f"deploy[{number}].image"), message, f"deploy[{number}].image")
    jobs = {STAGE} | {f"{STAGE}:{one.name}" for one in project.deploy}
    for stage in project.extra_stages:
        if stage.name in jobs:
            message = f"{stage.name} is the stage or a job of deploy; it would be lost. Rename the stage"
            yield Contradiction(("extraStages", "deploy"), message, "extraStages")


def _is_usable(text: str) -> bool:
    """Whether ssh can log in with a private key and nobody at the keyboard."""
    # It takes long to load, and few stacks need it.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
        load_ssh_private_key,
    )

    data = text.strip().encode() + b"\n"
    load = load_ssh_private_key if "BEGIN OPENSSH" in text else load_pem_private_key
    try:
        load(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return len(text) <= _LONGEST_KEY
