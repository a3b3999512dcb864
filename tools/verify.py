"""Measure, from outside, that an installation is what it should be.

Reads the outputs of a stack and prints one line for each promise made to its user, measured at that moment. It knows
nothing but those outputs and uses the clients that a user has: `dig`, `docker`, `ssh`, `curl`, and libraries for HTTP,
S3 and GitLab; for all ports, `nmap` as root. It changes nothing, except for one temporary project in GitLab, which it
deletes again.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import httpx
from rich.console import Console
from rich.table import Table

from tools import ports
from tools.answers import reason_of
from tools.backup import list_backups
from tools.ci_runner import of_own_runner
from tools.clients import (
    FAILURES,
    CheckError,
    Docker,
    Outputs,
    outputs_of,
    run,
    stored,
    temporary_project,
    try_run,
)
from tools.hub_cache import cached_machines, require_caches
from tools.mail import mail_is_sent
from tools.metrics import metrics_are_collected
from tools.pipelines import has_no_code, last_pipeline, project_of, times_of
from tools.state import StackState


@dataclass(frozen=True)
class Result:
    """What one check measured, in how many seconds."""

    name: str
    measured: str
    holds: bool
    seconds: float


Check = Callable[[Outputs], str]

#: Within which the sign-in page has to answer.
_PAGE_SECONDS: Final = 60
#: The answer of the sample application at /hello/test.
GREETING = "Hello, test!"


def dns_answers(outputs: Outputs) -> str:
    """The name resolves to the reserved address; the CAA record is shown if there is one."""
    addresses = run("dig", "+short", "A", outputs.host).split()
    if addresses != [outputs.address]:
        raise CheckError(f"{outputs.host} resolves to {addresses or 'nothing'}, expected {outputs.address}")
    caa = run("dig", "+short", "CAA", outputs.host).strip() or "no CAA record"
    return f"{outputs.host} → {outputs.address}, {caa}"


def ports_are_closed(outputs: Outputs) -> str:
    """Of the ports that services use, exactly the intended ones accept connections."""
    tried = {*ports.SERVICES, *_intended(outputs)}
    found = ports.connect(outputs.address, tried)
    listed = _require_ports(found, outputs)
    return f"open: {listed}; closed: the other {len(tried) - len(found)} that services use (--all-ports tries all)"


def all_ports_are_closed(outputs: Outputs) -> str:
    """Of all 65535 ports, exactly the intended ones are open."""
    found = ports.scan(outputs.address)
    return f"open: {_require_ports(found, outputs)}; closed: the other {65535 - len(found)}"


def _intended(outputs: Outputs) -> set[int]:
    return {22, 80, 443, outputs.registry_port}


def _require_ports(found: set[int], outputs: Outputs) -> str:
    if found != (expected := _intended(outputs)):
        raise CheckError(f"open ports: {sorted(found)}, expected {sorted(expected)}")
    return ", ".join(str(port) for port in sorted(found))


def tls_is_trusted(outputs: Outputs) -> str:
    """Both ports present a certificate chain that this machine or the stack trusts, for the right name."""
    trust = outputs.trust()
    lines = [f"{port}: {certificate_of(outputs.host, port, trust)}" for port in (443, outputs.registry_port)]
    return "; ".join(lines)


def gitlab_is_ready(outputs: Outputs) -> str:
    """The sign-in page is served, and the API accepts the token of the stack."""
    address = f"{outputs.url}/users/sign_in"
    try:
        status = httpx.get(address, verify=outputs.trust(), timeout=_PAGE_SECONDS).status_code
    except httpx.HTTPError as error:
        raise CheckError(f"{address} does not answer: {reason_of(error)}") from error
    if status != HTTPStatus.OK:
        raise CheckError(f"{address} answers {status}")
    client = outputs.gitlab()
    client.auth()
    version = client.version()[0]
    return f"sign-in page: 200; API: version {version}, as {client.user.username if client.user else 'nobody'}"


def login_is_checked(outputs: Outputs) -> str:
    """`docker login` succeeds with the right password and fails with a wrong one."""
    with Docker.session() as docker:
        how = log_in(docker, outputs)
        refused = docker.try_login(outputs.registry, outputs.user, f"not-{outputs.password}")
    if refused.returncode == 0:
        raise CheckError("the registry accepts a wrong password")
    return f"{outputs.user} logs in to {outputs.registry}{how}; a wrong password is refused"


def log_in(docker: Docker, outputs: Outputs) -> str:
    """Log in as the administrator; returns what is to be said about how, if anything.

    People change the password of `root` and turn on a second factor. Then the stack's API token is what works.
    """
    if docker.try_login(outputs.registry, outputs.user, outputs.password).returncode == 0:
        return ""
    docker.login(outputs.registry, outputs.user, outputs.api_token)
    return " with the stack's API token, not with the password of the outputs, which was changed in GitLab"


def images_travel(outputs: Outputs) -> str:
    """An image is pushed and pulled back unchanged, is in the storage, and cannot be pulled anonymously."""
    with temporary_project(outputs) as path, Docker.session() as docker:
        image = f"{outputs.registry}/{path}:{secrets.token_hex(4)}"
        log_in(docker, outputs)
        docker.make_image(image)
        pushed = docker.push(image)
        docker.forget(image)
        pulled = docker.pull(image)
        if pulled != pushed:
            raise CheckError(f"pushed {pushed}, pulled {pulled}")
        usage = stored(outputs)
        usage.require(docker.contents(image))
        docker.forget(image)
        docker.logout(outputs.registry)
        if docker.try_pull(image).returncode == 0:
            raise CheckError("an image of a private project can be pulled without a login")
    return f"{pushed[:19]}… pushed and pulled; the registry uses {usage}; anonymous pull refused"


def pipelines_are_green(outputs: Outputs) -> str:
    """The last pipeline of each project's default branch has succeeded; each job with its time."""
    lines = []
    for project_output in outputs.projects:
        if not project_output.get("docker_pull"):
            continue
        project = project_of(outputs, project_output)
        pipeline = last_pipeline(project)
        times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in times_of(pipeline).items())
        # One that waits for a person has done all that it does by itself.
        if pipeline.status not in {"success", "manual"}:
            if has_no_code(project):
                lines.append(f"{project.path_with_namespace}: nothing to build yet, push your repository to it")
                continue
            raise CheckError(f"{project.path_with_namespace}: pipeline {pipeline.status}: {times}")
        lines.append(f"{project.path_with_namespace}: {times}")
    return "; ".join(lines)


def images_answer(outputs: Outputs) -> str:
    """The released image of each sample application, pulled by its digest with the deploy token, greets."""
    lines = []
    for project_output in outputs.projects:
        if not project_output.get("docker_run"):
            continue
        last_pipeline(project_of(outputs, project_output))
        digest, answer = released(outputs, project_output)
        if answer != GREETING:
            raise CheckError(f"{project_output['image']}@{digest} answers {answer!r}")
        lines.append(f"{project_output['image']}@{digest[:19]}… → {answer}")
    return "; ".join(lines)


def released(outputs: Outputs, project_output: dict[str, str]) -> tuple[str, str]:
    """The digest of a project's released image, and what a container of it answers at /hello/test."""
    with Docker.session() as docker:
        docker.login(outputs.registry, project_output["deploy_username"], project_output["deploy_token"])
        digest = docker.pull(f"{project_output['image']}:latest")
        pinned = f"{project_output['image']}@{digest}"
        docker.pull(pinned)
        with docker.running(pinned, 3000) as port:
            address = f"http://127.0.0.1:{port}/hello/test"
            answer = run("curl", "-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", address)
    return digest, answer


def backup_is_young(outputs: Outputs) -> str:
    """The last complete backup is not older than the stack file allows."""
    listing = list_backups(outputs)
    limit = int((outputs.backup or {})["max_age_hours"])
    return listing.require_younger(limit, time.time())


CHECKS: dict[str, Check] = {
    "DNS": dns_answers,
    "Ports": ports_are_closed,
    "TLS": tls_is_trusted,
    "GitLab": gitlab_is_ready,
    "Login": login_is_checked,
    "Images": images_travel,
}


#: For stacks that have projects with a pipeline.
PROJECT_CHECKS: dict[str, Check] = {"Pipeline": pipelines_are_green, "Released": images_answer}
#: For stacks that make backups.
BACKUP_CHECKS: dict[str, Check] = {"Backup": backup_is_young}
#: For stacks that send mail.
MAIL_CHECKS: dict[str, Check] = {"Mail": mail_is_sent}
#: For stacks that collect metrics.
METRICS_CHECKS: dict[str, Check] = {"Metrics": metrics_are_collected}
#: What checks run besides Python.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "DNS": ("dig",),
    "Login": ("docker",),
    "Images": ("docker", "ssh"),
    "Released": ("docker", "curl"),
    "Backup": ("ssh",),
    "Cache": ("ssh",),
    "Mail": ("ssh",),
    "Metrics": ("ssh",),
}


def checks_of(outputs: Outputs, *, all_ports: bool = False) -> dict[str, Check]:
    """The checks that apply to a stack; with `all_ports`, a scan of all of them, which needs root."""
    has_pipeline = any(one.get("docker_pull") for one in outputs.projects)
    makes_backups = bool((outputs.backup or {}).get("max_age_hours"))
    further = [(has_pipeline, PROJECT_CHECKS), (makes_backups, BACKUP_CHECKS), (bool(outputs.mail), MAIL_CHECKS)]
    further.append((bool(outputs.metrics), METRICS_CHECKS))
    further.append((all_ports, {"Ports": all_ports_are_closed}))
    return CHECKS | {name: check for applies, checks in further if applies for name, check in checks.items()}


def cache_checks(stack: str | None, outputs: Outputs) -> dict[str, Check]:
    """The check of the caches of Docker Hub, if machines of the stack have any. A job cannot reach its own machine."""
    state = StackState.of_stack(stack)
    if not cached_machines(state, outputs) or any(of_own_runner(state)):
        return {}
    return {"Cache": partial(require_caches, state)}


def missing_programs(check: str) -> list[str]:
    """The programs of a check that cannot be run here. Docker's client alone, without an engine, is of no use."""
    missing = [name for name in PROGRAMS.get(check, ()) if shutil.which(name) is None]
    if "docker" in PROGRAMS.get(check, ()) and not missing and try_run("docker", "version").returncode != 0:
        return ["docker"]
    return missing


def measure(outputs: Outputs, checks: Mapping[str, Check] | None = None) -> Iterator[Result]:
    """Run every check, side by side; yields the results in the order of the checks."""
    checks = checks_of(outputs) if checks is None else checks
    with ThreadPoolExecutor(len(checks)) as pool:
        yield from pool.map(lambda item: _measure(item[0], item[1], outputs), checks.items())


def _measure(name: str, check: Check, outputs: Outputs) -> Result:
    began = time.monotonic()
    try:
        measured, holds = check(outputs), True
    except FAILURES as error:
        measured, holds = str(error), False
    return Result(name, measured, holds, time.monotonic() - began)


@dataclass(frozen=True)
class Certificate:
    """A trusted certificate for the right name: who issued it, and the days until its end."""

    issuer: str
    days: float

    def __str__(self) -> str:
        return f"issued by {self.issuer}, {self.days:.0f} days left"


def certificate_of(host: str, port: int, trust: ssl.SSLContext, timeout: float = 15) -> Certificate:
    """The certificate that a port presents.

    Raises:
        OSError: `trust` does not accept it, or nothing answers within `timeout` seconds.
    """
    with (
        socket.create_connection((host, port), timeout=timeout) as raw,
        trust.wrap_socket(raw, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert() or {}
    issuer = dict(pair for parts in certificate["issuer"] for pair in parts)  # type: ignore[misc]
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    return Certificate(str(issuer.get("commonName", issuer)), days)


def verify(stack: str | None, *, available: bool = False, all_ports: bool = False) -> int:
    """Print the table for a stack, or for the selected one; returns 0 if everything holds, else 1.

    With `available`, checks whose programs cannot be run here are left out, and named. With `all_ports`, all 65535
    ports are scanned, which needs root.

    Raises:
        ToolError: Pulumi cannot read the stack, or it was never deployed.
    """
    console = Console(width=None if sys.stdout.isatty() else 150)
    outputs = outputs_of(stack)
    table = Table("", "Check", "Measured", "s", title=f"{outputs.url} and its registry {outputs.registry}")
    checks = checks_of(outputs, all_ports=all_ports) | cache_checks(stack, outputs)
    left_out = {name: missing for name in checks if available and (missing := missing_programs(name))}
    checks = {name: check for name, check in checks.items() if name not in left_out}
    failed = 0
    for result in measure(outputs, checks):
        failed += not result.holds
        mark = "[green]✓[/]" if result.holds else "[red]✗[/]"
        table.add_row(mark, result.name, result.measured, f"{result.seconds:.1f}")
    console.print(table)
    console.print(f"{len(checks) - failed} of {len(checks)} hold")
    for name, programs in left_out.items():
        console.print(f"{name}: left out, because {' and '.join(programs)} cannot be run here", soft_wrap=True)
    return 1 if failed else 0
