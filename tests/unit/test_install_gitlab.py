"""The step that installs GitLab, on a machine whose commands are played: when it upgrades, and what it leaves."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

#: A machine with GitLab 19.3.0 whose package dumps the database before an upgrade. Time passes only while something
#: sleeps. `migrations` holds one answer of the database a line, each with its lines separated by commas.
MACHINE = """
mountpoint() { :; }
apt-mark() { :; }
trust_key() { :; }
add_apt_source() { :; }
distribution() { echo debian; }
codename() { echo trixie; }
require_available() { :; }
dpkg-query() {
  local status=installed
  [ ! -e "$ROOT/broken" ] || status=half-configured
  [ -e "$ROOT/installed" ] || return 1
  case "$*" in
    *Status-Status*) printf '%s %s\n' "$status" "$(cat "$ROOT/installed")" ;;
    *) [ "$status" != installed ] || printf 'ii  %s\n' "$(cat "$ROOT/installed")" ;;
  esac
}
sleep() { SECONDS=$((SECONDS + ${1%.*})); }
install_pinned() {
  number=$(($(cat "$ROOT/upgrades") + 1))
  echo "$number" >"$ROOT/upgrades"
  touch "$ROOT/var/opt/gitlab/backups/17000000${number}_gitlab_backup.tar"
  [ ! -e "$ROOT/refusing" ] || die "$1 $2 could not be installed"
  echo "${*:3}" >"$ROOT/options"
  echo "$2" >"$ROOT/installed"
  rm -f "$ROOT/broken"
  [ ! -e "$ROOT/failing" ] || { touch "$ROOT/broken"; die "$1 $2 could not be installed"; }
}
systemctl() { [ ! -e "$ROOT/disabled" ]; }
as_database_admin() { echo "permission denied for table $*" >&2; return 1; }
as_gitlab() { [ "$1 $2" != "managed psql" ] || gitlab-psql; }
gitlab-psql() {
  [ ! -e "$ROOT/down" ] || return 2
  head -n 1 "$ROOT/migrations" | tr ',' '\n' | grep . || true
  sed -i '1{$!d}' "$ROOT/migrations"
}
"""


@dataclass(frozen=True)
class Server:
    """The files of one machine."""

    root: Path

    def install(self, version: str) -> subprocess.CompletedProcess[str]:
        """Run the step."""
        values = f"ROOT={self.root}\nGITLAB_VERSION={version}\nPACKAGES_URL=x\nKEY_URL=x\nLIMIT_SECONDS=9"
        values += f"\nPACKAGES_LOG={self.root}/log\nREQUIRED_STOPS='19.2 19.5 19.8'"
        step = f"{script('database.sh')}\n{script('install-gitlab.sh')}"
        for folder in ("/var/opt/gitlab/", "/etc/gitlab/", "/usr/local/sbin/", "/opt/gitlab/service"):
            step = step.replace(folder, f"{self.root}{folder}")
        text = "\n".join(
            [
                script("prelude.sh"),
                script("packages.sh"),
                values,
                step,
                MACHINE,
                "main </dev/null",
            ]
        )
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def dumps(self) -> list[str]:
        """The names of the dumps that are there."""
        return sorted(path.name for path in (self.root / "var/opt/gitlab/backups").glob("*.tar"))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for folder in ("var/opt/gitlab/backups", "etc/gitlab", "opt/gitlab/service"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "opt/gitlab/service/puma").symlink_to("/opt/gitlab/sv/puma")
    (tmp_path / "var/opt/gitlab/bootstrapped").touch()
    (tmp_path / "installed").write_text("19.3.0-ce.0\n")
    (tmp_path / "upgrades").write_text("0\n")
    (tmp_path / "migrations").write_text("\n")
    return Server(tmp_path)


def test_gitlab_is_installed_on_a_machine_that_has_none(server: Server) -> None:
    (server.root / "installed").unlink()
    (server.root / "var/opt/gitlab/bootstrapped").unlink()
    done = server.install("19.3.0-ce.0")
    assert (done.returncode, done.stdout) == (0, "19.3.0-ce.0\n"), done.stderr


@pytest.fixture
def from_snapshot(server: Server) -> Server:
    """A new machine on which a snapshot has brought along GitLab 19.3.0. Nothing of it has run there."""
    (server.root / "opt/gitlab/service/puma").unlink()
    return server


def test_what_a_snapshot_has_brought_along_is_taken_as_it_is(from_snapshot: Server) -> None:
    done = from_snapshot.install("19.3.0-ce.0")
    assert (done.returncode, done.stdout) == (0, "19.3.0-ce.0\n"), done.stderr
    assert "19.3.0-ce.0 is installed" in done.stderr


@pytest.mark.parametrize("version", ["19.2.4-ce.0", "19.4.0-ce.0"])
def test_another_version_than_that_of_a_snapshot_takes_its_place_at_once(from_snapshot: Server, version: str) -> None:
    # There is no database that could say anything of migrations, and nothing to back up.
    (from_snapshot.root / "down").touch()
    done = from_snapshot.install(version)
    assert (done.returncode, done.stdout) == (0, f"{version}\n"), done.stderr
    assert (from_snapshot.root / "options").read_text() == "--allow-downgrades\n"


def test_the_data_on_the_volume_says_where_an_upgrade_begins_and_not_the_package_of_a_snapshot(
    from_snapshot: Server,
) -> None:
    noted = from_snapshot.root / "var/opt/gitlab/.slipway-version"
    noted.write_text("19.1.0-ce.0\n")
    done = from_snapshot.install("19.3.0-ce.0")
    assert (
        "the data on the volume is that of GitLab 19.1.0-ce.0, and upgrades to 19.3.0-ce.0 must stop at 19.2"
        in done.stderr
    )
    noted.write_text("19.4.0-ce.0\n")
    assert "19.3.0-ce.0 cannot read its database" in from_snapshot.install("19.3.0-ce.0").stderr


def test_an_upgrade_of_what_runs_never_goes_back(server: Server) -> None:
    assert server.install("19.3.1-ce.0").returncode == 0
    assert (server.root / "options").read_text() == "\n"


def test_an_upgrade_waits_for_the_migrations_of_the_last_one_and_shows_them(server: Server) -> None:
    (server.root / "migrations").write_text("BackfillOne|1,BackfillTwo|5\nBackfillTwo|1\n\n")
    done = server.install("19.3.1-ce.0")
    assert (done.returncode, done.stdout) == (0, "19.3.1-ce.0\n")
    assert "waiting for 2 background migrations of the last upgrade, such as BackfillOne" in done.stderr


def test_a_managed_database_is_asked_for_migrations_as_gitlab_because_its_administrator_may_not_read_them(
    server: Server,
) -> None:
    (server.root / "etc/gitlab/gitlab.rb").write_text("postgresql['enable'] = false\n")
    (server.root / "migrations").write_text("BackfillOne|1\n\n")
    done = server.install("19.3.1-ce.0")
    assert (done.returncode, done.stdout) == (0, "19.3.1-ce.0\n"), done.stderr
    assert "waiting for 1 background migrations of the last upgrade" in done.stderr


def test_migrations_that_do_not_finish_within_an_hour_refuse_the_upgrade(server: Server) -> None:
    (server.root / "migrations").write_text("BackfillOne|1\n")
    done = server.install("19.3.1-ce.0")
    assert "have not finished within an hour; nothing was installed" in done.stderr
    # The time that the test itself takes counts as well.
    assert 55 <= done.stderr.count("waiting for 1 background migrations") <= 60
    assert (server.root / "installed").read_text() == "19.3.0-ce.0\n"


@pytest.mark.parametrize("state", [0, 4])
def test_migrations_that_never_finish_by_themselves_are_reported_at_once_by_name(server: Server, state: int) -> None:
    (server.root / "migrations").write_text(f"BackfillOne|1,BackfillTwo|{state},BackfillTen|1\n")
    done = server.install("19.3.1-ce.0")
    assert done.returncode == 1
    assert "are paused or have failed: BackfillTwo; nothing was installed" in done.stderr
    assert "waiting" not in done.stderr


def test_a_database_that_does_not_respond_refuses_the_upgrade(server: Server) -> None:
    (server.root / "down").touch()
    done = server.install("19.3.1-ce.0")
    assert "GitLab's database does not respond" in done.stderr
    assert server.dumps() == []


def test_without_an_upgrade_nobody_asks_about_migrations(server: Server) -> None:
    (server.root / "down").touch()
    assert server.install("19.3.0-ce.0").returncode == 0
    (server.root / "installed").write_text("")
    assert server.install("19.3.0-ce.0").returncode == 0


def test_the_dumps_of_two_upgrades_stay_and_backups_of_others_are_not_touched(server: Server) -> None:
    (server.root / "var/opt/gitlab/backups/1600000000_gitlab_backup.tar").touch()
    for patch in range(1, 6):
        assert server.install(f"19.3.{patch}-ce.0").returncode == 0
    names = [f"{number}_gitlab_backup.tar" for number in ("1600000000", "170000004", "170000005")]
    assert server.dumps() == names


def test_dumps_of_upgrades_that_fail_do_not_pile_up_either(server: Server) -> None:
    (server.root / "failing").touch()
    for patch in range(1, 6):
        assert server.install(f"19.3.{patch}-ce.0").returncode == 1
    assert len(server.dumps()) == 2


def with_backups(server: Server, program: str) -> None:
    """Give the machine a program that makes backups."""
    folder = server.root / "usr/local/sbin"
    folder.mkdir(parents=True)
    (folder / "slipway-backup").write_text(f"#!/bin/sh\n{program}\n")
    (folder / "slipway-backup").chmod(0o755)


def test_an_upgrade_backs_up_first_once_its_migrations_have_finished(server: Server) -> None:
    (server.root / "migrations").write_text("BackfillOne|1\n\n")
    with_backups(server, f'echo "$@ of $(cat {server.root}/installed)" >{server.root}/backed-up')
    assert server.install("19.3.1-ce.0").returncode == 0
    assert (server.root / "backed-up").read_text() == "create before GitLab 19.3.1-ce.0 of 19.3.0-ce.0\n"


def test_nothing_is_installed_if_the_backup_before_the_upgrade_fails(server: Server) -> None:
    with_backups(server, "echo 'error: the Space cannot be reached' >&2; exit 1")
    done = server.install("19.3.1-ce.0")
    assert done.returncode == 1
    assert "the Space cannot be reached" in done.stderr
    assert "nothing was installed, and GitLab 19.3.0-ce.0 continues to run" in done.stderr
    assert (server.root / "installed").read_text() == "19.3.0-ce.0\n"


def test_no_backup_is_made_without_an_upgrade_or_where_backups_are_turned_off(server: Server) -> None:
    with_backups(server, "exit 1")
    assert server.install("19.3.0-ce.0").returncode == 0
    (server.root / "disabled").touch()
    assert server.install("19.3.1-ce.0").returncode == 0


def test_a_refused_installation_says_that_the_old_version_continues_to_run(server: Server) -> None:
    (server.root / "refusing").touch()
    done = server.install("19.3.1-ce.0")
    assert done.returncode == 1
    assert "GitLab 19.3.0-ce.0 continues to run" in done.stderr


def test_an_installation_that_fails_half_way_says_what_is_there_and_is_continued_without_another_backup(
    server: Server,
) -> None:
    (server.root / "failing").touch()
    with_backups(server, f"echo backup >>{server.root}/backed-up")
    done = server.install("19.3.1-ce.0")
    assert done.returncode == 1
    assert "GitLab 19.3.1-ce.0 is installed, but its configuration or the migration of its database" in done.stderr
    assert "GitLab is stopped. Fix the cause, then run pulumi up again, which continues here" in done.stderr
    assert "make restore STACK=new FROM=stack:ID" in done.stderr
    (server.root / "failing").unlink()
    # Half migrated, the database may not respond to anything.
    (server.root / "down").touch()
    assert server.install("19.3.1-ce.0").returncode == 0
    assert (server.root / "backed-up").read_text() == "backup\n"


def test_a_later_version_may_be_the_remedy_of_one_that_failed(server: Server) -> None:
    (server.root / "failing").touch()
    assert server.install("19.3.1-ce.0").returncode == 1
    (server.root / "failing").unlink()
    assert server.install("19.3.2-ce.0").stdout == "19.3.2-ce.0\n"


@pytest.mark.parametrize("broken", [True, False])
def test_an_older_version_is_refused_on_the_machine_even_after_an_upgrade_that_failed(
    server: Server, broken: bool
) -> None:
    (server.root / "installed").write_text("19.6.0-ce.0\n")
    if broken:
        (server.root / "broken").touch()
    done = server.install("19.5.0-ce.0")
    assert done.returncode == 1
    assert "the server already has GitLab 19.6.0-ce.0, and 19.5.0-ce.0 cannot read its database" in done.stderr
    assert "make restore STACK=new FROM=stack:ID" in done.stderr
    assert (server.root / "installed").read_text() == "19.6.0-ce.0\n"


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (
            "19.2.1-ce.0",
            "the data on the volume is that of GitLab 19.3.1-ce.0, and 19.2.1-ce.0 cannot read its database",
        ),
        ("19.6.0-ce.0", "GitLab 19.3.1-ce.0, and upgrades to 19.6.0-ce.0 must stop at 19.5; nothing was changed"),
    ],
)
def test_a_new_machine_refuses_a_version_that_the_kept_data_cannot_be_used_with(
    server: Server, version: str, words: str
) -> None:
    assert server.install("19.3.1-ce.0").returncode == 0
    (server.root / "installed").unlink()
    done = server.install(version)
    assert done.returncode == 1
    assert words in done.stderr
    assert not (server.root / "installed").exists()


def test_a_new_machine_takes_the_version_of_the_kept_data_or_one_that_may_follow(server: Server) -> None:
    for version in ("19.3.1-ce.0", "19.3.1-ce.0", "19.5.0-ce.0", "19.6.0-ce.0"):
        assert server.install(version).stdout == f"{version}\n"
        (server.root / "installed").unlink()


def test_data_that_a_failed_upgrade_has_touched_is_that_of_the_new_version(server: Server) -> None:
    (server.root / "failing").touch()
    assert server.install("19.3.1-ce.0").returncode == 1
    for name in ("installed", "broken", "failing"):
        (server.root / name).unlink()
    assert "that of GitLab 19.3.1-ce.0, and 19.3.0-ce.0 cannot" in server.install("19.3.0-ce.0").stderr


def test_an_installation_that_was_refused_leaves_the_data_with_its_version(server: Server) -> None:
    (server.root / "refusing").touch()
    assert server.install("19.3.1-ce.0").returncode == 1
    assert (server.root / "var/opt/gitlab/.slipway-version").read_text() == "19.3.0-ce.0\n"
