"""An environment of a project: what its deploy job needs to reach the machine and the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pulumi
import pulumi_gitlab as gitlab
import pulumi_tls as tls

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import before_create, remove_variable
from components.settings import EnvironmentSettings
from components.target import DEPLOY_USER, Target

#: What the names of its variables begin with; components/files/deploy/job.sh reads them.
_PREFIX: Final = "SLIPWAY_DEPLOY_"


@dataclass(frozen=True)
class EnvironmentArgs:
    """Inputs of `Environment`.

    `project` is the path of the project, for the comment of its key, and `registry_user` and `registry_token` are a
    login that can only pull the project's images. `mark` says whose the variables are; they are deleted with `owner`.
    `target` is the machine, if it is one of the stack.
    """

    gitlab: GitLabConnection
    settings: EnvironmentSettings
    project: str
    project_id: pulumi.Output[int]
    registry_user: pulumi.Output[str]
    registry_token: pulumi.Output[str] = field(repr=False)
    mark: str
    owner: pulumi.Resource
    target: Target | None


class Environment(Component):
    """The variables of one environment, which only jobs of protected branches that deploy to it get.

    Owns these variables, and the key pair of the job unless the settings or a `Target` have one. Refuses to own the
    machine, what runs there, and the environment in GitLab, which the first deployment creates and whose history
    outlives the stack's interest in it.
    """

    authorized_key: pulumi.Output[str] | None

    def __init__(self, name: str, args: EnvironmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the variables. `authorized_key` is the line that lets the job in, if the stack generates its key."""
        super().__init__("Environment", name, opts)
        self._args = args
        private_key, self.authorized_key = self._key()
        for key, value in self._login().items():
            self._variable(key, value)
        # Of several lines, so GitLab cannot mask it: jobs get the path of a file, and nothing prints that.
        self._variable("KEY", private_key, kind="file")
        self._variable("REGISTRY_USER", args.registry_user)
        self._variable("REGISTRY_TOKEN", args.registry_token, masked=True)
        self.register_outputs({"authorizedKey": self.authorized_key})

    def _login(self) -> dict[str, pulumi.Input[str]]:
        """Where the machine is, and who it lets in."""
        settings, target = self._args.settings, self._args.target
        if target is None:
            # The settings refuse an environment that has neither.
            host, user, host_key = (one or "" for one in (settings.host, settings.user, settings.host_key))
            return {"HOST": host, "PORT": str(settings.port), "USER": user, "HOST_KEY": host_key}
        pinned = pulumi.Output.from_input(target.machine.host_key).apply(str.strip)
        return {"HOST": target.job_address, "PORT": "22", "USER": DEPLOY_USER, "HOST_KEY": pinned}

    def _key(self) -> tuple[pulumi.Output[str], pulumi.Output[str] | None]:
        """The private key, and the line for `authorized_keys` unless settings or machine have the key already."""
        settings = self._args.settings
        if self._args.target is not None:
            return self._args.target.deploy_key, None
        if settings.ssh_key is not None:
            return pulumi.Output.secret(settings.ssh_key.get_secret_value().strip() + "\n"), None
        pair = tls.PrivateKey(self.child_name("key"), algorithm="ED25519", opts=self.child_options())
        # `restrict`: no terminal, and nothing is forwarded.
        comment = f"{self._args.project}-{settings.slug}"
        line = pulumi.Output.concat("restrict ", pair.public_key_openssh.apply(str.strip), " ", comment)
        return pulumi.Output.secret(pair.private_key_openssh), line

    def _variable(self, key: str, value: pulumi.Input[str], *, masked: bool = False, kind: str = "env_var") -> None:
        suffix, args = f"variable-{key.lower().replace('_', '-')}", self._args
        gitlab.ProjectVariable(
            self.child_name(suffix),
            project=args.project_id.apply(str),
            key=_PREFIX + key,
            description=args.mark,
            environment_scope=args.settings.name,
            value=value,
            variable_type=kind,
            masked=masked,
            protected=True,
            raw=True,
            opts=self.child_options(
                provider=args.gitlab.provider,
                deleted_with=args.owner,
                hooks=before_create(self, suffix, args.gitlab, args.mark, remove_variable),
            ),
        )
