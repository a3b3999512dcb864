"""The container registry of a running GitLab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi_command import remote

from components.component import Component
from components.registry_settings import RegistrySettings
from components.remote import Machine, run_script

#: Seconds for the step that applies the settings. An import of existing images is most of it: GitLab's documentation
#: reports 2 to 4 TB an hour.
_LIMIT_SECONDS: Final = 4 * 3600


@dataclass(frozen=True)
class RegistryConfigurationArgs:
    """Inputs of `RegistryConfiguration`.

    `public_ports` are all that the server opens, separated by spaces: others are closed once the registry answers.
    """

    machine: Machine
    settings: RegistrySettings
    public_ports: str
    admin_user: str
    api_token: pulumi.Input[str] = field(repr=False)
    gitlab_ready: Sequence[pulumi.Resource]


class RegistryConfiguration(Component):
    """The registry's settings, applied and verified.

    Owns `/etc/gitlab/registry.rb`, which `gitlab.rb` reads. Before the file changes, the machine does in the bucket
    what a push does, with the registry's own key; if that fails, nothing is changed. Afterwards it logs in, once with a
    valid token and once with an invalid one. The registry keeps the list of its images in a metadata database, one for
    each storage, so that going back to a storage brings its images back; the list that a registry without a database
    has left in a storage is imported. Refuses to own the bucket, and to move images from one storage to another.
    """

    address: pulumi.Output[str]
    login_line: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryConfigurationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the configuration; `address` is known when a login has succeeded."""
        super().__init__("RegistryConfiguration", name, opts)
        self._args = args
        checked = self._check_login(self._apply())
        self.address = pulumi.Output.all(args.settings.fqdn, checked.stdout).apply(
            lambda both: f"{both[0]}:{args.settings.port}"
        )
        # The output of a script is marked as secret; this address is not.
        self.address = pulumi.Output.unsecret(self.address)
        self.login_line = pulumi.Output.concat("docker login --username ", args.admin_user, " ", self.address)
        self.register_outputs({"address": self.address})

    def _apply(self) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "storage",
            machine=args.machine,
            file="configure-registry.sh",
            libraries=["gitlab.sh", "database.sh", "object-storage.sh", "registry-storage.sh", "ports.sh"],
            values={**args.settings.values, "PORT": str(args.settings.port), "PUBLIC_PORTS": args.public_ports},
            secrets=args.settings.secrets,
            timeout_seconds=_LIMIT_SECONDS,
            depends_on=args.gitlab_ready,
        )

    def _check_login(self, applied: remote.Command) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "login",
            machine=args.machine,
            file="check-registry-login.sh",
            values={
                "ADMIN_USER": args.admin_user,
                "FQDN": args.settings.fqdn,
                "PORT": str(args.settings.port),
            },
            secrets={"API_TOKEN": args.api_token},
            rerun_on={"configuration of the registry": applied.stdout},
            timeout_seconds=300,
            depends_on=[applied],
        )
