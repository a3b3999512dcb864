"""The server's own checks: run as on the machine, in front of programs that say what the machine would."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

DAY, HOUR = 86_400, 3_600


@dataclass
class Server:
    """What the checks find: the fullness of the data volume, backups, and settings."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        self.page = self.folder / "ok"
        (self.folder / "backup.env").touch()
        self.disk(40)
        self.backups("")
        self.settings()

    def command(self, name: str, body: str) -> None:
        """A program of that name, first in the path."""
        file = self.folder / "bin" / name
        file.write_text(f"#!/bin/bash\n{body}\n")
        file.chmod(0o755)

    def disk(self, percent: int) -> None:
        """How full the data volume is."""
        self.command("df", f"printf 'Use%%\\n {percent}%%\\n'")

    def backups(self, newest: str) -> None:
        """The ID of the last complete backup."""
        self.command("slipway-backup", f"[ \"$1\" = newest ] && printf %s '{newest}'")

    def settings(self, backup_hours: str = "26", token_days: int = 90) -> None:
        """What the step has written."""
        expires = time.strftime("%Y-%m-%d", time.gmtime(time.time() + (token_days + 1) * DAY))
        lines = {"BACKUP_HOURS": backup_hours, "DISK_PERCENT": "85", "TOKEN_DAYS": "30", "TOKEN_EXPIRES": expires}
        (self.folder / "health.env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    def check(self) -> list[str]:
        """Run the checks; the problems that they print."""
        program = script("health/slipway-health")
        for path, stand_in in {
            "/run/slipway-health/ok": self.page,
            "/etc/slipway/health.env": self.folder / "health.env",
            "/etc/slipway/backup.env": self.folder / "backup.env",
        }.items():
            assert path in program
            program = program.replace(path, str(stand_in))
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(["bash"], input=program, capture_output=True, text=True, check=False, env=environment)
        assert done.stderr == ""
        assert self.page.exists() is (done.returncode == 0)
        return done.stdout.splitlines()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server without problems."""
    return Server(tmp_path)


def test_a_server_without_problems_says_nothing_and_has_its_page(server: Server) -> None:
    assert server.check() == []


def test_a_data_volume_that_fills_takes_the_page_away_and_one_with_space_again_brings_it_back(server: Server) -> None:
    server.disk(86)
    [problem] = server.check()
    assert problem.startswith("the data volume is 86 % full, more than 85 %: ")
    server.disk(85)
    assert server.check() == []


def test_a_backup_that_is_too_old_is_a_problem_and_a_new_one_is_none(server: Server) -> None:
    now = int(time.time())
    server.backups(f"{now - 27 * HOUR}_20260101")
    [problem] = server.check()
    assert problem.startswith("the last complete backup is 27 hours old, more than 26: ")
    server.backups(f"{now - 25 * HOUR}_20260101")
    assert server.check() == []


def test_the_first_backup_has_as_much_time_as_every_other(server: Server) -> None:
    assert server.check() == []
    os.utime(server.folder / "backup.env", (time.time() - 27 * HOUR,) * 2)
    assert len(server.check()) == 1
    server.settings(backup_hours="")
    assert server.check() == []


def test_backups_that_cannot_be_listed_are_a_problem_with_its_cause(server: Server) -> None:
    server.command("slipway-backup", "echo 'error: AccessDenied' >&2; exit 1")
    assert server.check() == ["the backups cannot be listed: error: AccessDenied"]


def test_a_token_that_expires_soon_is_a_problem(server: Server) -> None:
    server.settings(token_days=29)
    [problem] = server.check()
    assert problem.startswith("the stack's API token expires in 29 days: ")


def test_all_problems_are_reported_together(server: Server) -> None:
    server.disk(99)
    server.settings(token_days=1)
    assert len(server.check()) == 2
