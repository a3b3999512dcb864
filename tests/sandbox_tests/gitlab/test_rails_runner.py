"""`gitlab-rails runner` of the stand-in: the documented ways to make a token, over the database of a running one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gitlab
import pytest

from tests.sandbox_tests.support.gitlab_instance import Instance

pytestmark = pytest.mark.new_instance

TOKEN = "glpat-ABCDEFGHIJKLMNOPQRST"  # noqa: S105 - of an instance that lives as long as a test
MINT = """
user = User.find_by_username('root')
token = user.personal_access_tokens.build(scopes: [:api, 'create_runner'], name: 'up', expires_at: 90.days.from_now)
token.set_token($stdin.read.strip)
token.save!
"""

#: Sets the clock of one Ruby process.
AT = "moment = Time.iso8601('{}'); Time.define_singleton_method(:now) {{ moment }}"


def _ruby(tree: Path, code: str, moment: str, zone: str = "UTC") -> str:
    """What a script prints that uses the durations alone, at a moment of our choice."""
    support = tree / "opt/gitlab/embedded/rails/support.rb"
    run = subprocess.run(
        ["ruby", "-r", support, "-e", f"{AT.format(moment)}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "TZ": zone},
    )
    return run.stdout.strip()


def test_a_script_creates_a_token_from_its_standard_input(instance: Instance, tree: Path, tmp_path: Path) -> None:
    script = tmp_path / "mint.rb"
    script.write_text(MINT)
    run = instance.runner(tree, str(script), TOKEN + "\n")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    client = instance.client(TOKEN)
    client.auth()
    assert client.personal_access_tokens.get("self").scopes == ["api", "create_runner"]


def test_code_is_an_argument_or_standard_input(instance: Instance, tree: Path) -> None:
    assert instance.runner(tree, "puts User.count").stdout == "1\n"
    assert instance.runner(tree, "-", "puts User.find_by(username: 'root').admin?").stdout == "true\n"


def test_a_token_created_without_a_value_gets_one_of_the_real_shape(instance: Instance, tree: Path) -> None:
    run = instance.runner(
        tree,
        "puts User.first.personal_access_tokens.create!(name: 'x', scopes: ['api'], expires_at: 1.week.from_now).token",
    )
    token = run.stdout.strip()
    assert token.startswith("glpat-")
    assert len(token) == 26
    instance.client(token).auth()


@pytest.mark.parametrize(
    ("moment", "duration", "after"),
    [
        ("2026-11-26T23:20:00Z", "1.year", "2027-11-26T23:20:00Z"),
        ("2027-03-31T18:30:00Z", "1.year", "2028-03-31T18:30:00Z"),
        ("2028-02-29T12:00:00Z", "1.year", "2029-02-28T12:00:00Z"),
        ("2028-02-29T12:00:00Z", "4.years", "2032-02-29T12:00:00Z"),
        ("2027-12-31T23:59:30Z", "2.months", "2028-02-29T23:59:30Z"),
        ("2027-01-31T00:00:00Z", "(1.month + 1.day)", "2027-03-01T00:00:00Z"),
        ("2027-01-31T00:00:00Z", "(1.day + 1.month)", "2027-03-01T00:00:00Z"),
        ("2027-01-30T00:00:00Z", "(1.day + 1.month)", "2027-02-28T00:00:00Z"),
        ("2028-02-28T23:59:50Z", "10.seconds", "2028-02-29T00:00:00Z"),
        ("2028-02-28T23:59:50Z", "365.days", "2029-02-27T23:59:50Z"),
        ("2027-12-31T23:59:30Z", "(1.week - 1.day)", "2028-01-06T23:59:30Z"),
    ],
)
def test_months_and_years_are_steps_of_the_calendar(tree: Path, moment: str, duration: str, after: str) -> None:
    # What ActiveSupport 6.1 answers, in its own words.
    assert _ruby(tree, f"puts {duration}.from_now.iso8601", moment) == after
    assert _ruby(tree, f"puts (Time.current + {duration}).iso8601", moment) == after


@pytest.mark.parametrize(
    ("expression", "day"),
    [
        ("1.month.ago.to_date", "2027-02-28"),
        ("1.year.until(Date.new(2028, 2, 29))", "2027-02-28"),
        ("Date.current + 1.month", "2027-04-30"),
        ("Date.current - 1.week", "2027-03-24"),
        ("(Date.tomorrow + 5.hours).iso8601", "2027-04-01T05:00:00Z"),
        ("DateTime.new(2027, 1, 31, 12) + 1.month", "2027-02-28 12:00:00 +0000"),
        ("-1.month.from_now.to_date", "2027-02-28"),
        ("1.year.to_i", "31556952"),
    ],
)
def test_a_duration_counts_from_a_day_and_backwards_too(tree: Path, expression: str, day: str) -> None:
    assert _ruby(tree, f"puts({expression})", "2027-03-31T18:30:00Z") == day


@pytest.mark.parametrize("zone", ["PST8PDT,M3.2.0,M11.1.0", "<+14>-14"], ids=["Los Angeles", "Kiritimati"])
def test_the_zone_of_the_machine_changes_no_day(tree: Path, zone: str) -> None:
    # 31 December in Los Angeles, 1 January in UTC and on Kiritimati, where it is afternoon.
    code = "puts Date.current, Time.zone.today, 1.month.from_now.iso8601"
    days = _ruby(tree, code, "2028-01-01T01:00:00Z", zone).splitlines()
    assert days == ["2028-01-01", "2028-01-01", "2028-02-01T01:00:00Z"]


@pytest.mark.parametrize(
    ("moment", "period", "fits"),
    [
        ("2026-11-26T23:20:00Z", "1.year", True),
        ("2026-11-26T23:20:00Z", "365.days", True),
        ("2026-11-26T00:00:00Z", "366.days", False),
        ("2027-03-31T18:30:00Z", "1.year", False),  # 29 February 2028 is in it: 366 days
        ("2027-03-31T18:30:00Z", "365.days", True),
        ("2028-02-29T12:00:00Z", "1.year", True),
    ],
)
def test_a_token_lasts_365_days_at_most_at_any_hour(
    instance: Instance, tree: Path, moment: str, period: str, fits: bool
) -> None:
    code = f"User.first.personal_access_tokens.create!(name: 'x', scopes: ['api'], expires_at: {period}.from_now)"
    run = instance.runner(tree, f"{AT.format(moment)}; {code}")
    assert run.returncode == (0 if fits else 1)
    assert ("Expiration date must be before" in run.stderr) is not fits


def test_a_token_is_found_by_its_value_and_revoked(instance: Instance, tree: Path) -> None:
    instance.runner(tree, "PersonalAccessToken.find_by_token($stdin.read.strip).revoke!", instance.token)
    with pytest.raises(gitlab.GitlabAuthenticationError):
        instance.client().auth()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("User.first.no_such_thing", "NoMethodError"),
        ("Usr.first", "NameError"),
        ("User.find_by(nick: 'x')", "unknown attribute nick"),
        ("User.find(99)", "Couldn't find User"),
        (
            "User.first.personal_access_tokens.create!(name: 'x', scopes: ['all'], expires_at: 1.day.from_now)",
            "Scopes can",
        ),
        ("User.first.personal_access_tokens.create!(name: 'x', scopes: ['api'])", "Expiration date can't be blank"),
        (
            "User.first.personal_access_tokens.create!(name: 'x', scopes: ['api'], expires_at: 2.years.from_now)",
            "before",
        ),
        ("user = User.first; user.password = 'short'; user.save!", "Password is too short"),
        ("Gitlab::CurrentSettings.update!(no_such_setting: 1)", "unknown attribute 'no_such_setting'"),
    ],
)
def test_an_error_ends_with_exit_code_1_and_its_cause(instance: Instance, tree: Path, code: str, words: str) -> None:
    run = instance.runner(tree, code)
    assert run.returncode == 1
    assert words in run.stderr
    assert run.stdout == ""


def test_a_missing_script_is_named(instance: Instance, tree: Path) -> None:
    run = instance.runner(tree, "/none/mint.rb")
    assert run.returncode == 1
    assert "/none/mint.rb" in run.stderr


def test_create_reports_errors_without_raising(instance: Instance, tree: Path) -> None:
    code = (
        "t = User.first.personal_access_tokens.create(name: '', scopes: []); puts t.persisted?, t.errors.full_messages"
    )
    lines = instance.runner(tree, code).stdout.splitlines()
    assert lines[0] == "false"
    assert "Name can't be blank" in lines
    assert "Scopes can't be blank" in lines


def test_sign_up_can_be_disabled(instance: Instance, tree: Path) -> None:
    assert instance.runner(tree, "::Gitlab::CurrentSettings.update!(signup_enabled: false)").returncode == 0
    assert instance.runner(tree, "p Gitlab::CurrentSettings.signup_enabled?").stdout == "false\n"
    assert instance.client().settings.get().signup_enabled is False


def test_a_new_password_works_in_the_web_application(instance: Instance, tree: Path) -> None:
    code = "u = User.find_by_username('root'); u.password = u.password_confirmation = $stdin.read.strip; u.save!"
    assert instance.runner(tree, code, "zW3-kfn-Lqp-58").returncode == 0
    check = "puts User.first.valid_password?($stdin.read.strip)"
    assert instance.runner(tree, check, "zW3-kfn-Lqp-58").stdout == "true\n"
    assert instance.runner(tree, check, "something else").stdout == "false\n"


def test_active_tokens_are_those_that_still_work(instance: Instance, tree: Path) -> None:
    instance.new_token(["api"])
    instance.execute("UPDATE personal_access_tokens SET revoked = 1 WHERE id = 2")
    assert instance.runner(tree, "puts User.first.personal_access_tokens.active.map(&:name)").stdout == "first\n"
    assert instance.runner(tree, "puts PersonalAccessToken.count").stdout == "2\n"


def test_old_tokens_are_revoked_by_name(instance: Instance, tree: Path) -> None:
    for _ in range(3):
        instance.new_token(["api"])
    code = "User.first.personal_access_tokens.active.where(name: 'test').find_each(&:revoke!)"
    assert instance.runner(tree, code).returncode == 0
    assert instance.runner(tree, "puts PersonalAccessToken.where(user: User.first).active.count").stdout == "1\n"


def test_a_transaction_is_all_or_nothing(instance: Instance, tree: Path) -> None:
    code = "ActiveRecord::Base.transaction { User.first.update!(name: 'Changed'); User.first.no_such_thing }"
    assert instance.runner(tree, code).returncode == 1
    assert instance.runner(tree, "puts User.first.name").stdout == "Administrator\n"


def test_inspecting_a_record_shows_no_secret(instance: Instance, tree: Path) -> None:
    assert instance.runner(tree, "p User.first").stdout == "#<User id: 1>\n"


def test_without_a_reconfigure_it_says_so(instance: Instance, tree: Path) -> None:
    (instance.directory / "gitlab.json").unlink()
    run = instance.runner(tree, "puts User.count")
    assert run.returncode == 1
    assert "run gitlab-ctl reconfigure" in run.stderr
