"""An update that fails on a machine: what still works, and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.certificates import provided
from tests.e2e.stack import SANDBOX, Stack
from tools.clients import try_run


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack without projects; destroyed at the end."""
    made = Stack.create("failed", tmp_path_factory.mktemp("stack"), SANDBOX, domain="failed.test")
    made.set(projects=None, runners=None)
    made.up()
    yield made
    made.remove()


def assert_serves(stack: Stack) -> None:
    """GitLab and the registry respond, with a certificate that is trusted."""
    outputs = stack.outputs()
    for url, status in ((f"{outputs.url}/users/sign_in", "200"), (f"https://{outputs.registry}/v2/", "401")):
        answer = try_run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
        assert answer.stdout == status, answer.stderr


def test_a_certificate_that_nobody_trusts_is_not_served_and_the_way_back_runs_the_step_again(stack: Stack) -> None:
    certificate = provided("gitlab.failed.test")
    key = certificate.pop("privateKey")
    stack.set(certificate=certificate)
    stack.set_secret("certificate.privateKey", key)
    failed = stack.attempt("up", "--yes", "--skip-preview")
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "error: the server itself rejects GitLab's certificate" in output
    assert "bash -s -- gitlab-configuration " in output
    assert_serves(stack)

    stack.set(certificate=None)
    assert stack.changes() == {"gitlab-configuration": "update"}
    stack.up()
    assert_serves(stack)
    stack.up("--expect-no-changes")


def test_another_port_of_the_registry_is_the_only_one_that_stays_open(stack: Stack) -> None:
    stack.set(registry={"port": 5050})
    stack.up()
    assert_serves(stack)
    rules = stack.outputs().ssh("sudo ufw status")
    assert "5050/tcp" in rules
    assert "5555/tcp" not in rules
