"""A GitLab runner and the machines that run its jobs."""

from __future__ import annotations

import dataclasses
import json

import pulumi
import pulumi_gitlab as gitlab
from pulumi_command import remote

from components import versions
from components.build_pipeline import job_images
from components.droplets import DropletArgs, create_droplet, install_host_key
from components.hardening import LIBRARIES, hardening
from components.keys import HostKeys
from components.remote import MASK, Machine, MaskedFile, run_script
from components.rendering import render, script
from components.runner_registration import RunnerArgs, RunnerComponent, register, wait_until_online
from components.settings import DOCKER_HUB_CACHE, DOCKER_HUB_CACHE_HOST


class Runner(RunnerComponent):
    """One GitLab runner on one or more machines of its own.

    Owns the runner in GitLab (locked to one project, or shared by several), its machines, Docker and `gitlab-runner`
    on them, and their registration. It is ready once it has contacted GitLab. It does not run on the server, because a
    privileged job owns the machine that it runs on. Refuses to own the projects, and to take jobs of any others.
    """

    def __init__(self, name: str, args: RunnerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Declare the runner and its machines."""
        super().__init__("Runner", name, opts)
        self._args = args
        runner = register(self, args)
        numbers = range(1, args.settings.count + 1)
        self.machines = [self._machine(number) for number in numbers]
        registered = [
            self._register(number, machine, runner) for number, machine in zip(numbers, self.machines, strict=True)
        ]
        outputs = pulumi.Output.all(*[one.stdout for one in registered]).apply("".join)
        online = wait_until_online(self, args, runner, registered=outputs, depends_on=registered)
        self.runner_id = pulumi.Output.all(runner.id, online.stdout).apply(lambda both: str(both[0]))
        self.runner_id = pulumi.Output.unsecret(self.runner_id)
        self.register_outputs({"runnerId": self.runner_id})

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
                "JOB_IMAGES": " ".join(job_images(args.settings.builder) if args.settings.docker_hub_cache else ()),
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


def _on_one_line(document: str) -> str:
    """A JSON document without line breaks and spaces."""
    return json.dumps(json.loads(document), separators=(",", ":"))
