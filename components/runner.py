"""A GitLab runner and the machines that run its jobs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_gitlab as gitlab
from pulumi_command import remote

from components import versions
from components.component import Component
from components.droplets import DropletArgs, create_droplet, install_host_key
from components.gitlab_connection import GitLabConnection
from components.gitlab_leftovers import before_create, mark_of, remove_runners
from components.hardening import LIBRARIES, hardening
from components.keys import HostKeys
from components.remote import MASK, Machine, MaskedFile, run_script
from components.rendering import render, script
from components.settings import DOCKER_HUB_CACHE, DOCKER_HUB_CACHE_HOST, RunnerSettings
from components.site import Site


@dataclass(frozen=True)
class RunnerArgs:
    """Inputs of `Runner`.

    The runner is created in the project `project_id`, and enabled for further ones, whose IDs are given by path.
    """

    site: Site
    gitlab: GitLabConnection
    settings: RunnerSettings
    project_id: pulumi.Input[int]
    further_project_ids: Mapping[str, pulumi.Input[int]]


class Runner(Component):
    """One GitLab runner on one or more machines of its own.

    Owns the runner in GitLab (locked to one project, or shared by several), its machines, Docker and `gitlab-runner`
    on them, and their registration. It is ready once it has contacted GitLab. It does not run on the server, because a
    privileged job owns the machine that it runs on. Refuses to own the projects, and to take jobs of any others.
    """

    runner_id: pulumi.Output[str]
    machines: Sequence[Machine]

    def __init__(self, name: str, args: RunnerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the runner and its machines."""
        super().__init__("Runner", name, opts)
        self._args = args
        runner = self._registration()
        self._enable_for_further_projects(runner)
        numbers = range(1, args.settings.count + 1)
        self.machines = [self._machine(number) for number in numbers]
        registered = [
            self._register(number, machine, runner) for number, machine in zip(numbers, self.machines, strict=True)
        ]
        online = self._wait_until_online(runner, registered)
        self.runner_id = pulumi.Output.all(runner.id, online.stdout).apply(lambda both: str(both[0]))
        self.runner_id = pulumi.Output.unsecret(self.runner_id)
        self.register_outputs({"runnerId": self.runner_id})

    def _registration(self) -> gitlab.UserRunner:
        args, settings = self._args, self._args.settings
        mark = mark_of(args.site.prefix)
        return gitlab.UserRunner(
            self.child_name("registration"),
            runner_type="project_type",
            project_id=args.project_id,
            description=settings.name,
            maintenance_note=mark,
            tag_lists=list(settings.tags),
            untagged=settings.untagged,
            access_level=settings.access_level,
            # GitLab expects a shared runner to be unlocked: only an administrator may share a locked one.
            locked=not args.further_project_ids,
            opts=self.child_options(
                provider=args.gitlab.provider,
                # On kept data it stays in GitLab: the next update removes it from there.
                deleted_with=args.gitlab.server.droplet,
                # Created first, it would take its predecessor for a leftover.
                delete_before_replace=True,
                additional_secret_outputs=["token"],
                hooks=before_create(self, "registration", args.gitlab, mark, remove_runners),
            ),
        )

    def _enable_for_further_projects(self, runner: gitlab.UserRunner) -> None:
        for path, project_id in self._args.further_project_ids.items():
            gitlab.ProjectRunnerEnablement(
                self.child_name(f"project-{path}"),
                project=pulumi.Output.from_input(project_id).apply(str),
                runner_id=runner.id.apply(int),
                opts=self.child_options(
                    provider=self._args.gitlab.provider, deleted_with=self._args.gitlab.server.droplet
                ),
            )

    def _machine(self, number: int) -> Machine:
        """A machine on which everything is installed."""
        args, settings = self._args, self._args.settings
        name = f"{args.site.prefix}-{settings.name}-{number}"
        host_keys = HostKeys(self.child_name(f"{number}-host-keys"), self.child_options())
        droplet = create_droplet(
            self,
            f"{number}-droplet",
            DropletArgs.at(
                args.site,
                group=args.site.network.runners,
                name=name,
                size=settings.size,
                image=settings.image,
                host_keys=host_keys,
            ),
        )
        machine = install_host_key(
            self,
            f"{number}-host-key",
            droplet=droplet,
            address=droplet.ipv4_address,
            private_key=args.site.admin_key.private_key,
            host_keys=host_keys,
        )
        return dataclasses.replace(machine, ready=(self._prepare(number, name, machine),))

    def _prepare(self, number: int, name: str, machine: Machine) -> remote.Command:
        args = self._args
        docker = ("docker-hub-cache.sh", "docker.sh", "docker-mirror.sh")
        return run_script(
            self,
            f"{number}-preparation",
            machine=machine,
            file="prepare-runner.sh",
            libraries=[*LIBRARIES, "packages.sh", "disk-space.sh", *docker],
            values={
                **hardening(machine.user, args.site.login_keys, public_ports=()),
                "APPARMOR_PROFILE": script("runner/apparmor-profile"),
                "BUILDER": args.settings.builder,
                "CACHE_CONFIG": script("runner/docker-hub-cache.yml"),
                "CACHE_PROGRAM": script("runner/docker-hub-cache.sh"),
                "CACHE_SERVICE": render("docker-hub-cache.service.j2", image=versions.REGISTRY_IMAGE),
                "CACHE_URL": DOCKER_HUB_CACHE if args.settings.has_cache else "",
                "DISK_SERVICE": script("runner/disk.service"),
                "DISK_TIMER": script("runner/disk.timer"),
                "HOSTNAME": name,
                "JOB_FIREWALL": script("runner/job-firewall.sh"),
                "JOB_FIREWALL_SERVICE": script("runner/job-firewall.service"),
                "PRUNE": script("runner/prune.sh"),
                "PRUNE_SERVICE": script("runner/prune.service"),
                "PRUNE_TIMER": script("runner/prune.timer"),
                "REGISTRIES_CONF": render("registries.conf.j2", registry_mirror=args.settings.mirror_in_jobs),
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

    def _configuration(self, number: int, token: pulumi.Input[str]) -> pulumi.Output[str]:
        args, settings = self._args, self._args.settings
        return pulumi.Output.all(url=args.gitlab.url, token=token).apply(
            lambda known: render(
                "runner-config.toml.j2",
                name=f"{settings.name}-{number}",
                concurrency=settings.concurrency,
                keep_layers=settings.keep_layers,
                cache_host=DOCKER_HUB_CACHE_HOST if settings.has_cache else "",
                builder=settings.builder,
                is_shared=bool(args.further_project_ids),
                docker_version=versions.DOCKER,
                buildah_image=versions.BUILDAH_IMAGE,
                seccomp=_on_one_line(script("runner/seccomp.json")),
                ca_certificate=args.gitlab.ca_certificate,
                **known,
            )
        )

    def _register(self, number: int, machine: Machine, runner: gitlab.UserRunner) -> remote.Command:
        args, settings = self._args, self._args.settings
        return run_script(
            self,
            f"{number}-registration",
            machine=machine,
            file="register-runner.sh",
            libraries=["disk-space.sh"],
            values={
                "CA_CERTIFICATE": args.gitlab.ca_certificate or "",
                "GITLAB_URL": args.gitlab.url,
                "REGISTRY": args.gitlab.registry,
            },
            secrets={
                "CONFIGURATION": MaskedFile(
                    self._configuration(number, runner.token), self._configuration(number, MASK)
                )
            },
            # Another version may read the same configuration differently.
            rerun_on={"version of gitlab-runner": settings.version},
            timeout_seconds=600,
        )

    def _wait_until_online(self, runner: gitlab.UserRunner, registered: Sequence[remote.Command]) -> remote.Command:
        args = self._args
        return run_script(
            self,
            "online",
            machine=args.gitlab.server,
            file="await-runner.sh",
            libraries=["gitlab.sh"],
            values={
                "GITLAB_URL": args.gitlab.url,
                "RUNNER_ID": runner.id,
            },
            secrets={"API_TOKEN": args.gitlab.api_token},
            rerun_on={"registration": pulumi.Output.all(*[one.stdout for one in registered]).apply("".join)},
            timeout_seconds=300,
            depends_on=list(registered),
        )


def _on_one_line(document: str) -> str:
    """A JSON document without line breaks and spaces."""
    return json.dumps(json.loads(document), separators=(",", ":"))
