"""The program's own script in the Rails console of the stand-in: what an administrator may have changed by hand."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from components.rendering import script
from tests.sandbox_tests.support.gitlab_instance import PASSWORD, Instance

pytestmark = pytest.mark.new_instance

TOKEN = "glpat-ABCDEFGHIJKLMNOPQRST"  # noqa: S105 - of an instance that lives as long as a test


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "provision.rb").write_text(script("application-settings.rb") + script("provision-admin.rb"))
    return str(tmp_path / "provision.rb")


def provision(
    instance: Instance,
    tree: Path,
    program: str,
    *,
    password: str = PASSWORD,
    name: str = "slipway-4711-8212",
    token: str = TOKEN,
    settings: str = "{}",
) -> tuple[int, str]:
    """Run the script; the exit code and what it said."""
    expires = datetime.datetime.now(tz=datetime.UTC).date() + datetime.timedelta(days=180)
    lines = ("root", password, name, "api create_runner", expires.isoformat(), token, settings)
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


def test_the_first_run_sets_the_password_and_a_changed_one_stays_and_is_named(
    instance: Instance, tree: Path, program: str
) -> None:
    assert provision(instance, tree, program, password="tV6-qwm-Lnd-31") == (0, "")  # noqa: S106
    valid = "puts User.first.valid_password?($stdin.read.strip)"
    assert instance.runner(tree, valid, "tV6-qwm-Lnd-31").stdout == "true\n"
    code, said = provision(instance, tree, program, password="xK2-rrp-Bvf-77")  # noqa: S106
    assert code == 0
    assert said.startswith("gitlab: the password of root was changed in GitLab and stays")
    assert instance.runner(tree, valid, "tV6-qwm-Lnd-31").stdout == "true\n"


def working(instance: Instance, tree: Path) -> list[str]:
    """The names of root's tokens that work, without the test's own."""
    names = instance.runner(tree, "puts User.first.personal_access_tokens.active.map(&:name)").stdout.split()
    return sorted(set(names) - {"first"})


def test_a_machine_that_is_made_again_leaves_one_working_token(instance: Instance, tree: Path, program: str) -> None:
    for machine, letter in (("4711", "A"), ("4712", "B"), ("4713", "C")):
        provision(instance, tree, program, name=f"slipway-{machine}-8212", token=f"glpat-{letter * 20}")
    assert working(instance, tree) == ["slipway-4713-8212"]
    instance.client(f"glpat-{'C' * 20}").auth()


def test_a_token_keeps_its_value_on_a_replaced_machine(instance: Instance, tree: Path, program: str) -> None:
    # The first name is that of earlier versions.
    for name in ("slipway-4711-8212", "slipway-4712-8212"):
        instance.execute("UPDATE personal_access_tokens SET name = 'slipway-8212' WHERE name = 'slipway-4711-8212'")
        assert provision(instance, tree, program, name=name) == (0, "")
        assert working(instance, tree) == [name]
    instance.client(TOKEN).auth()


def test_the_token_of_the_last_period_works_and_no_older_or_replaced_one(
    instance: Instance, tree: Path, program: str
) -> None:
    for period, letter in ((8210, "A"), (8211, "B"), (8212, "C"), (8212, "D")):
        provision(instance, tree, program, name=f"slipway-4711-{period}", token=f"glpat-{letter * 20}")
    assert working(instance, tree) == ["slipway-4711-8211", "slipway-4711-8212"]
    instance.client(f"glpat-{'D' * 20}").auth()


def test_tokens_of_people_stay(instance: Instance, tree: Path, program: str) -> None:
    for name in ("slipway-deploy", "slipway-4711-8212-copy", "mine"):
        code = (
            f"User.first.personal_access_tokens.create!(name: '{name}', scopes: ['api'], expires_at: 1.week.from_now)"
        )
        assert instance.runner(tree, code).returncode == 0
    provision(instance, tree, program)
    assert working(instance, tree) == ["mine", "slipway-4711-8212", "slipway-4711-8212-copy", "slipway-deploy"]


def test_a_second_factor_is_no_failure_and_says_how_to_log_in(instance: Instance, tree: Path, program: str) -> None:
    provision(instance, tree, program)
    instance.execute("UPDATE users SET otp_required_for_login = 1 WHERE id = 1")
    code, said = provision(instance, tree, program)
    assert code == 0
    assert "docker login needs a personal access token as the password" in said
