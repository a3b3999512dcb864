"""From a push to an image: projects, and the runners that build for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.component import Component
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import mark_of
from components.kubernetes_offer import ClusterVersion
from components.project import Project, ProjectArgs
from components.remote import run_script
from components.rendering import script
from components.runner import Runner
from components.runner_registration import RunnerArgs, RunnerComponent
from components.settings import (
    Builder,
    Notifications,
    ProjectSettings,
    RunnerSettings,
    SupplyChain,
    tag_of_protected_jobs,
    target_name,
)
from components.site import Site
from components.target import DEPLOY_USER, Target, TargetArgs


@dataclass(frozen=True)
class DeliveryArgs:
    """Inputs of `Delivery`.

    `known_ids` are the IDs, by path, of projects that an earlier update created and kept; `moved_ids` those of projects
    whose group in the settings is not the one of the last update. `group_ids` are those of the stack's own groups, by
    path in lowercase. `signing_key` is the key of projects that sign, and `registry` the address of the registry,
    whether it answers yet or not. `kubernetes` are the versions of Kubernetes of the runners that have clusters, by
    their names. With `own_key`, the environment has a Spaces key of the user's.
    """

    site: Site
    gitlab: GitLabConnection
    projects: Sequence[ProjectSettings]
    runners: Sequence[RunnerSettings]
    known_ids: Mapping[str, str]
    moved_ids: Mapping[str, str]
    group_ids: Mapping[str, pulumi.Output[int]]
    supply_chain: SupplyChain
    signing_key: pulumi.Output[str] | None
    notifications: Notifications | None
    registry: str
    kubernetes: Mapping[str, ClusterVersion]
    own_key: bool


def builder_of(project: ProjectSettings, runners: Sequence[RunnerSettings]) -> tuple[Builder, str | None]:
    """Return the builder and the mirror of Docker Hub of a project's pipeline, which all its runners have in common."""
    used = [runner for runner in runners if runner.name in project.runners]
    # One pipeline for all its runners: it uses the first mirror in the order of the stack file, and the cache of each
    # machine only if there is none. Builders go to Docker Hub where a name is unknown.
    mirrors = [runner.registry_mirror for runner in used if runner.registry_mirror]
    mirrors += [runner.mirror_in_jobs for runner in used if runner.mirror_in_jobs]
    # The settings refuse runners with different builders.
    return used[0].builder if used else Builder.DOCKER, mirrors[0] if mirrors else None


def protected_tag_of(project: ProjectSettings, runners: Sequence[RunnerSettings]) -> str | None:
    """Return the tag of the jobs of a project's protected branches, if a runner takes no others."""
    return tag_of_protected_jobs([runner for runner in runners if runner.name in project.runners])


def runs_on_cluster(project: ProjectSettings, runners: Sequence[RunnerSettings]) -> bool:
    """Return whether a runner of a project has a cluster."""
    return any(runner.is_cluster for runner in runners if runner.name in project.runners)


class Delivery(Component):
    """All projects, runners and targets, and which runner builds for which project.

    Owns that assignment, and ensures that deploy tokens keep the values that others know: on kept data, a token takes
    over the value of its predecessor. A runner is created in the first project that uses it, and locked to it if no
    other project does. When that project leaves the stack, the runner is registered again in the next one, on the same
    machines.
    """

    projects: Mapping[str, Project]
    runners: Mapping[str, RunnerComponent]
    #: By the path of the project, and the name of the environment.
    targets: Mapping[str, Mapping[str, Target]]

    def __init__(self, name: str, args: DeliveryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare projects, runners and targets."""
        super().__init__("Delivery", name, opts)
        self._args = args
        self.projects = {settings.path: self._project(settings) for settings in args.projects}
        self.runners = {settings.name: self._runner(settings) for settings in args.runners}
        self.targets = {settings.path: self._targets_of(settings) for settings in args.projects}
        self._deploy_tokens = self._keep_deploy_tokens()
        for settings in args.projects:
            project, targets = self.projects[settings.path], self.targets[settings.path]
            project.declare_environments(self._value_of(project.deploy_token_id), targets)
            project.commit_pipeline([*(self.runners[name] for name in settings.runners), *targets.values()])
        self.register_outputs({"projects": sorted(self.projects)})

    def as_output(self) -> list[dict[str, Any]]:
        """Return, for `pulumi.export`, the URL and the image of each project, and how to pull and run it.

        Without the stack's pipeline there may be no image to pull, and only the sample is known to serve a port.
        """
        return [self._project_output(settings, self.projects[settings.path]) for settings in self._args.projects]

    def project_ids(self) -> pulumi.Output[dict[str, str]]:
        """Return the ID of each project by its path."""
        return pulumi.Output.all(**{path: project.project_id.apply(str) for path, project in self.projects.items()})

    def _keep_deploy_tokens(self) -> pulumi.Output[dict[str, str]]:
        """The value of each deploy token by its ID, as GitLab has it."""
        tokens = [(project.deploy_token_id, project.push_token_id) for project in self.projects.values()]
        listed = pulumi.Output.all(*[one for both in tokens for one in both if one is not None])
        kept = run_script(
            self,
            "deploy-tokens",
            machine=self._args.gitlab.server,
            file="keep-deploy-tokens.sh",
            values={"PROGRAM": script("keep-deploy-tokens.rb"), "TOKENS": listed.apply("\n".join)},
            timeout_seconds=600,
        )
        return pulumi.Output.secret(kept.stdout.apply(json.loads))

    def _value_of(self, token_id: pulumi.Output[str]) -> pulumi.Output[str]:
        return pulumi.Output.all(self._deploy_tokens, token_id).apply(lambda both: str(both[0][both[1]]))

    def _project_output(self, settings: ProjectSettings, project: Project) -> dict[str, Any]:
        repositories = [f"/{image.name}" if image.name else "" for image in settings.built_images]
        images = [pulumi.Output.concat(project.image, suffix) for suffix in repositories]
        latest = pulumi.Output.concat(images[0], ":latest")
        pull = pulumi.Output.concat("docker pull ", latest)
        run = pulumi.Output.concat("docker run --rm --publish 3000:3000 ", latest)
        return {
            "url": project.url,
            "image": project.image,
            # Those of a repository that has several; the first is in the command.
            **({"images": images} if settings.images else {}),
            "docker_pull": pull if settings.has_pipeline else None,
            **({"cosign_verify": _verification(latest)} if settings.signs(self._args.supply_chain) else {}),
            "docker_run": run if settings.has_pipeline and settings.is_built_as_the_sample else None,
            "deploy_username": project.deploy_username,
            "deploy_token": self._value_of(project.deploy_token_id),
            **({"environments": self._environments_output(settings)} if settings.deploy else {}),
            **(
                {"push_username": project.push_username, "push_token": self._value_of(project.push_token_id)}
                if project.push_token_id
                else {}
            ),
        }

    def _environments_output(self, settings: ProjectSettings) -> dict[str, dict[str, Any]]:
        """Of each environment, where it is, and the line for `authorized_keys` if somebody has to add it there."""
        targets, environments = self.targets[settings.path], self.projects[settings.path].environments
        return {
            one.name: {
                "host": targets[one.name].address if one.name in targets else one.host,
                "user": DEPLOY_USER if one.name in targets else one.user,
                "authorized_key": environments[one.name].authorized_key,
            }
            for one in settings.deploy
        }

    def _project(self, settings: ProjectSettings) -> Project:
        args = self._args
        builder, mirror = builder_of(settings, args.runners)
        return Project(
            self.child_name(settings.path),
            ProjectArgs(
                gitlab=args.gitlab,
                settings=settings,
                builder=builder,
                registry_mirror=mirror,
                protected_tag=protected_tag_of(settings, args.runners),
                on_cluster=runs_on_cluster(settings, args.runners),
                mark=mark_of(args.site.prefix),
                keep_data=args.site.keep_data,
                known_id=args.known_ids.get(settings.path),
                moved_id=args.moved_ids.get(settings.path),
                group_ids=args.group_ids,
                supply_chain=args.supply_chain,
                notifications=settings.notify or args.notifications,
                signing_key=args.signing_key if settings.signs(self._args.supply_chain) else None,
            ),
            self.child_options(),
        )

    def _targets_of(self, project: ProjectSettings) -> dict[str, Target]:
        """The machines of a project's environments, by the names of those that have one."""
        args = self._args
        return {
            one.name: Target(
                self.child_name(target_name(project.path, one)),
                TargetArgs(
                    site=args.site,
                    settings=one,
                    droplet=one.droplet,
                    name=target_name(project.path, one),
                    registry=args.registry,
                    ca_certificate=args.gitlab.ca_certificate,
                    near=bool(project.runners),
                ),
                self.child_options(),
            )
            for one in project.deploy
            if one.droplet is not None
        }

    def _runner(self, settings: RunnerSettings) -> RunnerComponent:
        first, *further = [project.path for project in self._args.projects if settings.name in project.runners]
        args = RunnerArgs(
            site=self._args.site,
            gitlab=self._args.gitlab,
            settings=settings,
            project_id=self.projects[first].project_id,
            further_project_ids={path: self.projects[path].project_id for path in further},
        )
        name = self.child_name(settings.name)
        if settings.is_cluster:
            # Here, and not above: its SDK is large, and not installed where no runner needs it.
            from components.kubernetes_runner import KubernetesRunner, KubernetesRunnerArgs  # noqa: PLC0415

            version = self._args.kubernetes[settings.name]
            return KubernetesRunner(name, KubernetesRunnerArgs(args, version, self._args.own_key), self.child_options())
        return Runner(name, args, self.child_options())


def _verification(image: pulumi.Output[str]) -> pulumi.Output[str]:
    """The command that verifies the signature of an image, whose key is an output of the stack. It has no log entry."""
    return pulumi.Output.concat("cosign verify --key signing.pub --insecure-ignore-tlog=true ", image)
