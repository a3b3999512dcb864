"""The step that configures the registry, on a machine whose commands are played: which database its images are in."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.registry_settings import database_name
from components.rendering import render, script

IMAGE = "docker/registry/v2/repositories/root/app/_manifests/tags/v1/current/link"
LOCK = "docker/registry/lockfiles/database-in-use"
NOTE = "slipway-registry-database.txt"

#: GitLab's package as far as the step uses it. It notes every command, with the mode of the registry at that moment.
MACHINE = """
with_heartbeat() { shift; "$@"; }
close_other_ports() { echo "close other ports" >>"$ROOT/ports"; }
sleep() { SECONDS=$((SECONDS + 60)); }
curl() { if fails silent; then printf 000; else printf 401; fi; }
fails() { [ "$(cat "$ROOT/failing" 2>/dev/null)" = "$1" ] && { [[ $1 = registry-database* ]] || settings_are_new; }; }
settings_are_new() { grep -q 48h "$ROOT/etc/gitlab/registry.rb"; }
created() { sed -n "s/.*'dbname' => '\\([a-z0-9_]*\\)'.*/\\1/p" "$ROOT/etc/gitlab/registry.rb"; }
gitlab-ctl() {
  local mode=database
  ! grep -q "'enabled'] = false" "$ROOT/etc/gitlab/registry.rb" || mode=legacy
  ! grep -q "'readonly' => { 'enabled' => true }" "$ROOT/etc/gitlab/registry.rb" || mode=read-only
  echo "$* ($mode)" >>"$ROOT/commands"
  ! fails "$*" || return 1
  case "$*" in
    reconfigure) touch "$ROOT/databases/$(created)" ;;
    *--step-two*) install -D /dev/null "$ROOT/images/docker/registry/lockfiles/database-in-use" ;;
  esac
}
gitlab-psql() { ls "$ROOT/databases" | grep -cxF "$(sed "s/.*'\\(.*\\)'.*/\\1/" <<<"$4")" || true; }
"""


@dataclass(frozen=True)
class Server:
    """The files of one machine; its storage is a directory."""

    root: Path

    def configure(
        self, database: str = "registry", keep_untagged: str = "24h", file: str = "configure-registry.sh"
    ) -> subprocess.CompletedProcess[str]:
        """Run the step, or another one with the same values."""
        settings = render(
            "registry.rb.j2",
            fqdn="gitlab.example.test",
            port=5555,
            database=database,
            keep_untagged=keep_untagged,
            object_storage=False,
        )
        values = {"DATABASE": database, "FQDN": "gitlab.example.test", "PORT": "5555", "REGISTRY_RB": settings}
        values |= {f"S3_{name}": "" for name in ("ACCESS_KEY", "BUCKET", "ENDPOINT", "REGION", "SECRET_KEY")}
        assigned = "\n".join(
            f"{name}={shlex.quote(value)}" for name, value in (values | {"ROOT": str(self.root)}).items()
        )
        step = script("gitlab.sh") + script("database.sh") + script("object-storage.sh") + script("registry-storage.sh")
        step += script(file)
        step = step.replace("/var/opt/gitlab/gitlab-rails/shared/registry", f"{self.root}/images")
        for folder in ("/etc/gitlab", "/var/log", "/var/opt/gitlab/bootstrapped"):
            step = step.replace(folder, f"{self.root}{folder}")
        prelude = script("prelude.sh").replace("/var/lib/slipway", f"{self.root}/var/lib/slipway")
        text = "\n".join([prelude, f"LIMIT_SECONDS=9 STEP={file}", assigned, step, MACHINE, "main </dev/null"])
        return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)

    def put(self, name: str, text: str = "") -> None:
        """Put a file into the storage."""
        path = self.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def note(self) -> str:
        """The database that the storage names."""
        return (self.root / "images" / NOTE).read_text()

    def commands(self) -> list[str]:
        """The commands that were run since the last call."""
        path = self.root / "commands"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def server(tmp_path: Path) -> Server:
    for folder in ("etc/gitlab", "images", "databases", "var/log"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/gitlab/registry.rb").write_text("registry['enable'] = false\n")
    return Server(tmp_path)


CONFIGURED = ["reconfigure (database)", "restart registry (database)"]
IMPORTED = [
    "reconfigure (legacy)",
    "restart registry (legacy)",
    "registry-database migrate up (legacy)",
    "registry-database import --step-one --log-to-stdout (legacy)",
    "reconfigure (read-only)",
    "restart registry (read-only)",
    "registry-database import --step-two --log-to-stdout (read-only)",
    *CONFIGURED,
    "registry-database import --step-three --log-to-stdout (database)",
]


def test_an_empty_storage_begins_with_the_database(server: Server) -> None:
    done = server.configure()
    assert done.returncode == 0, done.stderr
    assert server.commands() == CONFIGURED
    assert server.note == "registry"


def test_a_second_run_changes_nothing(server: Server) -> None:
    server.configure()
    server.commands()
    assert server.configure().returncode == 0
    assert server.commands() == []


def test_images_of_an_older_installation_are_imported_once_in_gitlabs_steps(server: Server) -> None:
    server.put(IMAGE)
    done = server.configure()
    assert done.returncode == 0, done.stderr
    assert server.commands() == IMPORTED
    assert server.note == "registry"
    assert server.configure().returncode == 0
    assert server.commands() == []


@pytest.mark.parametrize(
    "step", ["migrate up", "import --step-one --log-to-stdout", "import --step-two --log-to-stdout"]
)
def test_after_a_failed_import_the_previous_settings_are_in_effect(server: Server, step: str) -> None:
    server.put(IMAGE)
    (server.root / "failing").write_text(f"registry-database {step}")
    done = server.configure()
    assert done.returncode == 1
    assert f"error: gitlab-ctl registry-database {step} failed" in done.stderr
    assert (server.root / "etc/gitlab/registry.rb").read_text() == "registry['enable'] = false\n"
    (server.root / "failing").unlink()
    server.commands()
    assert server.configure().returncode == 0
    assert server.commands() == IMPORTED


@pytest.mark.parametrize("way", ["reconfigure", "restart registry", "silent"])
def test_settings_with_which_the_registry_does_not_work_give_way_to_the_previous_ones(server: Server, way: str) -> None:
    server.configure()
    before = (server.root / "etc/gitlab/registry.rb").read_text()
    (server.root / "failing").write_text(way)
    server.commands()
    done = server.configure(keep_untagged="48h")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "the previous ones were restored" in done.stderr
    assert (server.root / "etc/gitlab/registry.rb").read_text() == before
    assert server.commands()[-2:] == CONFIGURED
    # Once, by the first run: the ports of the new settings are never the only ones.
    assert (server.root / "ports").read_text() == "close other ports\n"


def test_an_import_that_was_interrupted_after_its_second_step_is_finished(server: Server) -> None:
    server.put(IMAGE)
    (server.root / "failing").write_text("registry-database import --step-three --log-to-stdout")
    assert server.configure().returncode == 1
    assert not (server.root / "images" / NOTE).exists()
    (server.root / "failing").unlink()
    server.commands()
    assert server.configure().returncode == 0
    assert server.commands() == [*CONFIGURED, IMPORTED[-1]]
    assert server.note == "registry"


def test_a_storage_keeps_its_database_when_its_endpoint_gets_another_name(server: Server) -> None:
    server.configure("registry_one")
    server.commands()
    assert server.configure("registry_two").returncode == 0
    assert "'dbname' => 'registry_one'" in (server.root / "etc/gitlab/registry.rb").read_text()
    assert server.note == "registry_one"


@pytest.mark.parametrize(("name", "text"), [(NOTE, "registry_lost"), (LOCK, '{"version":1}')])
def test_a_storage_whose_database_is_elsewhere_is_refused_before_anything_changes(
    server: Server, name: str, text: str
) -> None:
    server.put(name, text)
    done = server.configure()
    assert done.returncode == 1
    named = text if name == NOTE else "registry"
    assert f"belong to a registry database, {named}, that this server does not have" in done.stderr
    assert server.commands() == []


def test_each_storage_has_a_database_name_of_its_own_that_postgresql_takes() -> None:
    names = [
        database_name("", ""),
        database_name("", "images"),
        database_name("https://nyc3.digitaloceanspaces.com", "images"),
        database_name("https://nyc3.digitaloceanspaces.com", "other"),
    ]
    assert names[0] == "registry"
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() and name.islower() and len(name) < 64 for name in names)


def begin(server: Server, database: str = "registry") -> str:
    """Run the step before GitLab's first configuration; the settings of the registry afterwards."""
    done = server.configure(database, file="begin-registry.sh")
    assert done.returncode == 0, done.stderr
    return (server.root / "etc/gitlab/registry.rb").read_text()


def test_a_registry_in_an_empty_storage_is_in_gitlabs_first_configuration_and_nothing_is_configured_again(
    server: Server,
) -> None:
    assert "'dbname' => 'registry'" in begin(server)
    # GitLab's configuration creates the database, and the registry marks its storage when it starts.
    (server.root / "databases/registry").touch()
    server.put(LOCK)
    done = server.configure()
    assert done.returncode == 0, done.stderr
    assert server.commands() == []
    assert server.note == "registry"
    assert not (server.root / "etc/gitlab/registry.rb.begun").exists()
    # What is noted as written is looked for by `make drift`.
    lists = list(server.root.glob("var/lib/slipway/written/*"))
    noted = [line.split()[1] for one in lists for line in one.read_text().splitlines()]
    assert noted == [f"{server.root}/etc/gitlab/registry.rb"]


@pytest.mark.parametrize("found", [IMAGE, LOCK, NOTE])
def test_a_registry_whose_storage_has_images_waits_for_gitlab(server: Server, found: str) -> None:
    server.put(found, "registry")
    assert begin(server) == "registry['enable'] = false\n"


def test_a_gitlab_that_has_been_ready_keeps_its_registry_until_it_is_configured(server: Server) -> None:
    before = (server.root / "etc/gitlab/registry.rb").read_text()
    (server.root / "etc/gitlab/slipway-working").mkdir()
    assert begin(server) == before
    (server.root / "etc/gitlab/slipway-working").rmdir()
    # Of an installation that is older than those copies.
    (server.root / "var/opt/gitlab").mkdir(parents=True)
    (server.root / "var/opt/gitlab/bootstrapped").touch()
    assert begin(server) == before


def test_after_a_first_configuration_that_has_failed_the_registry_begins_with_the_settings_of_now(
    server: Server,
) -> None:
    begin(server)
    server.put(LOCK)
    (server.root / "var/opt/gitlab").mkdir(parents=True)
    (server.root / "var/opt/gitlab/bootstrapped").touch()
    assert "'dbname' => 'registry'" in begin(server)
    # Another storage, which has images.
    server.put(NOTE, "registry_2")
    assert begin(server, "registry_2") == "registry['enable'] = false\n"
