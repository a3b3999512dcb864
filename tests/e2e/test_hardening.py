"""Machines as a stranger sees them, and as security scanners judge them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import Host
from tests.e2e.stack import RUNNER, SANDBOX, Stack
from tools.clients import run, try_run
from tools.pipelines import until

#: What a machine has to reach in an audit by Lynis, of 100.
SCORE = 80
VERSIONS = "dpkg-query --show debsums gitlab-ce gitlab-runner 2>/dev/null || true"
#: Failed logins after which an address is blocked.
FAILURES = 5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with one runner; destroyed at the end, although the server has blocked this address by then."""
    made = Stack.create(
        "hardening",
        tmp_path_factory.mktemp("hardening"),
        SANDBOX,
        domain="hardening.test",
        registry={"storage": "filesystem"},
        runners=[RUNNER],
    )
    try:
        made.up()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module", params=["server", "delivery-docker-builder-1"])
def host(request: pytest.FixtureRequest, stack: Stack) -> Host:
    """The server, and then the machine of the runner."""
    return Host.of(stack, request.param)


def test_ssh_offers_nothing_that_an_audit_fails(host: Host) -> None:
    audit = [sys.executable, "-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", host.address]
    done = subprocess.run(audit, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert found["kex"]
    assert found["cves"] == []
    # Warnings are left: of the key exchange that Pulumi's own SSH client has.
    assert {change: list(kinds) for change, kinds in found["recommendations"].get("critical", {}).items()} == {}
    assert set(found["recommendations"].get("warning", {}).get("del", {})) <= {"kex"}


def test_an_audit_of_the_machine_finds_it_hardened(host: Host) -> None:
    host.sudo("apt-get -qq update && apt-get -qq install --yes --no-install-recommends lynis >/dev/null")
    report = host.sudo("lynis audit system --quick --cronjob >/dev/null; cat /var/log/lynis-report.dat", timeout=400)
    assert re.findall(r"^warning\[\]=(.*)", report, re.MULTILINE) == []
    [score] = re.findall(r"^hardening_index=(\d+)", report, re.MULTILINE)
    assert int(score) >= SCORE


def test_updates_of_the_distribution_are_installed_by_themselves_but_none_of_gitlab(host: Host) -> None:
    assert 'APT::Periodic::Unattended-Upgrade "1";' in host.sudo("apt-config dump")
    before = dict(line.split() for line in host.sudo(VERSIONS).splitlines())
    host.sudo((Path(__file__).parent / "files/old-package.sh").read_text())
    host.sudo("apt-get -qq update && unattended-upgrade")
    # The archive has later versions of GitLab and of the runner, too.
    assert dict(line.split() for line in host.sudo(VERSIONS).splitlines()) == before
    assert len(before) == 2


def test_no_packet_goes_through_a_machine_to_another(host: Host) -> None:
    done = host.forwarded("localhost:22")
    assert done.returncode != 0
    assert "administratively prohibited" in done.stderr


@pytest.mark.parametrize("port", [443, 5555])
def test_tls_is_what_a_scanner_grades_a(stack: Stack, port: int) -> None:
    name = str(stack.outputs().values["gitlab_url"]).removeprefix("https://")
    report = run("nmap", "-Pn", "-p", str(port), "--script", "ssl-enum-ciphers", name, timeout=120)
    assert re.findall(r"(TLSv1\.\d|SSLv\d):", report) == ["TLSv1.2", "TLSv1.3"]
    assert "least strength: A" in report
    assert not re.search(r"_CBC_|_CCM|TLS_RSA", report)
    headers = run("curl", "--silent", "--show-error", "--head", f"https://{name}:{port}/").lower()
    assert "strict-transport-security: max-age=63072000" in headers


def test_an_address_that_guesses_is_blocked_from_ssh_and_from_nothing_else(stack: Stack) -> None:
    server = Host.of(stack, "server")
    options = [
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]
    # A connection that is blocked half-way would be waited for without end.
    guess = ["timeout", "45", "ssh", *options, "-o", "ConnectTimeout=20", f"nobody-here@{server.address}"]
    answers = [try_run(*guess).stderr for _ in range(FAILURES)]
    assert all("Permission denied" in answer for answer in answers)
    until(lambda: "Permission denied" not in try_run(*guess).stderr, "the address to be blocked", 60)
    assert run("curl", "--silent", "--show-error", "--head", str(stack.outputs().values["gitlab_url"]))
