"""The droplet of an environment: a machine of the stack that a project is deployed to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from components import versions
from components.settings.section import ENVIRONMENT, Contradiction, Section, refuse_repeats, whole_number
from components.settings.strings import LONGEST_HOST_NAME, ImageSlug, SizeSlug

if TYPE_CHECKING:
    from components.settings.deployment import EnvironmentSettings
    from components.settings.stack_file import Settings
    from components.settings.validation import Validity

_SSH: Final = 22
#: Debian 12, whose package docker-compose is version 1.
_WITHOUT_COMPOSE: Final = "debian-12-x64"


class DropletSettings(Section):
    """A droplet of the stack for one environment, in place of a machine of yours."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    size: SizeSlug = Field(
        default="s-1vcpu-1gb",
        description="The size slug of a droplet that the stack makes for this environment, in place of `host`, `user` "
        "and `hostKey`; `droplet: {}` is enough. What runs on it is not kept.",
    )
    image: ImageSlug = Field(
        default=versions.SERVER_IMAGE,
        description="The image slug of the droplet: Ubuntu 24.04, Debian 12 or Debian 13. Another one replaces it, and "
        "what runs there is lost.",
    )
    open_ports: tuple[Annotated[int, Field(ge=1, le=65535), BeforeValidator(whole_number)], ...] | None = Field(
        default=None,
        description="The TCP ports that are open to everybody, beside SSH for runners and administrators.",
        examples=[[80, 443]],
        json_schema_extra={"unset": "those of `publish`, except on addresses such as 127.0.0.1"},
    )

    @field_validator("open_ports")
    @classmethod
    def _are_open_once(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        refuse_repeats([str(port) for port in value or ()])
        if _SSH in (value or ()):
            message = (
                "has 22, the port of SSH; everybody could try to log in. Remove it: runners and adminCidrs have SSH"
            )
            raise ValueError(message)
        return value


def machine_contradictions(environment: EnvironmentSettings) -> Iterator[Contradiction]:
    """Neither a machine nor a droplet, or both."""
    login = {"host": environment.host, "user": environment.user, "hostKey": environment.host_key}
    if environment.droplet is None:
        for key in [key for key, value in login.items() if value is None]:
            message = (
                "is missing; the job would not find its machine, or would not be let in. Set host, user and hostKey; "
                "or droplet, and the stack makes a machine"
            )
            yield Contradiction((key, "droplet"), message, key)
        return
    given = [key for key, value in {**login, "sshKey": environment.ssh_key}.items() if value is not None]
    given += ["port"] if "port" in environment.model_fields_set else []
    for key in given:
        message = "is set beside droplet, of which the stack knows it; it would be ignored. Remove one of them"
        yield Contradiction((key, "droplet"), message, key)
    if environment.compose is not None:
        yield from _compose_contradictions(environment.droplet)
    if any(machine_port(one) == str(_SSH) for one in environment.publish):
        message = "has port 22 of the droplet, which SSH uses; no container could start. Choose another one"
        yield Contradiction(("publish", "droplet"), message, "publish")


def _compose_contradictions(droplet: DropletSettings) -> Iterator[Contradiction]:
    if droplet.open_ports is None:
        message = (
            "has no openPorts, and compose has the ports in its file; nobody would reach them. List those that are for "
            "everybody, or set openPorts to []"
        )
        yield Contradiction(("compose", "droplet"), message, "droplet")
    if droplet.image == _WITHOUT_COMPOSE:
        message = (
            f"{droplet.image} has version 1 of Docker Compose; no deployment would succeed. Use another image, or "
            "remove compose"
        )
        yield Contradiction(("compose", "droplet"), message, "droplet.image")


def open_ports(environment: EnvironmentSettings) -> list[tuple[str, int]]:
    """The ports of its droplet that are open to everybody, each after its protocol."""
    if environment.droplet is None:
        return []
    if environment.droplet.open_ports is not None:
        return [("tcp", port) for port in environment.droplet.open_ports]
    public = [machine_port(one).partition("/") for one in environment.publish if not one.startswith("127.")]
    return sorted({(protocol or "tcp", int(port)) for port, _, protocol in public})


def machine_port(published: str) -> str:
    """The port of the machine in a published one, with `/udp` behind it if it is one of that protocol."""
    port, _, protocol = published.partition("/")
    return f"{port.split(':')[-2]}{'/' if protocol else ''}{protocol}"


def target_name(project: str, environment: EnvironmentSettings) -> str:
    """Return what follows the name of the stack in the names of a droplet, its tag and its firewall."""
    return f"target-{re.sub(r'[^a-z0-9]', '-', project.lower())}-{environment.slug}"


def droplets_of(settings: Settings) -> Iterator[tuple[str, str, EnvironmentSettings, DropletSettings]]:
    """The environments with droplets, each after its place in the stack file and the name of its machine."""
    for number, project in enumerate(settings.projects):
        for index, one in enumerate(project.deploy):
            if one.droplet is not None:
                yield f"projects[{number}].deploy[{index}]", target_name(project.path, one), one, one.droplet


def target_errors(prefix: str, settings: Settings, validity: Validity) -> Iterator[str]:
    """Machines whose names are too long, or those of others. `prefix` begins the names of the stack's machines."""
    numbers = {runner.name: range(1, runner.count + 1) for runner in settings.runners if not runner.is_cluster}
    machines = [f"{name}-{number}" for name, count in numbers.items() for number in count]
    targets = [
        (place, name)
        for place, name, _, _ in droplets_of(settings)
        if validity.has(f"{place}.name", f"{place}.droplet", f"{place.partition('.')[0]}.path")
    ]
    names = Counter([*machines, *(name for _, name in targets)])
    longest = LONGEST_HOST_NAME - len(f"{prefix}-")
    for place, name in targets:
        if len(name) > longest:
            yield (
                f"{place}.name: the droplet would be called {prefix}-{name}; Linux has no host names of more than "
                f"{LONGEST_HOST_NAME} characters. Choose a name that is shorter by {len(name) - longest}, or a "
                "shorter path of the project"
            )
        if names[name] > 1:
            yield (
                f"{place}.name: the droplet would be called {prefix}-{name}, like another machine of the stack; one "
                "would be taken for the other. Choose another name"
            )
