"""The services that a sandbox runs, and their configuration."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.sandbox import layout as addresses
from tests.sandbox.cloud.authority import Authority, write_private
from tests.sandbox.cloud.namespaces import WORKSTATION
from tests.sandbox.cloud.supervision import configuration_file
from tests.sandbox.cloud.tools import containers
from tests.sandbox.layout import Layout
from tests.sandbox.machines.spaces import spaces_command, spaces_environment

#: Where the ACME server itself listens, behind the proxy that has Let's Encrypt's names.
ACME_SERVER = IPv4Address("127.0.0.1")
ACME_PORT = 14000
ACME_MANAGEMENT_PORT = 15000

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 - no HTML is made here
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Program:
    """One service: what to run, in which environment (added to the supervisor's)."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def command_line(self) -> str:
        """As the supervisor's file wants it: quoted for a shell, `%` doubled."""
        return shlex.join(self.command).replace("%", "%%")

    @property
    def environment_line(self) -> str:
        """As the supervisor's file wants it. Values with a quote or a line end cannot be written: `ValueError`."""
        for name, value in self.environment.items():
            if any(character in value for character in '"\n'):
                raise ValueError(f"{name} contains a character that the supervisor's configuration cannot contain")
        return ",".join(f'{name}="{value}"' for name, value in self.environment.items()).replace("%", "%%")


def programs(layout: Layout) -> list[Program]:
    """All services of one sandbox, in the order in which they are started."""
    python = [sys.executable, "-m"]
    # The machines' engine stands for the cloud's hypervisor and is the host's own, with its storage.
    machines = ["dockerd", "--bridge=none", "--iptables=false", "--storage-driver=overlay2"]
    listed = [
        Program("engine", [*machines, *_apart(layout, "engine", layout.engine_socket)]),
        Program("cloud", [*python, "tests.sandbox.cloud.main"]),
        Program("pebble", _pebble(layout), {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}),
        Program(
            "workstation-engine",
            _within(WORKSTATION, [*_docker(layout), *_apart(layout, WORKSTATION, layout.workstation_docker_socket)]),
        ),
    ]
    for region in addresses.SPACES_ADDRESSES:
        for name, generic in ((f"spaces-{region}", False), (f"spaces-{region}-generic", True)):
            command = spaces_command(layout, region, generic=generic)
            listed.append(Program(name, command, spaces_environment(layout)))
    return listed


def write_configuration(layout: Layout, authority: Authority) -> None:
    """Write the files that the services are started with."""
    certificate, key = authority.issue("pebble", [*addresses.ACME_HOSTS])
    pebble = TEMPLATES.get_template("pebble.json.j2").render(
        server=ACME_SERVER,
        port=ACME_PORT,
        management_port=ACME_MANAGEMENT_PORT,
        certificate=str(certificate),
        key=str(key),
    )
    (layout.state / "pebble.json").write_text(pebble)
    logs = layout.state / "logs"
    logs.mkdir(exist_ok=True)
    template = TEMPLATES.get_template("supervisord.conf.j2")
    text = template.render(logs=logs, run=layout.run, root=layout.root, programs=programs(layout))
    write_private(configuration_file(layout), text.encode())


def _within(network: str, command: Sequence[str]) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{network}", "--", *command]


def _pebble(layout: Layout) -> list[str]:
    return ["pebble", "-config", str(layout.state / "pebble.json"), "-dnsserver", f"{addresses.DNS_ADDRESS}:53"]


def _docker(layout: Layout) -> list[str]:
    """A user's Docker engine: of the version that jobs have, on top of the host's containerd and runc."""
    programs = containers.folder(layout.cache)
    # Older versions of runc than 1.2 know no time namespaces.
    options = ["--feature=time-namespaces=false", f"--userland-proxy-path={programs / 'docker-proxy'}"]
    return [str(programs / "dockerd"), *options]


def _apart(layout: Layout, name: str, endpoint: Path) -> list[str]:
    """What makes engines share nothing: data, runtime files, socket and control groups are each one's own."""
    runtime = layout.run / name
    return [
        f"--host=unix://{endpoint}",
        f"--data-root={layout.state / name}",
        f"--exec-root={runtime}",
        f"--pidfile={runtime}.pid",
        "--group=root",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        f"--cgroup-parent=/{layout.name}/{name}",
    ]
