"""The move of GitLab's databases, on a machine whose servers are folders: what is where, whatever fails."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.rendering import script
from tests.certificates import provided
from tests.unit.test_configure_gitlab import FQDN, MACHINE

NAMES = ("gitlabhq_production", "registry", "registry_0123456789ab")
#: A server is a folder, a database a file of its rows with its mark beside it, and keys are a file as well. `failing`
#: has what fails, and `killing` what ends the whole run at once. `applied` is the configuration in effect, and `served`
#: has a line for each start of GitLab: with which server.
SERVERS = """
MAINTENANCE=([bundled]=template1 [managed]=defaultdb)
meets() {
  [ "$(cat "$ROOT/killing" 2>/dev/null)" != "$1" ] || { rm "$ROOT/killing"; kill -9 $$; exit 1; }
  [ "$(cat "$ROOT/failing" 2>/dev/null)" = "$1" ] || return 1
  echo "$1 fails" >&2
}
answers() { [ "$1" = managed ] || [ -e "$ROOT/bundled/running" ]; }
databases_of() { answers "$1" && ls "$ROOT/$1" | grep -E '^(gitlabhq|registry)' | grep -v mark || true; }
has_database() { ! meets "list $2" || return 2; [ -e "$ROOT/$1/$2" ]; }
drop_database() { rm -f "$ROOT/$1/$2" "$ROOT/$1/$2.mark"; }
create_database() { : >"$ROOT/$1/$2"; }
mark_database() { echo "$3" >"$ROOT/$1/$2.mark"; }
stranger_in() { [ -e "$ROOT/$1/$2.mark" ] || [ ! -s "$ROOT/$1/$2" ] || printf '7 tables'; }
contents_of() { answers "$1" && cat "$ROOT/$1/$2"; }
run_sql() {
  answers "$1" || return 1
  case $3 in
    *pg_database_size*) echo "${SIZE:-1000}" ;;
    "SELECT 1") echo 1 ;;
    *"FROM pg_extension"*) cat "$ROOT/extensions" 2>/dev/null || true ;;
    "CREATE EXTENSION"*) ! meets "${3##* }" ;;
  esac
}
send_database() {
  ! meets "copy $3" 2>"$4" || return 1
  cat "$ROOT/$1/$3" >>"$ROOT/$2/$3"
  ! meets "half of $3" || sed -i 1d "$ROOT/$2/$3"
}
keys_server() { echo "$1"; }
run_keys() {
  local from to
  read -r from
  [ "$from" = managed ] || [ -e "$ROOT/opt/gitlab/service/redis" ] || { echo "no such file" >&2; return 2; }
  ! meets "$1 keys" || return 1
  case $1 in
    check) printf '7.2 noeviction %s 10 1\\n\\n' "${MEMORY:-0}" ;;
    copy) read -r to; cp "$ROOT/$from/keys" "$ROOT/$to/keys"; echo 1 ;;
  esac
}
df() { printf 'Avail\\n%s\\n' "${FREE:-100000000000}"; }
flock() { [ ! -e "$ROOT/backup" ] || kill -TERM $$; }
uses() { ! grep -q "^$1.'enable'. = false" "$ROOT/applied" && echo bundled || echo managed; }
# The package starts its own servers, or stops them, as gitlab.rb says, and other services if they are new.
apply_settings() {
  local name fresh=$([ -e "$ROOT/opt/gitlab/service/puma" ] || echo yes)
  cp "$ROOT/etc/gitlab/gitlab.rb" "$ROOT/applied"
  if [ "$(uses postgresql)" = managed ]; then rm -f "$ROOT/bundled/running"; else
    for name in gitlabhq_production registry; do [ -e "$ROOT/bundled/$name" ] || : >"$ROOT/bundled/$name"; done
    touch "$ROOT/bundled/running"
  fi
  for name in nginx puma redis sidekiq spamcheck; do
    mkdir -p "$ROOT/opt/gitlab/sv/$name"
    touch "$ROOT/opt/gitlab/sv/$name/run"
    ln -sfn "$ROOT/opt/gitlab/sv/$name" "$ROOT/opt/gitlab/service/$name"
  done
  [ "$(uses redis)" = bundled ] || rm "$ROOT/opt/gitlab/service/redis"
  [ -z "$fresh" ] || [ -e "$ROOT/opt/gitlab/sv/puma/down" ] || serve
}
eval "$(declare -f gitlab-ctl | sed '1s/gitlab-ctl/played_ctl/')"
gitlab-ctl() {
  played_ctl "$@" || return 1
  case $1 in
    reconfigure)
      ! meets "reading of gitlab.rb" || return 1
      meets "start postgresql" || { apply_settings; ! meets "reconfigure on $(uses postgresql)"; }
      ;;
    stop) ! meets "stop $2" ;;
    start) [ "$#" != 1 ] || [ ! -e "$ROOT/applied" ] || serve ;;
  esac
}
# GitLab writes as soon as it runs.
serve() {
  local server
  server=$(uses postgresql)
  ! meets "start on $server" || return 0
  echo "$server" >>"$ROOT/served"
  echo "written on $server" >>"$ROOT/$server/gitlabhq_production"
}
"""
CERTIFICATE = provided()


@dataclass(frozen=True)
class Server:
    """The files of one machine, and its databases."""

    root: Path

    def configure(self, tables: str, keys: str = "", **values: str) -> subprocess.CompletedProcess[str]:
        """Run the step that configures GitLab, with databases of one kind, or of two."""
        certificate, kinds = CERTIFICATE, {"postgresql": tables, "redis": keys or tables}
        uses = {name: "yes" if kind == "managed" else "no" for name, kind in kinds.items()}
        disabled = "".join(f"{name}['enable'] = false\n" for name, kind in kinds.items() if kind == "managed")
        known = dict.fromkeys(("ADDRESS", "CA_CERTIFICATE", "LDAP_CA_CERTIFICATE", "SMTP_CA_CERTIFICATE"), "")
        known |= {f"S3_{name}": "" for name in ("ACCESS_KEY", "ENDPOINT", "REGION", "SECRET_KEY")}
        known |= {"CERTIFICATE_CHAIN": certificate["chain"], "CERTIFICATE_KEY": certificate["privateKey"]}
        known |= {"CERTIFICATE_SOURCE": "provided", "FQDN": FQDN, "LIMIT_SECONDS": "9", "ROOT": str(self.root)}
        known |= {"GITLAB_RB": f"external_url 'https://{FQDN}'\n{disabled}"}
        known |= {"OBJECT_BUCKETS": "", "SECRETS_JSON": "", "USES_OBJECTS": "no", "KEYS_PROGRAM": ""}
        known |= {"USES_DATABASE": uses["postgresql"], "USES_VALKEY": uses["redis"], "VALKEY_CA": "ca"}
        known |= {"VALKEY_HOST": "v", "VALKEY_PORT": "1"}
        known |= {"VALKEY_PASSWORD": "x", "DATABASE_HOST": "d", "DATABASE_STORAGE_MIB": "10240"} | values
        assigned = "\n".join(f"{name}={shlex.quote(value)}" for name, value in known.items())
        libraries = ("gitlab.sh", "database.sh", "move-databases.sh")
        step = "\n".join(script(name) for name in (*libraries, "configure-gitlab.sh"))
        for folder in (
            "/etc/gitlab",
            "/usr/local/share/ca-certificates",
            "/var/log",
            "/opt/gitlab/s",
            "/var/opt/gitlab",
        ):
            step = step.replace(folder, f"{self.root}{folder}")
        text = "\n".join([script("prelude.sh"), assigned, step, MACHINE, SERVERS, "main </dev/null"])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def rows(self, server: str, name: str = NAMES[0]) -> list[str]:
        """What a database has."""
        return (self.root / server / name).read_text().splitlines()

    def mark(self, server: str, name: str = NAMES[0]) -> str:
        """What a database is marked with."""
        return (self.root / server / f"{name}.mark").read_text().strip()

    def commands(self) -> list[str]:
        """The commands of the package since the last call."""
        path = self.root / "commands"
        lines = [line for line in path.read_text().splitlines() if not line.startswith("hup")] if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def replace_machine(self) -> None:
        """The volume comes to a new droplet, on which nothing has run."""
        for path in ("opt/gitlab", "bundled/running", "applied", "commands"):
            subprocess.run(["rm", "-rf", str(self.root / path)], check=True)
        (self.root / "opt/gitlab/service").mkdir(parents=True)

    @property
    def served(self) -> list[str]:
        """With which server GitLab has started, each time."""
        path = self.root / "served"
        return path.read_text().split() if path.exists() else []

    @property
    def stands_still(self) -> bool:
        """Whether GitLab's services stay stopped, also when the machine starts again, and no backup begins."""
        stopped = {path.name for path in (self.root / "opt/gitlab/sv").iterdir() if (path / "down").exists()}
        assert not stopped or {"puma", "sidekiq"} <= stopped
        assert bool(stopped) == (self.root / "etc/gitlab/slipway-moving").exists()
        return bool(stopped)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A GitLab that has run with the servers of its package, and an empty cluster."""
    for folder in ("etc/gitlab", "usr/local/share/ca-certificates", "var/log/gitlab/nginx", "bundled", "managed"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("puma", "postgresql", "redis", "nginx", "sidekiq", "spamcheck"):
        (tmp_path / "opt/gitlab/sv" / name).mkdir(parents=True)
        (tmp_path / "opt/gitlab/service").mkdir(exist_ok=True)
        (tmp_path / "opt/gitlab/sv" / name / "run").touch()
        (tmp_path / "opt/gitlab/service" / name).symlink_to(tmp_path / "opt/gitlab/sv" / name)
    (tmp_path / "var/opt/gitlab/redis").mkdir(parents=True)
    (tmp_path / "var/opt/gitlab/redis/dump.rdb").touch()
    (tmp_path / "bundled/running").touch()
    for name in NAMES:
        (tmp_path / "bundled" / name).write_text(f"{name} 1\n{name} 2\n")
    (tmp_path / "bundled/keys").write_text("queue:default\n")
    (tmp_path / "managed/gitlabhq_production").touch()
    made = Server(tmp_path)
    assert made.configure("bundled").returncode == 0
    made.commands()
    return made


BEFORE = ["gitlabhq_production 1", "gitlabhq_production 2"]
STOPS = ["stop puma", "stop sidekiq", "stop spamcheck"]


def test_everything_is_copied_while_gitlab_stands_still_and_the_source_stays(server: Server) -> None:
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert server.commands() == [*STOPS, "reconfigure", "start"]
    assert server.rows("managed") == [*BEFORE, "written on managed"]
    for name in NAMES[1:]:
        assert server.rows("managed", name) == server.rows("bundled", name)
    assert (server.root / "managed/keys").read_text() == "queue:default\n"
    assert server.rows("bundled") == BEFORE
    assert (server.mark("bundled"), server.mark("managed")) == ("left", "in use")
    assert not server.stands_still


def test_without_another_setting_nothing_moves(server: Server) -> None:
    for kind in ("bundled", "managed", "managed"):
        server.configure(kind)
    server.commands()
    done = server.configure("managed")
    assert (done.returncode, server.commands()) == (0, ["reconfigure"])


def test_on_the_way_back_the_former_content_is_replaced(server: Server) -> None:
    server.configure("managed")
    server.commands()
    done = server.configure("bundled")
    assert done.returncode == 0, done.stderr
    # First without tables: those are on their way.
    assert server.commands() == [*STOPS, "reconfigure", *STOPS, "reconfigure", "start"]
    assert server.rows("bundled") == [*BEFORE, "written on managed", "written on bundled"]
    assert server.rows("managed")[-1] == "written on managed"
    assert "auto_migrate" not in (server.root / "etc/gitlab/gitlab.rb").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_after_a_failed_copy_gitlab_runs_on_as_before(server: Server, name: str) -> None:
    (server.root / "failing").write_text(f"copy {name}")
    done = server.configure("managed")
    assert done.returncode == 1
    assert f"error: database {name} could not be copied to the managed cluster (see above)" in done.stderr
    assert server.commands() == [*STOPS, "start"]
    assert server.rows("bundled") == [*BEFORE, "written on bundled"]
    assert server.mark("managed", name) == "unfinished copy"
    (server.root / "failing").unlink()
    assert server.configure("managed").returncode == 0
    assert server.rows("managed") == [*BEFORE, "written on bundled", "written on managed"]


def test_a_copy_that_is_not_the_same_is_not_used(server: Server) -> None:
    (server.root / "failing").write_text("half of registry")
    done = server.configure("managed")
    assert done.returncode == 1
    assert "error: database registry is not the same in the managed cluster: < registry 1 " in done.stderr
    assert server.rows("bundled")[-1] == "written on bundled"


def test_a_gitlab_that_cannot_be_configured_with_the_other_server_goes_back(server: Server) -> None:
    (server.root / "failing").write_text("reconfigure on managed")
    done = server.configure("managed")
    assert done.returncode == 1
    assert server.rows("bundled") == [*BEFORE, "written on bundled"]
    assert server.rows("managed") == BEFORE
    assert (server.mark("bundled"), server.mark("managed")) == ("in use", "unfinished copy")
    assert "postgresql" not in (server.root / "etc/gitlab/gitlab.rb").read_text()


def test_somebody_elses_tables_are_not_touched(server: Server) -> None:
    (server.root / "managed/registry").write_text("a stranger's row\n")
    done = server.configure("managed")
    assert done.returncode == 1
    assert (
        "error: database registry of the managed cluster has 7 tables, which are not this installation's; it was not"
        in (done.stderr)
    )
    assert server.rows("managed", "registry") == ["a stranger's row"]
    assert server.rows("managed") == []
    assert server.rows("bundled")[-1] == "written on bundled"


def test_a_run_that_was_killed_in_the_copy_is_continued_by_the_next(server: Server) -> None:
    (server.root / "killing").write_text("copy registry")
    assert server.configure("managed").returncode == -9
    assert server.stands_still
    assert server.rows("bundled") == BEFORE
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert server.rows("managed") == [*BEFORE, "written on managed"]
    assert not server.stands_still


def test_a_run_that_was_killed_in_the_copy_can_be_given_up(server: Server) -> None:
    (server.root / "killing").write_text("copy registry")
    server.configure("managed")
    done = server.configure("bundled")
    assert done.returncode == 0, done.stderr
    assert server.rows("bundled") == [*BEFORE, "written on bundled"]
    assert not server.stands_still


@pytest.mark.parametrize("moment", ["reconfigure on managed", "start on managed"])
def test_once_the_copy_is_handed_over_it_is_never_replaced(server: Server, moment: str) -> None:
    (server.root / "killing").write_text(moment)
    assert server.configure("managed").returncode == -9
    with (server.root / "managed/gitlabhq_production").open("a") as file:
        file.write("written meanwhile\n")
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert server.rows("managed")[: len(BEFORE) + 1] == [*BEFORE, "written meanwhile"]
    assert not server.stands_still


def test_a_run_that_was_killed_after_that_and_taken_back_brings_what_was_written(server: Server) -> None:
    (server.root / "killing").write_text("start on managed")
    server.configure("managed")
    with (server.root / "managed/gitlabhq_production").open("a") as file:
        file.write("written meanwhile\n")
    done = server.configure("bundled")
    assert done.returncode == 0, done.stderr
    assert server.rows("bundled") == [*BEFORE, "written meanwhile", "written on bundled"]


def test_a_way_back_that_was_killed_is_continued_although_the_package_has_its_servers_again(server: Server) -> None:
    server.configure("managed")
    (server.root / "killing").write_text("copy gitlabhq_production")
    assert server.configure("bundled").returncode == -9
    assert "auto_migrate'] = false" in (server.root / "etc/gitlab/gitlab.rb").read_text()
    done = server.configure("bundled")
    assert done.returncode == 0, done.stderr
    assert server.rows("bundled") == [*BEFORE, "written on managed", "written on bundled"]


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (
            "managed",
            {"SIZE": "9000000000"},
            "has 10240 MiB of storage, and GitLab's databases have 8583 MB; nothing was",
        ),
        (
            "bundled",
            {"FREE": "1600000000"},
            "the data volume has 1525 MB left, and GitLab's databases have 0 MB; nothing",
        ),
        (
            "bundled",
            {"DATABASE_HOST": ""},
            "in a managed PostgreSQL that this stack does not have any more; nothing was",
        ),
        (
            "bundled",
            {"VALKEY_HOST": ""},
            "in a managed Valkey that this stack does not have any more; nothing was changed",
        ),
    ],
)
def test_what_cannot_go_well_is_refused_before_anything_stops(
    server: Server, kind: str, values: dict[str, str], words: str
) -> None:
    if kind == "bundled":
        server.configure("managed")
    server.commands()
    done = server.configure(kind, **values)
    assert done.returncode == 1
    assert words in done.stderr
    assert server.commands() == []


def test_on_a_new_droplet_the_servers_of_the_package_start_first_and_gitlab_does_not(server: Server) -> None:
    server.replace_machine()
    done = server.configure("managed")
    assert done.returncode == 0, done.stderr
    assert server.commands() == ["reconfigure", "start postgresql", *STOPS, "reconfigure", "start"]
    assert server.served == ["managed"]
    assert server.rows("managed")[: len(BEFORE)] == BEFORE


def test_a_server_of_the_package_that_does_not_start_changes_nothing(server: Server) -> None:
    (server.root / "bundled/running").unlink()
    (server.root / "failing").write_text("start postgresql")
    done = server.configure("managed")
    assert done.returncode == 1
    assert "error: the PostgreSQL of GitLab's package does not start (see above); nothing was changed" in done.stderr
    assert server.rows("managed") == []
    assert not server.stands_still


def test_a_first_configuration_has_nothing_to_move(server: Server) -> None:
    for path in ("etc/gitlab/slipway-working", "etc/gitlab/gitlab.rb", "etc/gitlab/ssl/slipway-source"):
        subprocess.run(["rm", "-r", str(server.root / path)], check=True)
    assert server.configure("managed").returncode == 0
    assert server.commands() == ["reconfigure"]


def test_no_backup_begins_while_gitlab_stands_still(tmp_path: Path) -> None:
    library = (script("database.sh") + script("backup/common.sh")).replace("/etc/gitlab", str(tmp_path))
    (tmp_path / "slipway-moving").touch()
    text = f"{library}\nflock() {{ :; }}\nexec() {{ :; }}\nlock"
    done = subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: GitLab stands still, because its databases move to other servers" in done.stderr


@pytest.mark.parametrize(("missing", "status"), [("amcheck", 0), ("pg_trgm", 1)])
def test_only_an_extension_that_gitlabs_tables_do_not_need_may_be_missing(
    server: Server, missing: str, status: int
) -> None:
    (server.root / "extensions").write_text("pg_trgm\namcheck\n")
    (server.root / "failing").write_text(f'"{missing}"')
    done = server.configure("managed")
    assert done.returncode == status, done.stderr
    said = done.stdout + done.stderr
    assert ("the managed cluster does not offer the extension amcheck; GitLab runs without it" in said) is (status == 0)
    assert ("extension pg_trgm of database gitlabhq_production could not be loaded" in said) is (status == 1)
