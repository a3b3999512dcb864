"""From a push to an image: projects, and the runners that build for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_digitalocean as digitalocean

from components.component import Component
from components.keys import AdminKey
from components.network import Network
from components.project import Project, ProjectArgs
from components.remote import Machine
from components.runner import Runner, RunnerArgs
from components.settings import Builder, ProjectSettings, RunnerSettings


@dataclass(frozen=True)
class DeliveryArgs:
    """Inputs of `Delivery`. `registry` is `host:port`; `authority` the PEM of a private authority, if any.

    `keep_data` tells that projects outlive a destroy; `known_projects` are the numbers of those that have, by path.
    """

    prefix: str
    region: str
    projects: Sequence[ProjectSettings]
    runners: Sequence[RunnerSettings]
    admin_key: AdminKey
    ssh_key: digitalocean.SshKey
    authorized_keys: Sequence[str]
    network: Network
    server: Machine
    gitlab_url: pulumi.Input[str]
    api_token: pulumi.Input[str]
    registry: pulumi.Input[str]
    authority: str | None
    keep_data: bool
    known_projects: Mapping[str, str]


class Delivery(Component):
    """All projects and all runners, and who builds for whom.

    Owns that assignment and nothing else. A runner is made in the first project that names it, and locked to it if it
    is the only one. When that project leaves the stack, the runner is registered anew in the next one, on the same
    machines.
    """

    projects: Mapping[str, Project]

    def __init__(self, name: str, args: DeliveryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare projects and runners."""
        super().__init__("Delivery", name, opts)
        self._args = args
        self.projects = {settings.path: self._project(settings) for settings in args.projects}
        runners = {settings.name: self._runner(settings) for settings in args.runners}
        for settings in args.projects:
            self.projects[settings.path].begin([runners[name] for name in settings.runners])
        self.register_outputs({"projects": sorted(self.projects)})

    def as_output(self) -> list[dict[str, Any]]:
        """What to do with each project: where it is, what its image is called, how to pull and run it.

        Without the pipeline of the stack there may be no image to pull, and only the sample is known to serve a port.
        """
        return [self._told(settings, self.projects[settings.path]) for settings in self._args.projects]

    def project_ids(self) -> pulumi.Output[dict[str, str]]:
        """The number of each project, by its path."""
        return pulumi.Output.all(**{path: one.project_id.apply(str) for path, one in self.projects.items()})

    @staticmethod
    def _told(settings: ProjectSettings, project: Project) -> dict[str, Any]:
        latest = pulumi.Output.concat(project.image, ":latest")
        run = pulumi.Output.concat("docker run --rm --publish 3000:3000 ", latest)
        return {
            "url": project.url,
            "image": project.image,
            "docker_pull": pulumi.Output.concat("docker pull ", latest) if settings.has_pipeline else None,
            "docker_run": run if settings.has_pipeline and settings.has_sample else None,
            "deploy_username": project.deploy_username,
            "deploy_token": project.deploy_token,
        }

    def _project(self, settings: ProjectSettings) -> Project:
        args = self._args
        runners = [one for one in args.runners if one.name in settings.runners]
        # One pipeline for all its runners: the first mirror in the order of the stack file, the same at every run.
        mirrors = [one.registry_mirror for one in runners if one.registry_mirror]
        return Project(
            self.child_name(settings.path),
            ProjectArgs(
                settings=settings,
                # The settings refuse runners of several kinds.
                builder=runners[0].builder if runners else Builder.DOCKER,
                gitlab_url=args.gitlab_url,
                api_token=args.api_token,
                registry=args.registry,
                registry_mirror=mirrors[0] if mirrors else None,
                server=args.server,
                keep_data=args.keep_data,
                known_id=args.known_projects.get(settings.path),
            ),
            self.child_options(),
        )

    def _runner(self, settings: RunnerSettings) -> Runner:
        args = self._args
        first, *further = [one.path for one in args.projects if settings.name in one.runners]
        return Runner(
            self.child_name(settings.name),
            RunnerArgs(
                prefix=args.prefix,
                region=args.region,
                settings=settings,
                admin_key=args.admin_key,
                ssh_key=args.ssh_key,
                authorized_keys=args.authorized_keys,
                network=args.network,
                gitlab_url=args.gitlab_url,
                registry=args.registry,
                api_token=args.api_token,
                project_id=self.projects[first].project_id,
                further_project_ids={path: self.projects[path].project_id for path in further},
                server=args.server,
                authority=args.authority,
                keep_data=args.keep_data,
            ),
            self.child_options(),
        )
