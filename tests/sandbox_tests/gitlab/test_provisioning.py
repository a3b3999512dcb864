"""The program's own script in the Rails console of the stand-in: what an administrator may have changed by hand."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest

from components.rendering import script
from tests.sandbox.gitlab.build import build
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance

pytestmark = pytest.mark.new_instance

TOKEN = "glpat-ABCDEFGHIJKLMNOPQRST"  # noqa: S105 - of an instance that lives as long as a test


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = build("19.3.0-ce.0", tmp_path_factory.mktemp("deb"))
    unpacked = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    return unpacked


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "provision.rb").write_text(script("provision-admin.rb"))
    return str(tmp_path / "provision.rb")


def provision(instance: Instance, tree: Path, program: str, password: str = PASSWORD) -> tuple[int, str]:
    """Run the script; the exit code and what it said."""
    expires = datetime.datetime.now(tz=datetime.UTC).date() + datetime.timedelta(days=180)
    lines = ("root", password, "slipway-8212", "api create_runner", expires.isoformat(), TOKEN)
    done = instance.runner(tree, program, "\n".join(lines))
    return done.returncode, done.stderr.strip()


def test_the_token_is_created_once_and_nothing_is_said(instance: Instance, tree: Path, program: str) -> None:
    for _ in range(2):
        assert provision(instance, tree, program) == (0, "")
    client = instance.client(TOKEN)
    client.auth()
    assert client.user
    assert client.user.username == "root"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "UPDATE users SET username = 'boss' WHERE id = 1",
            "GitLab has no user root any more: user 1 is now called boss",
        ),
        ("UPDATE users SET state = 'blocked' WHERE id = 1", "root is blocked in GitLab"),
        ("UPDATE users SET admin = 0 WHERE id = 1", "root is no administrator in GitLab any more"),
        ("UPDATE personal_access_tokens SET revoked = 1", "the stack's API token was revoked in GitLab"),
    ],
)
def test_what_an_administrator_changed_is_named_with_the_way_back(
    instance: Instance, tree: Path, program: str, statement: str, message: str
) -> None:
    provision(instance, tree, program)
    instance.execute(statement)
    code, said = provision(instance, tree, program)
    assert code == 1
    assert said.startswith(f"error: {message}")
    assert "pulumi up" in said


def test_a_changed_password_is_set_back_and_named(instance: Instance, tree: Path, program: str) -> None:
    provision(instance, tree, program)
    code, said = provision(instance, tree, program, password="tV6-qwm-Lnd-31")  # noqa: S106
    assert (code, said) == (0, "gitlab: the password of root was changed in GitLab; it is the stack's again")


def test_a_second_factor_is_no_failure_and_says_how_to_log_in(instance: Instance, tree: Path, program: str) -> None:
    provision(instance, tree, program)
    instance.execute("UPDATE users SET otp_required_for_login = 1 WHERE id = 1")
    code, said = provision(instance, tree, program)
    assert code == 0
    assert "docker login needs a personal access token as the password" in said
