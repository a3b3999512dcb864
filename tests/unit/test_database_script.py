"""The functions for GitLab's PostgreSQL, with clients that record the server and the user that they are called with."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script

ENVIRONMENT = """PGHOST=db.example.test
PGPORT=25060
PGUSER=gitlab
PGPASSWORD=of-gitlab
PGSSLROOTCERT=/etc/gitlab/ssl/slipway-database.crt
DATABASE_ADMIN_USER=doadmin
DATABASE_ADMIN_PASSWORD=of-doadmin
"""
#: A client of PostgreSQL's.
CLIENT = """#!/bin/bash
echo "$(basename "$0") $PGUSER:$PGPASSWORD@$PGHOST:$PGPORT $PGSSLMODE $PGSSLROOTCERT" >>"$ROOT/connections"
printf '%s\\n' "$*" >>"$ROOT/arguments"
"""


@dataclass(frozen=True)
class Server:
    """The files of one machine."""

    root: Path

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run functions of the library."""
        library = script("database.sh")
        for folder in ("/etc/gitlab/slipway", "/etc/gitlab/gitlab.rb", "/etc/slipway", "/opt/gitlab/embedded/bin"):
            library = library.replace(folder, f"{self.root}{folder}")
        world = 'gitlab-psql() { echo "gitlab-psql $*" >>"$ROOT/arguments"; }'
        values = f"export ROOT={self.root}; LIMIT_SECONDS=9 STEP=step"
        text = "\n".join([script("prelude.sh"), values, library, world, command])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def read(self, name: str) -> list[str]:
        """The lines of a file."""
        return (self.root / name).read_text().splitlines()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A machine whose GitLab uses a managed PostgreSQL."""
    for folder in ("etc/gitlab", "etc/slipway", "opt/gitlab/embedded/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/gitlab/gitlab.rb").write_text("postgresql['enable'] = false\nredis['enable'] = true\n")
    (tmp_path / "etc/slipway/database.env").write_text(ENVIRONMENT)
    for name in ("psql", "pg_dump", "pg_restore"):
        client = tmp_path / "opt/gitlab/embedded/bin" / name
        client.write_text(CLIENT)
        client.chmod(0o755)
    return Server(tmp_path)


def test_the_configuration_says_which_server_has_the_data(server: Server) -> None:
    assert server.run("current_server postgresql; current_server redis").stdout == "managed\nbundled\n"
    (server.root / "etc/gitlab/gitlab.rb").write_text("# postgresql['enable'] = false\n")
    assert server.run("current_server postgresql").stdout == "bundled\n"


def test_the_last_move_says_it_before_any_configuration(server: Server) -> None:
    (server.root / "etc/gitlab/slipway-servers").write_text("postgresql bundled\n")
    assert server.run("current_server postgresql; current_server redis").stdout == "bundled\nbundled\n"


def test_a_managed_server_is_verified_and_no_password_is_an_argument(server: Server) -> None:
    done = server.run("as_gitlab managed pg_dump -Fc registry; run_sql managed registry 'SELECT 1'")
    assert done.returncode == 0, done.stderr
    place = "@db.example.test:25060 verify-full /etc/gitlab/ssl/slipway-database.crt"
    assert server.read("connections") == [f"pg_dump gitlab:of-gitlab{place}", f"psql doadmin:of-doadmin{place}"]
    assert not any("of-" in line for line in server.read("arguments"))


def test_without_the_file_that_says_where_it_is_the_message_names_it(server: Server) -> None:
    (server.root / "etc/slipway/database.env").unlink()
    done = server.run("run_sql managed registry 'SELECT 1'")
    assert done.returncode == 1
    assert "/etc/slipway/database.env, which says where it is, is not there. Run pulumi up" in done.stderr


def test_a_new_managed_database_is_open_to_the_user_of_gitlab(server: Server) -> None:
    assert server.run("create_database managed registry").returncode == 0
    assert [line.split("--command ")[1] for line in server.read("arguments")] == [
        'CREATE DATABASE "registry"',
        'GRANT ALL ON DATABASE "registry" TO "gitlab"',
        'GRANT ALL ON SCHEMA public TO "gitlab"',
    ]


def test_the_database_of_the_registry_in_the_package_belongs_to_its_user(server: Server) -> None:
    server.run("create_database bundled registry_0123456789ab; create_database bundled gitlabhq_production")
    assert server.read("arguments") == [
        "gitlab-psql -d template1 -tAc CREATE DATABASE registry_0123456789ab OWNER registry",
        "gitlab-psql -d template1 -tAc CREATE DATABASE gitlabhq_production OWNER gitlab",
    ]


def test_a_dump_of_either_server_is_read_into_the_other_as_its_user(server: Server) -> None:
    runuser = server.root / "opt/gitlab/embedded/bin/runuser"
    runuser.write_text('#!/bin/bash\nshift 3\nexec "$@"\n')
    runuser.chmod(0o755)
    common = "--no-owner --no-privileges --exit-on-error"
    assert server.run("load_database managed registry").returncode == 0
    assert server.read("arguments") == [f"{common} -d registry"]
    done = server.run(f"PATH={runuser.parent}:$PATH; load_database bundled registry")
    assert done.returncode == 0, done.stderr
    assert server.read("arguments")[1:] == [f"-h /var/opt/gitlab/postgresql {common} --role registry -d registry"]


@pytest.mark.parametrize(
    ("mark", "tables", "words"),
    [
        ("", "0", ""),
        ("", "7", "7 tables"),
        ("slipway {own}: in use", "7", ""),
        ("slipway {own}: unfinished copy", "7", ""),
        ("slipway 00ff00ff00ff00ff: in use", "7", '7 tables, and is marked "slipway 00ff00ff00ff00ff: in use"'),
    ],
)
def test_tables_of_a_database_are_a_strangers_unless_its_mark_names_this_installation(
    server: Server, mark: str, tables: str, words: str
) -> None:
    own = server.run("installation_id").stdout
    answers = f"""run_sql() {{ case $3 in *shobj*) echo '{mark.format(own=own)}' ;; *) echo {tables} ;; esac; }}"""
    assert server.run(f"{answers}\nstranger_in managed registry").stdout == words


def test_an_installation_keeps_its_name(server: Server) -> None:
    first = server.run("installation_id").stdout
    assert len(first) == len("00ff00ff00ff00ff")
    assert server.run("installation_id").stdout == first
