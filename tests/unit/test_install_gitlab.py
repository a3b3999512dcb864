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
dpkg-query() { [ -e "$ROOT/installed" ] && printf 'ii  %s\n' "$(cat "$ROOT/installed")"; }
sleep() { SECONDS=$((SECONDS + ${1%.*})); }
install_pinned() {
  number=$(($(cat "$ROOT/upgrades") + 1))
  echo "$number" >"$ROOT/upgrades"
  touch "$ROOT/var/opt/gitlab/backups/17000000${number}_gitlab_backup.tar"
  echo "$2" >"$ROOT/installed"
  [ ! -e "$ROOT/failing" ] || die "$1 $2 could not be installed"
}
systemctl() { [ ! -e "$ROOT/disabled" ]; }
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
        step = script("install-gitlab.sh")
        for folder in ("/var/opt/gitlab", "/etc/gitlab", "/usr/local/sbin"):
            step = step.replace(f"{folder}/", f"{self.root}{folder}/")
        text = "\n".join([script("prelude.sh"), script("packages.sh"), values, step, MACHINE, "main </dev/null"])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def dumps(self) -> list[str]:
        """The names of the dumps that are there."""
        return sorted(path.name for path in (self.root / "var/opt/gitlab/backups").glob("*.tar"))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for folder in ("var/opt/gitlab/backups", "etc/gitlab"):
        (tmp_path / folder).mkdir(parents=True)
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


def test_an_upgrade_waits_for_the_migrations_of_the_last_one_and_shows_them(server: Server) -> None:
    (server.root / "migrations").write_text("BackfillOne|1,BackfillTwo|5\nBackfillTwo|1\n\n")
    done = server.install("19.3.1-ce.0")
    assert (done.returncode, done.stdout) == (0, "19.3.1-ce.0\n")
    assert "waiting for 2 background migrations of the last upgrade, such as BackfillOne" in done.stderr


def test_migrations_that_do_not_finish_within_an_hour_refuse_the_upgrade(server: Server) -> None:
    (server.root / "migrations").write_text("BackfillOne|1\n")
    done = server.install("19.3.1-ce.0")
    assert "have not finished within an hour; nothing was installed" in done.stderr
    assert done.stderr.count("waiting for 1 background migrations") == 60
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
