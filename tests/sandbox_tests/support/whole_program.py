"""The whole program in the real engine, with a cloud, a GitLab and an S3 server on loopback, and without machines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.sandbox.gitlab.web.faults import Fault
from tests.sandbox.layout import SPACES_SUFFIX
from tests.sandbox_tests.support.emulated_cloud import EmulatedCloud
from tests.sandbox_tests.support.gitlab_instance import Instance
from tests.sandbox_tests.support.gitlab_registry import gitlab_with_registry
from tests.sandbox_tests.support.pulumi_engine import Engine
from tests.sandbox_tests.support.spaces_service import s3_servers
from tests.sandbox_tests.support.ssh_server import SshServer, ssh_server
from tests.sandbox_tests.support.steps_of_program import path_with_programs

REPOSITORY = Path(__file__).parents[3]
#: A stack with one of everything that an API is asked for.
SETTINGS: dict[str, Any] = {
    "domain": "example.test",
    "adminCidrs": ["192.0.2.10/32"],
    "removal": "everything",
    "server": {"image": "debian-13-x64", "volumeSizeGb": 10},
    "registry": {"storage": "spaces"},
    "projects": [{"path": "hello"}],
    "runners": [{"name": "docker-builder", "image": "debian-13-x64", "keyFingerprint": "unpinned"}],
    "gitlab": {"packages": {"keyFingerprint": "unpinned"}},
}
#: Its value has to be encrypted.
VARIABLE = "projects[0].variables.GREETING.value"


@dataclass
class World:
    """All services, and the folder in which stacks are made."""

    folder: Path
    cloud: EmulatedCloud
    instance: Instance
    ssh: SshServer
    _stacks: int = 0

    def stack(self, **settings: Any) -> Engine:
        """A stack of the program that does not exist yet, in services that are empty."""
        self.cloud.fresh()
        self.instance.empty()
        self.instance.faults.clear()
        self._stacks += 1
        folder = self.folder / f"stack-{self._stacks}"
        folder.mkdir()
        engine = Engine(folder, "whole", SETTINGS | settings, self.environment())
        engine.run("config", "set", "--secret", "--path", VARIABLE, "a-value-that-can-be-masked")
        return engine

    def inject(self, service: str, fault: dict[str, Any]) -> None:
        """Let a request to a service fail: `api`, `spaces` or `gitlab`."""
        if service == "gitlab":
            self.instance.faults.add(Fault(**fault))
        else:
            self.cloud.add_fault({**fault, "service": service})

    def waiting(self) -> int:
        """How many faults have not hit yet."""
        return len(self.instance.faults.all()) + len(self.cloud.control.get("/faults").json())

    def environment(self) -> dict[str, str]:
        """What the program and the tools find in their environment."""
        known = {
            "repository": str(REPOSITORY),
            "port": self.ssh.port,
            "key": self.ssh.user_key.export_private_key().decode(),
            "hostKey": self.ssh.host_key.export_public_key().decode(),
            "gitlab": self.instance.url,
            "token": self.instance.token,
        }
        return {
            "WHOLE_PROGRAM": json.dumps(known),
            "DIGITALOCEAN_TOKEN": self.cloud.token,
            "DIGITALOCEAN_API_URL": self.cloud.url,
            "SPACES_ENDPOINT_URL": f"http://{{{{.Region}}}}.{SPACES_SUFFIX}",
            "SSL_CERT_FILE": str(self.cloud.ca_certificate),
            "HTTP_PROXY": self.cloud.spaces_proxy,
            "http_proxy": self.cloud.spaces_proxy,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Serve all of it until the end of the block."""
    with ExitStack() as stack:
        for name in ("spaces", "cloud", "gitlab"):
            (folder / name).mkdir()
        path = os.environ["PATH"]
        os.environ["PATH"] = path_with_programs(folder)
        stack.callback(os.environ.__setitem__, "PATH", path)
        servers = stack.enter_context(s3_servers(folder / "spaces"))
        cloud = stack.enter_context(EmulatedCloud(folder / "cloud", servers))
        # Without a registry that has its database, GitLab refuses rules for protected tags.
        instance = stack.enter_context(gitlab_with_registry(folder / "gitlab")).instance
        yield World(folder, cloud, instance, stack.enter_context(ssh_server()))
