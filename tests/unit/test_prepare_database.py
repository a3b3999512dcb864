"""The step that verifies managed databases, on a machine whose clusters are played: what it asks and refuses."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

#: A cluster. `said` has what it says as an error, with the number of times; `stranger` whose tables a database has.
CLUSTERS = """
sleep() { SECONDS=$((SECONDS + ${1%.*})); }
refuses() {
  local times
  read -r times said 2>/dev/null <"$ROOT/$1" || return 1
  [ "$times" -gt 0 ] || return 1
  echo "$((times - 1)) $said" >"$ROOT/$1"
  echo "psql: error: $said" >&2
}
as_gitlab() { ! refuses said; }
run_sql() {
  echo "$3" >>"$ROOT/statements"
  case $3 in
    *server_version_num*) cat "$ROOT/version" ;;
    *amcheck) ! refuses amcheck ;;
    "CREATE EXTENSION"*) ! refuses extension ;;
    *shobj_description*) refuses mark-of && return 1; cat "$ROOT/mark" 2>/dev/null || true ;;
  esac
}
has_database() { [ "$2" != registry_new ]; }
stranger_in() { cat "$ROOT/stranger" 2>/dev/null || true; }
python3() {
  cat >/dev/null
  ! refuses valkey || return "$(cat "$ROOT/valkey-status")"
  cat "$ROOT/valkey-answer"
}
"""
VALUES = {
    "DATABASE_ADMIN_PASSWORD": "of doadmin",
    "DATABASE_ADMIN_USER": "doadmin",
    "DATABASE_CA": "its authority",
    "DATABASE_HOST": "db.example.test",
    "DATABASE_NAME": "gitlabhq_production",
    "DATABASE_PASSWORD": "of 'gitlab'",
    "DATABASE_PORT": "25060",
    "DATABASE_USER": "gitlab",
    "KEYS_PROGRAM": "",
    "REGISTRY_DATABASE": "registry",
    "USES_DATABASE": "yes",
    "USES_VALKEY": "yes",
    "VALKEY_CA": "another authority",
    "VALKEY_HOST": "valkey.example.test",
    "VALKEY_PASSWORD": "of valkey",
    "VALKEY_PORT": "25061",
}


@dataclass(frozen=True)
class Server:
    """The files of one machine."""

    root: Path

    def prepare(self, **values: str) -> subprocess.CompletedProcess[str]:
        """Run the step."""
        known = {**VALUES, "LIMIT_SECONDS": "9", "STEP": "gitlab-databases", "ROOT": str(self.root), **values}
        assigned = "\n".join(f"{name}={shlex.quote(value)}" for name, value in known.items())
        step = script("database.sh") + script("prepare-database.sh")
        for folder in ("/etc/gitlab", "/etc/slipway", "/opt/gitlab/embedded/bin", "/var/opt/gitlab"):
            step = step.replace(folder, f"{self.root}{folder}")
        prelude = script("prelude.sh").replace("/var/lib/slipway", f"{self.root}/var/lib/slipway")
        text = "\n".join([prelude, assigned, step, CLUSTERS, "main </dev/null"])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def says(self, name: str, text: str) -> None:
        """Let the machine or a cluster answer with a text."""
        (self.root / name).write_text(f"{text}\n")

    @property
    def kept(self) -> list[str]:
        """The files that the step has left."""
        folders = (self.root / "etc/slipway", self.root / "etc/gitlab/ssl")
        return sorted(file.name for folder in folders if folder.exists() for file in folder.iterdir())

    @property
    def statements(self) -> str:
        """What the cluster was asked and told."""
        return (self.root / "statements").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A GitLab that runs with the servers of its package."""
    for folder in ("etc/gitlab/slipway-working/etc/gitlab", "opt/gitlab/embedded/bin", "var/opt/gitlab"):
        (tmp_path / folder).mkdir(parents=True)
    client = tmp_path / "opt/gitlab/embedded/bin/pg_dump"
    client.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 17.10'\n")
    client.chmod(0o755)
    made = Server(tmp_path)
    made.says("version", "17")
    made.says("valkey-answer", "7.2.4 noeviction 1000 10 0\n")
    return made


ALL_FILES = ["database.env", "slipway-database.crt", "slipway-valkey.crt"]


def test_what_reaches_the_clusters_is_kept_for_root_alone(server: Server) -> None:
    done = server.prepare()
    assert done.returncode == 0, done.stderr
    assert server.kept == ALL_FILES
    file = server.root / "etc/slipway/database.env"
    assert file.stat().st_mode & 0o777 == 0o600
    read = f'. {file}; echo "$PGPASSWORD $DATABASE_ADMIN_PASSWORD $PGSSLROOTCERT"'
    shown = subprocess.run(["bash", "-c", read], capture_output=True, text=True, check=True).stdout
    assert shown == f"of 'gitlab' of doadmin {server.root}/etc/gitlab/ssl/slipway-database.crt\n"


def test_a_new_cluster_and_a_new_user_may_need_a_moment(server: Server) -> None:
    server.says("said", '9 FATAL:  password authentication failed for user "gitlab"')
    assert server.prepare().returncode == 0
    server.says("said", "20 connection to server failed: Connection refused")
    assert server.prepare().returncode == 0


def test_the_user_of_gitlab_is_let_in_and_a_database_that_is_missing_is_made(server: Server) -> None:
    assert server.prepare(REGISTRY_DATABASE="registry_new").returncode == 0
    for line in (
        'GRANT ALL ON DATABASE "gitlabhq_production" TO "gitlab"',
        'GRANT ALL ON SCHEMA public TO "gitlab"',
        'CREATE DATABASE "registry_new"',
        'GRANT ALL ON DATABASE "registry_new" TO "gitlab"',
        "CREATE EXTENSION IF NOT EXISTS amcheck",
    ):
        assert line in server.statements.splitlines()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("said", "999 SSL error: certificate verify failed", "has a certificate that the cluster's authority"),
        ("said", '999 FATAL:  password authentication failed for user "gitlab"', "does not accept user gitlab (FATAL"),
        ("said", "999 connection timeout expired", "does not respond to user gitlab (connection timeout"),
        ("version", "16", "is version 16, and GitLab 19 needs 17 or later; nothing was changed"),
        ("version", "18", "is version 18, and GitLab's own clients are of version 17, which can make no backup of it"),
        ("extension", "1 ERROR:  permission denied", "does not let extensions be loaded that GitLab needs: pg_trgm"),
        ("stranger", "7 tables", "has 7 tables, which are not this installation's; nothing was changed. Use an empty"),
        ("valkey-answer", "7.2.4 allkeys-lru 1000 10 0\n", "evicts keys when its memory is full (allkeys-lru), and"),
        ("valkey-answer", "6.2.6 noeviction 1000 10 0\n", "speaks as Redis 6.2.6, and GitLab 19 needs 7 or later"),
        ("valkey-answer", "7.2.4 noeviction 1000 10 3\n", "has 3 keys that are not this installation's; nothing"),
    ],
)
def test_what_gitlab_could_not_use_is_refused_by_name_and_nothing_is_kept(
    server: Server, name: str, text: str, words: str
) -> None:
    server.says(name, text)
    done = server.prepare()
    assert done.returncode == 1
    assert words in done.stderr, done.stderr
    assert "nothing was changed" in done.stderr
    assert server.kept == []


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (
            "1",
            "999 invalid username-password pair",
            "refuses GitLab (psql: error: invalid username-password pair); nothing",
        ),
        ("1", "999 [SSL: CERTIFICATE_VERIFY_FAILED]", "has a certificate that neither a public authority nor the"),
        ("2", "999 timed out", "does not respond (psql: error: timed out); nothing was changed. In the control panel"),
    ],
)
def test_a_valkey_that_does_not_let_gitlab_in_is_told_from_one_that_is_not_there(
    server: Server, status: str, said: str, words: str
) -> None:
    server.says("valkey", said)
    server.says("valkey-status", status)
    done = server.prepare()
    assert done.returncode == 1
    assert words in done.stderr, done.stderr
    assert server.kept == []


def test_what_gitlabs_tables_do_not_need_may_be_missing_and_is_named(server: Server) -> None:
    server.says("amcheck", '1 ERROR:  permission denied to create extension "amcheck"')
    done = server.prepare()
    assert done.returncode == 0, done.stderr
    assert "does not offer the extension amcheck; GitLab runs without it" in done.stdout + done.stderr


@pytest.fixture
def moved(server: Server) -> Server:
    """A GitLab whose tables are in the cluster, with an installation of a known ID."""
    server.says("etc/gitlab/slipway-installation", "00ff")
    server.prepare()
    server.says("etc/gitlab/slipway-servers", "postgresql managed\nredis managed")
    return server


@pytest.mark.parametrize("mark", ["", "slipway 00ff: unfinished copy", "slipway 1111: in use"])
def test_another_cluster_without_the_data_of_the_first_is_refused(moved: Server, mark: str) -> None:
    moved.says("mark", mark)
    done = moved.prepare(DATABASE_HOST="other.example.test")
    assert done.returncode == 1
    words = (
        "GitLab's tables are in the managed PostgreSQL at db.example.test, and other.example.test does not have them"
    )
    assert words in done.stderr


def test_another_cluster_that_does_not_say_what_it_has_is_refused(moved: Server) -> None:
    moved.says("mark", "slipway 00ff: in use")
    moved.says("mark-of", "1 server closed the connection unexpectedly")
    done = moved.prepare(DATABASE_HOST="other.example.test")
    assert done.returncode == 1
    assert "does not say whose database gitlabhq_production is" in done.stderr
    assert moved.prepare(DATABASE_HOST="other.example.test").returncode == 0


def test_clusters_that_are_there_and_not_used_are_asked_nothing(server: Server) -> None:
    server.says("said", "999 connection timeout expired")
    done = server.prepare(USES_DATABASE="no", USES_VALKEY="no")
    assert (done.returncode, server.kept) == (0, ALL_FILES)
    assert not (server.root / "statements").exists()


def test_each_can_be_there_without_the_other(server: Server) -> None:
    none = {"DATABASE_HOST": "", "DATABASE_CA": "", "USES_DATABASE": "no"}
    assert server.prepare(**none).returncode == 0
    assert server.kept == ["slipway-valkey.crt"]
