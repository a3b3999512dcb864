"""The gitlab-ce stand-in as a package: what `dpkg` says of it, and what its scripts hold."""

from __future__ import annotations

import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sandbox.gitlab.build import PACKAGE, build, floor
from tests.sandbox_tests.support.debian_package import content, field, members


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("19.3.0-ce.0", tmp_path_factory.mktemp("deb"))


def test_name_and_version_are_those_of_the_real_package(package: Path) -> None:
    assert package.name == f"gitlab-ce_19.3.0-ce.0_{field(package, 'Architecture')}.deb"
    assert field(package, "Package") == "gitlab-ce"
    assert field(package, "Version") == "19.3.0-ce.0"


def test_everything_belongs_to_root_and_nothing_is_writable_by_others(package: Path) -> None:
    for member in members(package).values():
        assert (member.uid, member.gid) == (0, 0), member.name
        assert not member.mode & (stat.S_IWGRP | stat.S_IWOTH), member.name


def test_nothing_is_installed_where_users_keep_data(package: Path) -> None:
    names = [name for name in members(package) if name != "."]
    assert names
    assert [name for name in names if not name.startswith("opt")] == []
    assert "etc/gitlab/gitlab.rb" not in names


def test_no_compiled_files_are_packed(package: Path) -> None:
    names = members(package)
    assert any(name.endswith(".py") for name in names)
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []


def test_libraries_that_it_brings_along_are_for_the_python_of_the_machine(tree: Path) -> None:
    library = tree / "opt/gitlab/embedded/service/gitlab-rails"
    program = "import graphql, sys; print(graphql.__file__)"
    environment = {"PYTHONPATH": str(library), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        ["/usr/bin/python3", "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(library / "graphql/__init__.py")


@pytest.mark.parametrize("name", ["gitlab-ctl", "gitlab-psql", "gitlab-rails", "gitlab-rake"])
def test_commands_are_executable(package: Path, name: str) -> None:
    assert members(package)[f"opt/gitlab/bin/{name}"].mode & 0o111 == 0o111


def test_it_says_that_it_is_a_stand_in(package: Path) -> None:
    manifest = content(package, "opt/gitlab/version-manifest.txt")
    assert "This is a stand-in, not GitLab." in manifest
    assert "gitlab-ce 19.3.0-ce.0" in manifest
    assert "Not GitLab." in field(package, "Description")


def test_no_placeholder_is_left(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path], check=True)
    texts = [path.read_text() for path in tmp_path.iterdir()]
    assert len(texts) >= 5
    assert not any("@VERSION@" in text or "@MIN_VERSION@" in text for text in texts)


@pytest.mark.parametrize("version", ["19.3.0", "18.11.0-ce.0", "20.0.0-ce.0", "19.x-ce.0", "latest"])
def test_a_version_that_is_not_one_of_gitlab_19_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GitLab 19"):
        build(version, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("minor", "oldest"), [(0, "18.11"), (2, "18.11"), (3, "19.2"), (5, "19.2"), (6, "19.5"), (9, "19.8"), (12, "19.11")]
)
def test_upgrades_must_make_the_required_stops(minor: int, oldest: str) -> None:
    assert floor(19, minor) == oldest


@dataclass(frozen=True)
class Machine:
    """The files of a machine on which another version is installed, and a log of the commands that the script ran."""

    root: Path

    def preinst(self, package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script that dpkg runs before it unpacks `package`."""
        control = self.root / "control"
        subprocess.run(["dpkg-deb", "--control", package, control], check=True)
        script = (control / "preinst").read_text()
        for folder in ("/opt/gitlab", "/etc/gitlab", "/var/opt/gitlab"):
            script = re.sub(rf"(?<![\w}}/]){folder}", f"{self.root}{folder}", script)
        return subprocess.run(["sh", "-s", *arguments], input=script, capture_output=True, text=True, check=False)

    def commands(self) -> list[str]:
        """What was run, with its first argument."""
        log = self.root / "log"
        return [" ".join(line.split()[:2]) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with 19.2.1 that runs."""
    for folder in ("opt/gitlab/bin", "opt/gitlab/service/puma", "etc/gitlab", "var/opt/gitlab"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "var/opt/gitlab/bootstrapped").touch()
    for name in ("gitlab-ctl", "gitlab-rake"):
        program = tmp_path / "opt/gitlab/bin" / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/log\n[ ! -e {tmp_path}/fail-$1 ]\n')
        program.chmod(0o755)
    install(tmp_path, "19.2.1")
    return Machine(tmp_path)


def install(root: Path, version: str) -> None:
    """Make a machine one with that version."""
    (root / "opt/gitlab/version-manifest.json").write_text(f'{{\n  "build_version": "{version}",\n}}\n')


@pytest.mark.parametrize(("old", "code"), [("19.1.3", 1), ("18.11.9", 1), ("19.2.1", 0), ("19.3.0", 0), ("19.6.0", 0)])
def test_preinst_refuses_an_upgrade_that_skips_a_stop_and_no_downgrade(
    package: Path, machine: Machine, old: str, code: int
) -> None:
    install(machine.root, old)
    done = machine.preinst(package, "upgrade", f"{old}-ce.0")
    assert done.returncode == code
    refusal = (
        f"gitlab preinstall: It seems you are upgrading from {'.'.join(old.split('.')[:2])} to 19.3.\n"
        "gitlab preinstall: It is required to upgrade to the latest 19.2.x version first before proceeding.\n"
    )
    assert (refusal in done.stdout) == bool(code)
    assert bool(machine.commands()) != bool(code)


def test_preinst_checks_the_configuration_and_backs_up_database_and_configuration(
    package: Path, machine: Machine
) -> None:
    assert machine.preinst(package, "upgrade", "19.2.1-ce.0").returncode == 0
    assert machine.commands() == [
        "gitlab-ctl check-config",
        "gitlab-rake gitlab:backup:create",
        "gitlab-ctl backup-etc",
    ]


@pytest.mark.parametrize("name", ["skip-auto-backup", "skip-auto-reconfigure"])
def test_preinst_makes_no_backup_where_a_file_says_so(package: Path, machine: Machine, name: str) -> None:
    (machine.root / "etc/gitlab" / name).touch()
    assert machine.preinst(package, "upgrade", "19.2.1-ce.0").returncode == 0
    assert machine.commands() == ["gitlab-ctl check-config"]


def test_preinst_stops_if_the_database_cannot_be_backed_up(package: Path, machine: Machine) -> None:
    (machine.root / "fail-gitlab:backup:create").touch()
    done = machine.preinst(package, "upgrade", "19.2.1-ce.0")
    assert done.returncode == 1
    assert "Database backup failed! If you want to skip this backup" in done.stdout
    assert "sudo touch /etc/gitlab/skip-auto-backup" in done.stdout.replace(str(machine.root), "")


def test_preinst_does_nothing_before_a_first_installation(package: Path, machine: Machine) -> None:
    assert machine.preinst(package, "install").returncode == 0
    assert machine.commands() == []


@pytest.mark.parametrize(
    ("version", "releases"), [("19.2.1", set()), ("19.3.1", {"19.3"}), ("19.5.0", {"19.3", "19.5"})]
)
def test_a_package_has_the_schema_of_its_own_release_and_of_no_later_one(
    version: str, releases: set[str], tmp_path: Path
) -> None:
    built = build(f"{version}-ce.0", tmp_path)
    folder = "opt/gitlab/embedded/service/gitlab-rails/gitlab_web/core/migrations/"
    found = {name.removeprefix(folder).split("/")[0] for name in members(built) if name.startswith(folder)}
    assert {name for name in found if not name.endswith(".sql")} == releases
    assert f'"build_version": "{version}"' in content(built, "opt/gitlab/version-manifest.json")


def test_the_packages_scripts_are_valid_shell() -> None:
    scripts = [path for path in (PACKAGE / "DEBIAN").iterdir() if path.name != "control"]
    assert {path.name for path in scripts} == {"preinst", "postinst", "prerm", "postrm"}
    programs = [PACKAGE / "opt/gitlab/bin" / name for name in ("gitlab-psql", "gitlab-rails", "gitlab-rake")]
    for script in [*scripts, *programs]:
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0, script


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["gitlab-ctl", "help"], 0, "reconfigure"),
        (["gitlab-ctl"], 1, "reconfigure"),
        (["gitlab-ctl", "recofigure"], 1, "I don't know that command: recofigure"),
        (["gitlab-ctl", "pg-upgrade"], 1, "pg-upgrade: this gitlab-ce is a stand-in and does not support this command"),
        (["gitlab-ctl", "registry-database"], 1, "Container registry is not enabled, exiting..."),
        (["gitlab-psql", "-l"], 1, "error: could not load /opt/gitlab/etc/gitlab-psql-rc"),
        (["gitlab-rails", "console"], 1, "supports only 'runner', not 'console'"),
        (["gitlab-rake", "gitlab:check"], 1, "does not support the task 'gitlab:check'"),
    ],
)
def test_a_command_refuses_unsupported_subcommands_by_name(
    package: Path, tmp_path: Path, command: list[str], code: int, words: str
) -> None:
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    program = tmp_path / "opt/gitlab/bin" / command[0]
    run = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert words in run.stdout + run.stderr


@pytest.mark.parametrize("name", ["pre-receive", "post-receive"])
def test_git_hooks_are_executable(package: Path, name: str) -> None:
    hook = f"opt/gitlab/embedded/service/gitlab-rails/gitlab_web/hooks/{name}"
    assert members(package)[hook].mode & 0o111 == 0o111
