"""What runs a job's scripts; and the docker executor: the containers of one job."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import docker
import docker.errors
from docker.types import LogConfig

from .configuration import Table, short_token
from .files import Files, HostFiles, Work
from .images import ImageError, Images, as_list, is_allowed
from .payload import Image, Variables, image_of_service
from .script import DETECT_SHELL
from .sources import SourcesError
from .volumes import Volumes, prefix_of

Say = Callable[[str], None]
SCRIPT = "/gitlab-runner-script"
WAIT_FOR_SERVICES = 30
ENGINE_PATIENCE = 600
MANAGED = "com.gitlab.gitlab-runner.managed"


class PodError(Exception):
    """What a job runs in cannot be had, or has gone away; the message says why."""


class Executor(Protocol):
    """One job's surroundings; a context that removes them."""

    def __enter__(self) -> Executor:
        """Nothing is there yet."""

    def __exit__(self, *_: object) -> None:
        """Remove everything that later jobs have no use for."""

    def prepare(self, variables: Variables, files: str) -> None:
        """Create what the job runs in. `files` is the folder of variables of kind `file`."""

    def start(self) -> str:
        """Wait until it can run something, and say where that is."""

    def files(self) -> Files:
        """Who handles the job's files."""

    def run(self, script: str, write: Callable[[bytes], None], stop: threading.Event) -> int:
        """Run a script, its output to `write`; answers its exit code. Killed when `stop` is set."""


class DockerExecutor:
    """Volumes, services and the build container of one job; a context that removes all but the volumes."""

    def __init__(self, work: Work, slot: int) -> None:
        runner, payload, say, system_id = work.runner, work.payload, work.say, work.coordinator.system_id
        self._work = work
        self._settings: Table = runner.get("docker", {})
        self._runner, self._payload, self._say = runner, payload, say
        self._engine = docker.DockerClient(
            base_url=self._settings.get("host") or "unix:///var/run/docker.sock", timeout=ENGINE_PATIENCE
        )
        self.name = f"runner-{short_token(str(runner.get('token', '')))}-project-{payload.project_id}-concurrent-{slot}"
        self._volumes = prefix_of(str(runner.get("token", "")), system_id, payload.project_id, slot)
        self._unique = f"{self.name}-{hashlib.sha256(secrets.token_bytes(8)).hexdigest()[:16]}"
        self._labels = {
            MANAGED: "true",
            "com.gitlab.gitlab-runner.job.id": str(payload.id),
            "com.gitlab.gitlab-runner.project.id": str(payload.project_id),
            "com.gitlab.gitlab-runner.runner.id": short_token(str(runner.get("token", ""))),
        }
        self._scratch = tempfile.TemporaryDirectory(prefix="gitlab-runner-")
        self._script = Path(self._scratch.name) / "script"
        self._script.touch()
        self._containers: list[str] = []
        self._network = ""
        self._build = ""

    def __enter__(self) -> DockerExecutor:
        self.volumes = Volumes(
            self._engine, self._runner, self._volumes, self._labels, protected=self._payload.protected
        )
        return self

    def __exit__(self, *_: object) -> None:
        for container in reversed(self._containers):
            self._quietly(partial(self._engine.api.remove_container, container, v=True, force=True))
        if self._network:
            self._quietly(lambda: self._engine.api.remove_network(self._network))
        self._engine.close()
        self._scratch.cleanup()

    def _quietly(self, action: Callable[[], object]) -> None:
        try:
            action()
        except docker.errors.APIError as error:
            self._say(f"WARNING: cleaning up: {error.explanation or error}")

    def prepare(self, variables: Variables, files: str) -> None:
        """Start services, wait for them, and create the build container. `ImageError` when an image cannot be had."""
        image = self._payload.image(variables, str(self._settings.get("image", "")))
        if not image.name:
            raise ImageError("no image specified to run the build in")
        self._say(f"Using Docker executor with image {image.name} ...")
        if not is_allowed(image.name, self._settings.get("allowed_images"), str(self._settings.get("image", ""))):
            raise ImageError(f"The {image.name!r} image is not present on list of allowed images")
        images = Images(self._engine, self._settings, self._payload, variables)
        environment = variables.environment(files)
        if variables.flag("FF_NETWORK_PER_BUILD") or (self._runner.get("feature_flags") or {}).get(
            "FF_NETWORK_PER_BUILD"
        ):
            self._network = f"{self._unique}-network"
            self._engine.api.create_network(self._network, driver="bridge", labels=self._labels)
        services = [
            *map(image_of_service, self._settings.get("services", [])),
            *self._payload.services(variables),
        ]
        hosts = self._start_services(services, images, variables)
        found = images.get(image, self._say)
        self._build = self._create(
            f"{self._unique}-build",
            found["Id"],
            command=["sh", "-c", DETECT_SHELL, SCRIPT],
            entrypoint=list(image.entrypoint) if image.entrypoint else None,
            environment=environment,
            hosts=hosts,
            aliases=["build"],
            privileged=self._privileged(image.name, "privileged", "allowed_privileged_images"),
            extra_binds=[f"{self._script}:{SCRIPT}:ro"],
            user=image.user or str(self._settings.get("user", "")),
            limits="",
        )

    def start(self) -> str:
        """Where the job runs: the container starts with each script."""
        return self.name

    def files(self) -> HostFiles:
        """The volumes are folders of this host."""
        builds = self.volumes.host_folder(self.volumes.builds_folder)
        if builds is None:
            raise SourcesError(f"{self.volumes.builds_folder} is in no volume")
        return HostFiles(self._work, builds, self.volumes.host_folder(self.volumes.caches_folder))

    def run(self, script: str, write: Callable[[bytes], None], stop: threading.Event) -> int:
        """Run a script in the build container, its output to `write`; answers its exit code.

        Killed when `stop` is set.
        """
        self._script.write_text(script)
        self._script.chmod(0o644)
        api = self._engine.api
        output = api.attach(self._build, stdout=True, stderr=True, stream=True, logs=False)
        done = threading.Event()
        watch = threading.Thread(target=self._kill_when, args=(stop, done), daemon=True)
        api.start(self._build)
        watch.start()
        try:
            for piece in output:
                write(piece)
            result = api.wait(self._build, timeout=ENGINE_PATIENCE)
        finally:
            done.set()
            watch.join()
        return int(result["StatusCode"])

    def _kill_when(self, stop: threading.Event, done: threading.Event) -> None:
        while not done.wait(0.2):
            if stop.is_set():
                self._quietly(lambda: self._engine.api.kill(self._build))
                return

    def _start_services(self, services: Sequence[Image], images: Images, variables: Variables) -> dict[str, str]:
        """Start them; answers name -> address for the build container's hosts."""
        hosts: dict[str, str] = {}
        started: list[tuple[str, str, str, list[int]]] = []
        for index, service in enumerate(services):
            if not is_allowed(service.name, self._settings.get("allowed_services")):
                raise ImageError(f"The {service.name!r} service is not present on list of allowed services")
            self._say(f"Starting service {service.name}...")
            found = images.get(service, self._say)
            names = [*service.aliases, *service_names(service.name)]
            own = variables.with_more(list(service.variables))
            container = self._create(
                f"{self._unique}-{service_names(service.name)[-1].replace('/', '-')}-{index}",
                found["Id"],
                command=list(service.command) or None,
                entrypoint=list(service.entrypoint) if service.entrypoint else None,
                environment={**variables.public_environment(), **{v.key: own.get(v.key) for v in service.variables}},
                hosts={},
                aliases=names,
                privileged=self._privileged(service.name, "services_privileged", "allowed_privileged_services"),
                extra_binds=[],
                user=service.user,
                limits="service_",
            )
            self._engine.api.start(container)
            address = self._address(container)
            if not self._network and address:
                hosts |= {name: address for name in names if name not in hosts}
            ports = sorted(int(port.split("/")[0]) for port in (found["Config"].get("ExposedPorts") or {}))
            started.append((service.name, container, address, ports))
        self._wait_for(started)
        return hosts

    def _privileged(self, name: str, setting: str, patterns: str) -> bool:
        value = self._settings.get(setting)
        if value is None:
            value = self._settings.get("privileged", False)
        return bool(value) and is_allowed(name, self._settings.get(patterns))

    def _wait_for(self, started: Sequence[tuple[str, str, str, list[int]]]) -> None:
        timeout = int(self._settings.get("wait_for_services_timeout") or WAIT_FOR_SERVICES)
        waiting = [entry for entry in started if entry[3]]
        if not waiting or timeout < 0:
            return
        self._say(f"Waiting for services to be up and running (timeout {timeout} seconds)...")
        deadline = time.monotonic() + timeout
        for name, container, address, ports in waiting:
            while (problem := self._problem(container, address, ports)) and time.monotonic() < deadline:
                if problem != "timeout":
                    break
                time.sleep(0.1)
            if problem:
                self._explain(name, container, problem)

    def _problem(self, container: str, address: str, ports: Sequence[int]) -> str:
        """Why a service is not ready; nothing when it is."""
        for port in ports:
            try:
                socket.create_connection((address, port), 1).close()
            except OSError:
                continue
            return ""
        state = self._engine.api.inspect_container(container)["State"]
        return "timeout" if state["Running"] else f"container exited with code {state['ExitCode']}"

    def _explain(self, name: str, container: str, problem: str) -> None:
        logs = self._engine.api.logs(container, tail=50).decode(errors="replace").strip()
        self._say("")
        self._say(f"\x1b[0;33m*** WARNING:\x1b[0;m Service {name} probably didn't start properly.")
        self._say("")
        self._say(f'Health check error:\nservice "{name}" {problem}')
        self._say("")
        self._say(f"Service container logs:\n{logs}")
        self._say("\n\x1b[0;33m*********\x1b[0;m\n")

    def _address(self, container: str) -> str:
        networks = self._engine.api.inspect_container(container)["NetworkSettings"]["Networks"]
        return next((str(network["IPAddress"]) for network in networks.values() if network["IPAddress"]), "")

    def _create(
        self,
        name: str,
        image: str,
        *,
        command: list[str] | None,
        entrypoint: list[str] | None,
        environment: dict[str, str],
        hosts: dict[str, str],
        aliases: Sequence[str],
        privileged: bool,
        extra_binds: Sequence[str],
        user: str,
        limits: str,
    ) -> str:
        api = self._engine.api
        host_config = api.create_host_config(
            binds=[*self.volumes.binds, *extra_binds],
            privileged=privileged,
            extra_hosts=[f"{alias}:{address}" for alias, address in hosts.items()]
            + as_list(self._settings.get("extra_hosts")),
            network_mode=self._network or self._settings.get("network_mode") or None,
            log_config=LogConfig(type=LogConfig.types.JSON),
            **self._limits(limits),
        )
        network = (
            {"EndpointsConfig": {self._network: api.create_endpoint_config(aliases=list(aliases))}}
            if self._network
            else None
        )
        made = api.create_container(
            image,
            name=name,
            command=command,
            entrypoint=entrypoint,
            environment=environment,
            hostname=str(self._settings.get("hostname") or self.name)[:63] if limits == "" else None,
            user=user or None,
            labels=self._labels,
            host_config=host_config,
            networking_config=network,
        )
        self._containers.append(str(made["Id"]))
        return str(made["Id"])

    def _limits(self, prefix: str) -> dict[str, Any]:
        """Settings that go to the engine as they are; services have their own memory and processors."""
        settings = self._settings
        options: dict[str, Any] = {
            "dns": as_list(settings.get("dns")),
            "dns_search": as_list(settings.get("dns_search")),
            "mem_limit": settings.get(f"{prefix}memory"),
            "cpuset_cpus": settings.get(f"{prefix}cpuset_cpus"),
            "shm_size": settings.get("shm_size") or None,
            "security_opt": as_list(settings.get("services_security_opt" if prefix else "security_opt")),
            "sysctls": settings.get("sysctls"),
        }
        if cpus := settings.get(f"{prefix}cpus"):
            options["nano_cpus"] = int(float(cpus) * 10**9)
        if not prefix:
            options |= {
                "devices": as_list(settings.get("devices")),
                "tmpfs": settings.get("tmpfs"),
                "oom_kill_disable": bool(settings.get("oom_kill_disable")),
            }
        options |= {name: as_list(settings.get(name)) for name in ("cap_add", "cap_drop")}
        return {name: value for name, value in options.items() if value}


def service_names(image: str) -> list[str]:
    """Names under which a job reaches a service: its image's, without tag, slashes replaced in two ways."""
    name = re.sub(r"(:[^/:@]+)?(@.*)?$", "", image)
    name = re.sub(r":\d+/", "/", name)
    return list(dict.fromkeys([name.replace("/", "__"), name.replace("/", "-")]))
