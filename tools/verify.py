"""Measure, from outside, that an installation is what it should be.

`python -m tools.verify` reads the outputs of the selected stack and prints one line for each thing that a user is
promised, measured there and then. It knows nothing but those outputs and uses the clients that a user has: `dig`,
`nmap`, `docker`, `ssh`, and the client libraries of S3 and GitLab. It makes one project in GitLab for the time that
it needs it. The exit code is 0 only if every line holds.
"""

from __future__ import annotations

import argparse
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

from tools.clients import (
    FAILURES,
    CheckError,
    Docker,
    Outputs,
    blobs_in_bucket,
    blobs_on_server,
    run,
    temporary_project,
)
from tools.pipelines import last_pipeline, project_of, times_of


@dataclass(frozen=True)
class Result:
    """What one check measured."""

    name: str
    measured: str
    holds: bool
    seconds: float


Check = Callable[[Outputs], str]

#: What the sample application answers at /hello/test.
GREETING = "Hello, test!"


def dns_answers(outputs: Outputs) -> str:
    """The name resolves to the reserved address, and the CAA record is there where Let's Encrypt issues."""
    addresses = run("dig", "+short", "A", outputs.host).split()
    if addresses != [outputs.address]:
        raise CheckError(f"{outputs.host} is {addresses or 'unknown'}, expected {outputs.address}")
    authority = run("dig", "+short", "CAA", outputs.host).strip() or "no CAA"
    return f"{outputs.host} → {outputs.address}, {authority}"


def ports_are_closed(outputs: Outputs) -> str:
    """Of all 65535 ports only those that are meant to be open are."""
    expected = {22, 80, 443, outputs.registry_port}
    report = run(
        "nmap", "-Pn", "-n", "-sS", "-p-", "--min-rate=5000", "--max-retries=1", "--host-timeout=180s", "-oG", "-",
        outputs.address, timeout=240,
    )  # fmt: skip
    found = {int(entry.split("/")[0]) for entry in _ports(report) if entry.split("/")[1] == "open"}
    if found != expected:
        raise CheckError(f"open are {sorted(found)}, expected {sorted(expected)}")
    return f"open {', '.join(str(port) for port in sorted(found))}; the other {65535 - len(found)} are not"


def tls_is_trusted(outputs: Outputs) -> str:
    """Both ports show a certificate chain that this machine trusts, for the right name."""
    lines = [f"{port}: {_certificate(outputs.host, port)}" for port in (443, outputs.registry_port)]
    return "; ".join(lines)


def gitlab_is_ready(outputs: Outputs) -> str:
    """The sign-in page is served, and the API knows the token of the stack."""
    status = run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{outputs.url}/users/sign_in")
    if status != "200":
        raise CheckError(f"{outputs.url}/users/sign_in answers {status}")
    client = outputs.gitlab()
    client.auth()
    version = client.version()[0]
    return f"sign-in page 200, API of version {version} as {client.user.username if client.user else 'nobody'}"


def login_is_checked(outputs: Outputs) -> str:
    """`docker login` succeeds with the right password and fails with a wrong one."""
    with Docker.session() as docker:
        docker.login(outputs.registry, outputs.user, outputs.password)
        refused = docker.try_login(outputs.registry, outputs.user, f"not-{outputs.password}")
    if refused.returncode == 0:
        raise CheckError("a wrong password is accepted")
    return f"{outputs.user} logs in at {outputs.registry}; a wrong password is refused"


def images_travel(outputs: Outputs) -> str:
    """An image is pushed and pulled back unchanged, is really in the storage, and is not for everybody."""
    with temporary_project(outputs) as path, Docker.session() as docker:
        image = f"{outputs.registry}/{path}:{secrets.token_hex(4)}"
        docker.login(outputs.registry, outputs.user, outputs.password)
        docker.make_image(image)
        pushed = docker.push(image)
        docker.forget(image)
        pulled = docker.pull(image)
        if pulled != pushed:
            raise CheckError(f"pushed {pushed}, pulled {pulled}")
        stored = _stored(outputs, pushed)
        docker.forget(image)
        docker.logout(outputs.registry)
        if docker.try_pull(image).returncode == 0:
            raise CheckError("an image of a private project can be pulled without a login")
    return f"{pushed[:19]}… pushed and pulled, {stored}; anonymous pull refused"


def pipelines_are_green(outputs: Outputs) -> str:
    """The last pipeline of each default branch that the stack declares one for ends well; each job with its time."""
    lines = []
    for told in outputs.projects:
        if not told.get("docker_pull"):
            continue
        project = project_of(outputs, told)
        pipeline = last_pipeline(project)
        times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in times_of(pipeline).items())
        if pipeline.status != "success":
            raise CheckError(f"{project.path_with_namespace}: pipeline {pipeline.status}: {times}")
        lines.append(f"{project.path_with_namespace}: {times}")
    return "; ".join(lines)


def images_answer(outputs: Outputs) -> str:
    """The released image of each sample application, pulled by its digest with the deploy token, greets."""
    lines = []
    for told in outputs.projects:
        if not told.get("docker_run"):
            continue
        last_pipeline(project_of(outputs, told))
        digest, answer = released(outputs, told)
        if answer != GREETING:
            raise CheckError(f"{told['image']}@{digest} answers {answer!r}")
        lines.append(f"{told['image']}@{digest[:19]}… → {answer}")
    return "; ".join(lines)


def released(outputs: Outputs, told: dict[str, str]) -> tuple[str, str]:
    """Digest of what a project has released, and what a container of it, pulled by that digest, says to `test`."""
    with Docker.session() as docker:
        docker.login(outputs.registry, told["deploy_username"], told["deploy_token"])
        digest = docker.pull(f"{told['image']}:latest")
        pinned = f"{told['image']}@{digest}"
        docker.pull(pinned)
        with docker.running(pinned, 3000) as port:
            address = f"http://127.0.0.1:{port}/hello/test"
            answer = run("curl", "-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", address)
    return digest, answer


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


def checks_of(outputs: Outputs) -> dict[str, Check]:
    """The checks that a stack is due."""
    return CHECKS | PROJECT_CHECKS if any(told.get("docker_pull") for told in outputs.projects) else CHECKS


def measure(outputs: Outputs) -> Iterator[Result]:
    """Every check, side by side; results come in the order of the checks."""
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


def _stored(outputs: Outputs, digest: str) -> str:
    if outputs.storage:
        count = blobs_in_bucket(outputs.storage, digest)
        return f"{count} blobs in bucket {outputs.storage['bucket']}"
    return f"{blobs_on_server(outputs, digest)} blobs on the server's volume"


def main() -> int:
    """Print the table; 0 if everything holds."""
    parser = argparse.ArgumentParser(description="Measure, from outside, that an installation is what it should be.")
    parser.add_argument("--stack", help="the stack to measure; the selected one if left out")
    outputs = Outputs.of_stack(parser.parse_args().stack)
    table = Table("", "Check", "Measured", "s", title=f"{outputs.url} and its registry {outputs.registry}")
    failed = 0
    for result in measure(outputs):
        failed += not result.holds
        table.add_row(
            "[green]✓[/]" if result.holds else "[red]✗[/]", result.name, result.measured, f"{result.seconds:.1f}"
        )
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    due = len(checks_of(outputs))
    console.print(f"{due - failed} of {due} hold")
    for told in [] if failed else outputs.projects:
        if told.get("docker_run"):
            console.print(f"Next: {told['docker_pull']} && {told['docker_run']}", soft_wrap=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
