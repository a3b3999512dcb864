"""Measure, from outside, that an installation is what it should be.

Reads the outputs of a stack and prints one line for each promise made to its user, measured at that moment. It knows
nothing but those outputs and uses the clients that a user has: `dig`, `nmap`, `docker`, `ssh`, `curl`, and the client
libraries of S3 and GitLab. It changes nothing, except for one temporary project in GitLab, which it deletes again.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tools.backup import list_backups
from tools.clients import (
    FAILURES,
    CheckError,
    Docker,
    Outputs,
    run,
    stored,
    temporary_project,
)
from tools.pipelines import last_pipeline, project_of, times_of


@dataclass(frozen=True)
class Result:
    """What one check measured, in how many seconds."""

    name: str
    measured: str
    holds: bool
    seconds: float


Check = Callable[[Outputs], str]

#: Ports that a server may listen on: the system's, Docker's, and those of the services inside GitLab.
_SERVICE_PORTS = "1-1024,2375,2376,3000,3306,3807,5000,5432,6379,6432,8000,8060,8080-8083,8150-8155,9090-9236"
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
    """Exactly the intended ports are open: out of all 65535 for root, else out of those that services use."""
    expected = {22, 80, 443, outputs.registry_port}
    # Half-open connections, which are quick enough for all ports, are for root only.
    whole = os.geteuid() == 0
    scan = ["-sS", "-p-", "--min-rate=5000"] if whole else ["-sT", f"-p{_SERVICE_PORTS},{outputs.registry_port}"]
    report = run(
        "nmap", "-Pn", "-n", *scan, "--max-retries=1", "--host-timeout=180s", "-oG", "-",
        outputs.address, timeout=240,
    )  # fmt: skip
    found = {int(entry.split("/")[0]) for entry in _ports(report) if entry.split("/")[1] == "open"}
    if found != expected:
        raise CheckError(f"open ports: {sorted(found)}, expected {sorted(expected)}")
    listed = ", ".join(str(port) for port in sorted(found))
    if not whole:
        return f"open: {listed}; closed: the others that services use (run as root to scan all 65535)"
    return f"open: {listed}; closed: the other {65535 - len(found)}"


def tls_is_trusted(outputs: Outputs) -> str:
    """Both ports present a certificate chain that this machine trusts, for the right name."""
    lines = [f"{port}: {_certificate(outputs.host, port)}" for port in (443, outputs.registry_port)]
    return "; ".join(lines)


def gitlab_is_ready(outputs: Outputs) -> str:
    """The sign-in page is served, and the API accepts the token of the stack."""
    status = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{outputs.url}/users/sign_in")
    if status != "200":
        raise CheckError(f"{outputs.url}/users/sign_in answers {status}")
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
        if pipeline.status != "success":
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


def checks_of(outputs: Outputs) -> dict[str, Check]:
    """The checks that apply to a stack."""
    has_pipeline = any(one.get("docker_pull") for one in outputs.projects)
    makes_backups = bool((outputs.backup or {}).get("max_age_hours"))
    return CHECKS | (PROJECT_CHECKS if has_pipeline else {}) | (BACKUP_CHECKS if makes_backups else {})


def measure(outputs: Outputs) -> Iterator[Result]:
    """Run every check, side by side; yields the results in the order of the checks."""
    checks = checks_of(outputs)
    with ThreadPoolExecutor(len(checks)) as pool:
        yield from pool.map(lambda item: _measure(item[0], item[1], outputs), checks.items())


def _measure(name: str, check: Check, outputs: Outputs) -> Result:
    began = time.monotonic()
    try:
        measured, holds = check(outputs), True
    except FAILURES as error:
        measured, holds = str(error), False
    return Result(name, measured, holds, time.monotonic() - began)


def _ports(report: str) -> list[str]:
    lines = [line for line in report.splitlines() if "Ports: " in line]
    if not lines:
        return []
    return [entry.strip() for entry in lines[0].split("Ports: ")[1].split("\t")[0].split(",")]


def _certificate(host: str, port: int) -> str:
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), timeout=15) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert() or {}
    issuer = dict(pair for parts in certificate["issuer"] for pair in parts)  # type: ignore[misc]
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    return f"issued by {issuer.get('commonName', issuer)}, {days:.0f} days left"


def verify(stack: str | None) -> int:
    """Print the table for a stack, or for the selected one; 0 if everything holds, else 1."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        outputs = Outputs.of_stack(stack)
    except FAILURES as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    table = Table("", "Check", "Measured", "s", title=f"{outputs.url} and its registry {outputs.registry}")
    failed = 0
    for result in measure(outputs):
        failed += not result.holds
        mark = "[green]✓[/]" if result.holds else "[red]✗[/]"
        table.add_row(mark, result.name, result.measured, f"{result.seconds:.1f}")
    console.print(table)
    due = len(checks_of(outputs))
    console.print(f"{due - failed} of {due} hold")
    for project_output in [] if failed else outputs.projects:
        if project_output.get("docker_run"):
            console.print(f"Next: {project_output['docker_pull']} && {project_output['docker_run']}", soft_wrap=True)
    return 1 if failed else 0
