"""Machines that run the jobs of one project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_digitalocean as digitalocean
import pulumi_gitlab as gitlab
from pulumi_command import remote

from components import versions
from components.component import Component
from components.droplets import DropletArgs, adopt, make_droplet
from components.keys import AdminKey, HostKeys
from components.network import Network
from components.remote import Machine, run_script
from components.rendering import render, script
from components.settings import RunnerSettings


@dataclass(frozen=True)
class RunnerArgs:
    """Inputs of `Runner`. `server` is the machine that GitLab is on; `authority` the PEM of a private one, if any.

    The runner is made in the project `project_id` and given to further ones, by their paths.
    """

    prefix: str
    region: str
    settings: RunnerSettings
    admin_key: AdminKey
    ssh_key: digitalocean.SshKey
    network: Network
    authorized_keys: Sequence[str]
    gitlab_url: pulumi.Input[str]
    registry: pulumi.Input[str]
    api_token: pulumi.Input[str]
    project_id: pulumi.Input[int]
    further_project_ids: Mapping[str, pulumi.Input[int]]
    server: Machine
    authority: str | None
    keep_data: bool


class Runner(Component):
    """One runner of GitLab on one or several machines of its own.

    Owns the runner as GitLab knows it (of one project and locked to it, or of those that share it), its machines,
    Docker and `gitlab-runner` on them, and their registration; it is ready when GitLab has heard of it. The machines
    are apart from the server, because a job with privileges owns the machine that it runs on. Refuses to own the
    project, and to take other jobs.
    """

    runner_id: pulumi.Output[str]

    def __init__(self, name: str, args: RunnerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the runner and its machines."""
        super().__init__("Runner", name, opts)
        self._args = args
        runner = self._registration()
        self._share(runner)
        registered = [self._machine(number, runner) for number in range(1, args.settings.count + 1)]
        seen = self._seen(runner, registered)
        self.runner_id = pulumi.Output.all(runner.id, seen.stdout).apply(lambda both: str(both[0]))
        self.runner_id = pulumi.Output.unsecret(self.runner_id)
        self.register_outputs({"runnerId": self.runner_id})

    def _registration(self) -> gitlab.UserRunner:
        args, settings = self._args, self._args.settings
        return gitlab.UserRunner(
            self.child_name("registration"),
            runner_type="project_type",
            project_id=args.project_id,
            description=settings.name,
            tag_lists=list(settings.tags),
            untagged=settings.untagged,
            # A locked one can be given to no other project, but by an administrator: GitLab asks for it unlocked.
            locked=not args.further_project_ids,
            opts=self.child_options(deleted_with=self._owner(), additional_secret_outputs=["token"]),
        )

    def _share(self, runner: gitlab.UserRunner) -> None:
        for path, project_id in self._args.further_project_ids.items():
            gitlab.ProjectRunnerEnablement(
                self.child_name(f"project-{path}"),
                project=pulumi.Output.from_input(project_id).apply(str),
                runner_id=runner.id.apply(int),
                opts=self.child_options(deleted_with=self._owner()),
            )

    def _owner(self) -> pulumi.Resource | None:
        """What takes the runner with it: a server whose data goes as well."""
        return None if self._args.keep_data else self._args.server.droplet

    def _machine(self, number: int, runner: gitlab.UserRunner) -> remote.Command:
        args, settings = self._args, self._args.settings
        name = f"{args.prefix}-{settings.name}-{number}"
        host_keys = HostKeys(self.child_name(f"{number}-host-keys"), self.child_options())
        droplet = make_droplet(
            self,
            f"{number}-droplet",
            DropletArgs(
                name=name,
                region=args.region,
                size=settings.size,
                image=settings.image,
                vpc_id=args.network.vpc_id,
                tag=args.network.runners.tag,
                ssh_key=args.ssh_key,
                host_keys=host_keys,
            ),
            depends_on=[args.network.runners.firewall],
        )
        machine = adopt(
            self,
            f"{number}-host-key",
            droplet=droplet,
            address=droplet.ipv4_address,
            private_key=args.admin_key.private_key,
            host_keys=host_keys,
        )
        return self._register(number, machine, runner, self._prepare(number, name, machine))

    def _prepare(self, number: int, name: str, machine: Machine) -> remote.Command:
        args = self._args
        return run_script(
            self,
            f"{number}-preparation",
            machine=machine,
            file="prepare-runner.sh",
            libraries=["apt.sh", "hardening.sh", "packages.sh", "disk-space.sh"],
            values={
                "ADMIN_USER": machine.user,
                "APPARMOR_PROFILE": script("runner/apparmor-profile"),
                "AUTHORIZED_KEYS": args.admin_key.public_key.apply(lambda key: "\n".join([key, *args.authorized_keys])),
                "BUILDER": args.settings.builder,
                "HOSTNAME": name,
                "JOB_FIREWALL": script("runner/job-firewall.sh"),
                "JOB_FIREWALL_SERVICE": script("runner/job-firewall.service"),
                "PRUNE": script("runner/prune.sh"),
                "PRUNE_SERVICE": script("runner/prune.service"),
                "PRUNE_TIMER": script("runner/prune.timer"),
                "PUBLIC_PORTS": "",
                "REGISTRIES_CONF": render("registries.conf.j2", registry_mirror=args.settings.registry_mirror),
                "REGISTRY_MIRROR": args.settings.registry_mirror or "",
                "RUNNER_PACKAGES_URL": args.settings.packages_url,
                "RUNNER_KEY_URL": args.settings.key_url,
                "KEY_FINGERPRINT": args.settings.key_fingerprint,
                "RUNNER_VERSION": args.settings.version,
                "SERVICE_DROP_IN": script("runner/gitlab-runner.conf"),
                "STORAGE_CONF": script("runner/storage.conf"),
            },
            timeout_seconds=1800,
        )

    def _register(
        self, number: int, machine: Machine, runner: gitlab.UserRunner, prepared: remote.Command
    ) -> remote.Command:
        args, settings = self._args, self._args.settings
        configuration = pulumi.Output.all(url=args.gitlab_url, token=runner.token).apply(
            lambda known: render(
                "runner-config.toml.j2",
                name=f"{settings.name}-{number}",
                concurrency=settings.concurrency,
                keep_layers=settings.keep_layers,
                builder=settings.builder,
                docker_version=versions.DOCKER,
                buildah_image=versions.BUILDAH_IMAGE,
                seccomp=_on_one_line(script("runner/seccomp.json")),
                ca_certificate=args.authority,
                **known,
            )
        )
        return run_script(
            self,
            f"{number}-registration",
            machine=machine,
            file="register-runner.sh",
            libraries=["disk-space.sh"],
            values={
                "CA_CERTIFICATE": args.authority or "",
                "CONFIGURATION": pulumi.Output.secret(configuration),
                "GITLAB_URL": args.gitlab_url,
                "REGISTRY": args.registry,
                "RUNNER_VERSION": settings.version,
            },
            timeout_seconds=600,
            depends_on=[prepared],
        )

    def _seen(self, runner: gitlab.UserRunner, registered: Sequence[remote.Command]) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "online",
            machine=args.server,
            file="await-runner.sh",
            libraries=["gitlab.sh"],
            values={
                "API_TOKEN": args.api_token,
                "GITLAB_URL": args.gitlab_url,
                # Not used by the script: it is asked again after every registration.
                "REGISTRATIONS": pulumi.Output.all(*[one.stdout for one in registered]).apply("".join),
                "RUNNER_ID": runner.id,
            },
            timeout_seconds=300,
            depends_on=list(registered),
        )


def _on_one_line(document: str) -> str:
    """A JSON document as short as it can be."""
    return json.dumps(json.loads(document), separators=(",", ":"))
